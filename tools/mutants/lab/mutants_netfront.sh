# SPDX-License-Identifier: GPL-2.0
# Each check of the network back end, taken out, is missed by a hostile front end.
# timeout: 1500
. /payload/tests/mutants.inc
number=0

# A guest with an interface, and no front end.
fresh() {
	[ $number = 0 ] || guest_destroy "$g" >/dev/null 2>&1
	g=m$((number += 1))
	guest_start $g pv modules=none || bail "no guest"
	guest_run $g "$free_at_once"
	id=$(guest_domid $g)
	guest_run $g 'modprobe -a xen-gntalloc xen-evtchn' || bail "no modules"
	before=$(hostile grants "$id" all)
	net_attach_only $g $((20 + number)) || bail "no interface"
	hostile_run good >/dev/null || bail "not even an honest front end is served"
}

hostile_run() {	# SCENARIO...
	guest_run -t 120 $g "hostile netfront $* --count 500 --timeout $short"
}

settled() {
	for _ in {1..30}; do
		[ "$(hostile grants "$id" all)" = "$before" ] && return
		sleep 0.1
	done
	return 1
}

spurious() {
	cat "/sys/bus/xen-backend/devices/vif-$id-0/xenbus/spurious_events"
}

# One entry of the plan: its scenario must fail, or leave grants behind.
try() {	# NUMBER NAME KIND SCENARIO
	local output status was
	was=$(spurious)
	take "$1"
	output=$(hostile_run "$4" 2>&1)
	status=$?
	take 0
	# What is wanted of event storms is not seen from the guest.
	[ "$3" = netevents ] && [ $status = 0 ] && [ "$(spurious)" = "$was" ] && status="1: no event was called spurious"
	if [ "$status" = 0 ] && ! settled; then
		status="1: grants $(hostile grants "$id" all), before $before"
	fi
	caught "$2" "$4" "${status%%:*}" "$output
# $status"
	[ "$status" = 0 ] || { hostile_run good >/dev/null && settled; } || fresh
}

swap_driver net none
driver_load rust_xenbus && insmod /payload/modules/netback.ko rx_drain_timeout_msecs=1000 || bail "no back end"
take 0
fresh
names=$({ plan_of netfront; plan_of netevents; } | cut -f 4 | sort -u | tr '\n' ' ')
was=$(spurious)
check "with every check in place, all pass" hostile_run event-storm "$names"
check "events for nothing are seen through" [ "$(spurious)" -gt "$was" ]
check "grants" settled
while IFS=$'\t' read -r -u 9 n name kind what; do
	try "$n" "$name" "$kind" "$what"
done 9< <(plan_of netfront; plan_of netevents)
guest_destroy $g
