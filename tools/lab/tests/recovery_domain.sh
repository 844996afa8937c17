# SPDX-License-Identifier: GPL-2.0
# Our front end, a driver domain with our back end: it is destroyed, crashes and hangs under load, and
# devmgr starts it again: a pause, no error.
# timeout: 420
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=ours &
driver_domain_start drv "$(lab_disk 64)" &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
id=$(guest_domid g)
none=$(hostile grants "$id" all)
no_grant_left() {
	[ "$(hostile grants "$id" all)" = "$none" ]
}

devmgr_start drv -- --stuck 10
check "attach" disk_attach g /dev/xvda xvdb backend=drv
check "load" busy_start g /dev/xvdb
for how in destroyed crashed hung; do
	sleep 2
	old=$(xl domid drv)
	case $how in
	destroyed) xl destroy drv ;;
	crashed) xl sysrq drv c ;;
	hung) xl pause drv ;;
	esac
	check "$how: the disk is back" wait_for 60 disk_served g 51728 "$old" || break
	sleep 1
	pause=$(busy_pauses g | sort -n | tail -n 1)
	diag "$how: longest pause ${pause:-?} ms"
done
devmgr_stop
check "no error, every byte right" busy_stop g
diag "$ktap_out"
guest_attached drv
check "the disk is still the same" guest_run g 'readlink -f /sys/block/xvdb/device | grep vbd-51728'
check "detach" disk_detach g xvdb
check "no grant is left" wait_for 5 no_grant_left || diag "before: $none, now: $(hostile grants "$id" all)"
sed 's/^/# devmgr: /' "$LAB_STATE/logs/devmgr"
