# SPDX-License-Identifier: GPL-2.0
# A driver domain is destroyed over and over (RECOVERY_COUNT times, 20) under load; each time devmgr starts it again.
# timeout: 3600
swap_driver back ours || bail "no back end"
guest_start g pv modules=ours &
driver_domain_start drv "$(lab_disk 64)" &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
id=$(guest_domid g)
none=$(hostile grants "$id" all)
no_grant_left() {
	[ "$(hostile grants "$id" all)" = "$none" ]
}
log=$LAB_STATE/logs/devmgr
devmgr_start drv
check "attach" disk_attach g /dev/xvda xvdb backend=drv
check "load" busy_start g /dev/xvdb
sleep 3
busy_pauses g >/dev/null

# said LINE PATTERN: what devmgr has said after that line of its log, the number in it as ms.
said() {
	tail -n "+$(($1 + 1))" "$log" | sed -n "s/.*$2 \([0-9]*\)\.\([0-9]*\) s.*/\1\2/p" | sed 's/^0*\(.\)/\1/' | tail -n 1
}
watched() {
	tail -n "+$(($1 + 1))" "$log" | grep -q 'watching domain'
}
for ((n = 1; n <= ${RECOVERY_COUNT:-20}; n++)); do
	lines=$(wc -l <"$log")
	old=$(xl domid drv)
	# half of them while the domain has work, half at once after the last
	[ $((n % 2)) = 0 ] || sleep 2
	xl destroy drv
	wait_for 60 disk_served g 51728 "$old" && wait_for 10 watched "$lines" || { not_ok "recovery $n"; break; }
	sleep 0.5
	pause=$(busy_pauses g | sort -n | tail -n 1)
	echo "recovery $n pause=${pause:-0} gone=$(said "$lines" 'destroyed in') create=$(said "$lines" 'created in') boot=$(said "$lines" 'booted in') attach=$(said "$lines" 'again in')"
done
devmgr_stop
check "no error, every byte right" busy_stop g
diag "$ktap_out"
guest_attached drv
check "detach" disk_detach g xvdb
check "no grant is left" wait_for 5 no_grant_left || diag "before: $none, now: $(hostile grants "$id" all)"
check "dmesg of the guest" guest_clean g
