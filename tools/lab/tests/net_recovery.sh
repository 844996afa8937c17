# SPDX-License-Identifier: GPL-2.0
# The back end of an interface is unbound and bound, and its module loaded anew, also with less to offer, with
# TCP connections both ways: the guest has no link meanwhile, and the connections go on.
# timeout: 120
swap_driver net "$MODULES_BACK" || bail "no back end"
guest_get pv pv modules=none || bail "no guest"
guest_run pv "$free_at_once"
check "front end" guest_net_driver pv "$MODULES_FRONT"
id=$(guest_domid pv)
grants_note pv
case $MODULES_BACK in
ours) module=netback driver=rust-netback load="insmod /payload/modules/netback.ko" ;;
c) module=xen_netback driver=vif load="modprobe xen-netback" ;;
esac
dev=vif-$id-0
drivers=/sys/bus/xen-backend/drivers/$driver
front=/local/domain/$id/device/vif/0
echo 2 >/sys/module/$module/parameters/max_queues
guest_run pv 'for f in /sys/module/*netfront/parameters/max_queues; do echo 2 >$f; done'
check "attach" net_attach pv 40 script="$LAB/vif-quick"

# What udev does, with a rule for that: the script is run when the back end asks for it.
cat >/run/hotplug <<'END'
#!/bin/bash
[ "$SUBSYSTEM,$ACTION" = xen-backend,online ] && [ -n "$script" ] && exec "$script" online type_if=vif
END
chmod 755 /run/hotplug
busybox uevent /run/hotplug >"$LAB_STATE/logs/hotplug" 2>&1 &
hotplug=$!

connected() {
	[ -e "/sys/bus/xen-backend/devices/$dev/driver" ] &&
		[ "$(xenstore-read "/local/domain/0/backend/vif/$id/0/state")" = 4 ] && net_link pv 1
}
streams_start pv 10.9.0.40 || bail "no connections"
check "both ways" wait_for 20 streams_go_on
is "two queues" "$(xenstore-read $front/multi-queue-num-queues)" 2
for how in unbind reload less; do
	ring=$(xenstore-read $front/queue-0/tx-ring-ref)
	echo "$dev" >$drivers/unbind
	[ "$MODULES_FRONT/$MODULES_BACK" != ours/ours ] || check "$how: the guest has no link" wait_for 5 net_link pv 0
	case $how in
	unbind) echo "$dev" >$drivers/bind ;;
	reload) driver_unload $module && $load max_queues=2 ;;
	less)
		[ "$MODULES_FRONT" = ours ] || break
		driver_unload $module && $load max_queues=1 separate_tx_rx_irq=0 provides_xdp_headroom=0 ;;
	esac
	check "$how: it has one again" wait_for 20 connected || diag "$(net_state pv)"
	streams_note
	check "$how: the connections go on" wait_for 30 streams_go_on
	case $how in
	less)
		is "$how: one queue" "$(xenstore-read $front/multi-queue-num-queues)" 1
		check "$how: and one event channel" xenstore-exists $front/event-channel ;;
	*) is "$how: with the same rings" "$(xenstore-read $front/queue-0/tx-ring-ref)" "$ring" ;;
	esac
done
kill $hotplug
check "no byte is missing" streams_stop pv
check "detach" net_detach pv
grants_check pv
guest_net_driver pv none
