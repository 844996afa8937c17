# SPDX-License-Identifier: GPL-2.0
# Each check of the back end, taken out, is missed by a hostile front end.
# timeout: 1500
. /payload/tests/mutants.inc
number=0

# A guest with two disks, the second read-only, and no front end.
fresh() {
	[ $number = 0 ] || guest_destroy "$g" >/dev/null 2>&1
	g=m$((number += 1))
	guest_start $g pv modules=none || bail "no guest"
	guest_run $g "$free_at_once"
	id=$(guest_domid $g)
	guest_run $g 'echo 0 >/sys/bus/xen/drivers_autoprobe; modprobe -a xen-gntalloc xen-evtchn' || bail "no modules"
	disk_attach_only $g "$(lab_disk 16)" xvdb && disk_attach_only $g "$(lab_disk 16)" xvdc r || bail "no disks"
	hostile_run 51728 good >/dev/null || bail "not even an honest front end is served"
	before=$(hostile grants "$id")
}

hostile_run() {	# DEVICE SCENARIO...
	guest_run -t 90 $g "hostile front ${*:2} --device $1 --count 300 --timeout $short"
}

settled() {
	for _ in {1..30}; do
		[ "$(hostile grants "$id")" = "$before" ] && return
		sleep 0.1
	done
	return 1
}

# Whether nothing but the ring stays mapped after the answers.
unmapped() {
	local now status=1
	guest_bg $g idle "hostile front idle --rest --device 51728"
	guest_run $g 'i=0; until [ -e /tmp/hostile-idle ]; do sleep 0.1; i=$((i + 1)); [ $i -lt 50 ] || exit 1; done'
	for _ in {1..15}; do
		now=$(hostile grants "$id")
		[ "${now##* }" = $((${before##* } + 1)) ] && status=0 && break
		sleep 0.1
	done
	guest_wait $g idle >/dev/null
	[ $status = 0 ] || echo "grants: $now; before $before"
	return $status
}

# How often a request has come to a disk although it is not on it: the block layer refuses it, too.
beyond() {
	dmesg | grep -c 'beyond end of device'
}

spurious() {
	cat "/sys/bus/xen-backend/devices/vbd-$id-51728/xenbus/spurious_events"
}

# One entry of the plan: its scenario must fail, or leave grants behind.
try() {	# NUMBER NAME KIND SCENARIO
	local output status device=51728 was now far
	[ "$3" = front-ro ] && device=51744
	was=$(spurious) far=$(beyond)
	take "$1"
	if [ "$3" = idle ]; then
		output=$(unmapped 2>&1)
	else
		output=$(hostile_run $device "$4" 2>&1)
	fi
	status=$?
	take 0
	now=$(spurious)
	# What is wanted of event storms is not seen from the guest.
	[ "$3" = events ] && [ $status = 0 ] && [ "$now" = "$was" ] && status="1: no event was called spurious"
	[ "$status" = 0 ] && [ "$(beyond)" != "$far" ] && status="1: the disk has got requests that are not on it"
	if [ "$status" = 0 ] && ! settled; then
		status="1: grants $(hostile grants "$id"), before $before"
	fi
	caught "$2" "$4" "${status%%:*}" "$output
# $status"
	if [ "$status" = 0 ]; then
		diag "grants $(hostile grants "$id"), before $before"
		return
	fi
	if hostile_run 51728 good >/dev/null; then
		# What has leaked stays so; the next one is counted from there.
		settled || before=$(hostile grants "$id")
	else
		fresh
	fi
}

swap_driver back ours || bail "no back end"
take 0
fresh
check "with every check in place, all pass" hostile_run 51728 "good $(plan_of front | cut -f 4 | sort -u | tr '\n' ' ')"
was=$(spurious)
check "event storms, too" hostile_run 51728 event-storm
check "and are seen through" [ "$(spurious)" -gt "$was" ]
check "nothing stays mapped" unmapped
check "grants" settled
while IFS=$'\t' read -r -u 9 n name kind what; do
	try "$n" "$name" "$kind" "$what"
# Last those that leave pages mapped, and so a guest that cannot go.
done 9< <(plan_of front; plan_of front-ro; plan_of events; plan_of idle; plan_of leak)
guest_destroy $g
