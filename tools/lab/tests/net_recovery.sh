# SPDX-License-Identifier: GPL-2.0
# The back end of an interface is unbound and bound, and its module loaded anew, with TCP connections both
# ways: the guest has no link meanwhile, and the connections go on.
# timeout: 90
swap_driver net "$MODULES_BACK" || bail "no back end"
guest_get pv pv modules=none || bail "no guest"
guest_run pv "$free_at_once"
check "front end" guest_net_driver pv "$MODULES_FRONT"
id=$(guest_domid pv)
none=$(hostile grants "$id" all)
no_grant_left() {
	[ "$(hostile grants "$id" all)" = "$none" ]
}
case $MODULES_BACK in
ours) module=netback driver=rust-netback load="driver_load netback" ;;
c) module=xen_netback driver=vif load="modprobe xen-netback" ;;
esac
dev=vif-$id-0
drivers=/sys/bus/xen-backend/drivers/$driver
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
for how in unbind reload; do
	echo "$dev" >$drivers/unbind
	[ "$MODULES_FRONT/$MODULES_BACK" != ours/ours ] || check "$how: the guest has no link" wait_for 5 net_link pv 0
	case $how in
	unbind) echo "$dev" >$drivers/bind ;;
	reload) driver_unload $module && $load ;;
	esac
	check "$how: it has one again" wait_for 20 connected || diag "$(net_state pv)"
	streams_note
	check "$how: the connections go on" wait_for 30 streams_go_on
done
kill $hotplug
check "no byte is missing" streams_stop pv
check "detach" net_detach pv
check "no grant is left" wait_for 5 no_grant_left || diag "before: $none, now: $(hostile grants "$id" all)"
guest_net_driver pv none
