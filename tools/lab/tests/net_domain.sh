# SPDX-License-Identifier: GPL-2.0
# A driver domain that serves an interface, on a bridge of its own: the guest's packets go through two pairs of
# ends. It is destroyed, and crashes, with TCP connections through it; devmgr starts it again and attaches the
# interface anew, and they go on.
# timeout: 300
# cpus: 2
swap_driver back "$MODULES_BACK" && swap_driver net "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=none &
driver_domain_start drv "$(lab_disk 64)" net=41 &
wait
guest_alive g && driver_domain_beats drv || {
	diag "$(guest_run drv 'cat /run/driver-domain.log; ip link; ps | tail -n 8')"
	bail "no guests"
}
guest_run g "$free_at_once"
check "front end" guest_net_driver g "$MODULES_FRONT"
grants_note g
check "attach, with a back end that is not trusted" net_attach g 40 backend=drv untrusted || bail "no interface"
check "ping" guest_run g 'ping -c 3 -W 10 -q 10.9.0.1' || {
	diag "$(guest_run drv 'ip addr; brctl show; cat /proc/net/dev; ls /var/log/xen; tail -n 20 /var/log/xen/*')"
	bail "no way through"
}
check "large packets" guest_run g 'ping -c 3 -W 10 -s 20000 -q 10.9.0.1'

served() {
	device_served g vif/0 "$1" && net_link g 1
}
devmgr_start drv
devmgr_says 10 '*watching domain*'
streams_start g 10.9.0.40 || bail "no connections"
check "both ways" wait_for 20 streams_go_on
for how in destroyed crashed; do
	old=$(xl domid drv)
	recovery_kill $how
	check "$how: the interface is served by another one" wait_for 90 served "$old" || {
		diag "$(xenstore-ls "/local/domain/$(guest_domid g)/device/vif")"
		diag "$(xenstore-ls -p "/local/domain/$(xl domid drv)/backend/vif")"
		diag "$(guest_run drv 'tail -n 20 /var/log/xen/* /run/driver-domain.log; ip link; ps')"
		break
	}
	streams_note
	check "$how: the connections go on" wait_for 60 streams_go_on
done
check "no byte is missing" streams_stop g
is "it is still not trusted" "$(xenstore-read "/local/domain/$(guest_domid g)/device/vif/0/trusted")" 0
devmgr_stop
guest_attached drv
check "detach" timeout -k 5 $((60 * LAB_STRETCH)) xl network-detach g 0
check "the interface goes" wait_for 20 guest_run g '! [ -e /sys/class/net/eth0 ]'
grants_check g
sed 's/^/# devmgr: /' "$LAB_STATE/logs/devmgr"
