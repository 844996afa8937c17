# SPDX-License-Identifier: GPL-2.0
# Each check of the front end, taken out, is missed by a hostile back end.
# timeout: 1500
. /payload/tests/mutants.inc
number=0

fresh() {
	[ $number = 0 ] || guest_destroy "$g" >/dev/null 2>&1
	g=m$((number += 1))
	guest_start $g pv modules=none vcpus=2 || bail "no guest"
	guest_run $g "$free_at_once"
	guest_driver $g ours || bail "no front end"
	wait='i=0; while [ ! -b /dev/@ ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done'
	poke="guestctl run $g 10 '$wait; dd if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct'"
	reread="guestctl run $g 10 '$wait
		exec 3</dev/@; dd if=/dev/@ of=/tmp/1 bs=4096 skip=256 count=8 && sleep 1 &&
		dd if=/dev/@ of=/tmp/2 bs=4096 skip=256 count=8 && cmp /tmp/1 /tmp/2'"
	irqs="guestctl run $g 10 \"awk '/blkif/ { n += \\\$2 + \\\$3 } END { print n + 0 }' /proc/interrupts\""
	hostile_run good >/dev/null || bail "not even an honest back end is taken"
}

hostile_run() {
	timeout $((90 * LAB_STRETCH)) hostile back "$@" --guest "$(guest_domid $g)" --count 300 --timeout $short --poke "$poke" \
		--reread "$reread" --irqs "$irqs"
}

try() {	# NUMBER NAME KIND SCENARIO
	local output status
	guest_run -t 10 $g "echo $1 >/sys/module/rust_xenbus/parameters/mutant" || fresh
	output=$(hostile_run "$4" 2>&1)
	status=$?
	caught "$2" "$4" $status "$output"
	if [ $status != 0 ]; then
		guest_run -t 10 $g 'echo 0 >/sys/module/rust_xenbus/parameters/mutant' && hostile_run good >/dev/null || fresh
	fi
}

ulimit -n 16384
swap_driver back none || bail "dom0's driver does not go"
fresh
check "with every check in place, all pass" hostile_run $(plan_of back | cut -f 4 | sort -u)
while IFS=$'\t' read -r -u 9 n name kind what; do
	try "$n" "$name" "$kind" "$what"
done 9< <(plan_of back)
guest_destroy $g
