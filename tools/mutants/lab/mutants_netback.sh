# SPDX-License-Identifier: GPL-2.0
# Each check of the network front end, taken out, is missed by a hostile back end.
# timeout: 1500
. /payload/tests/mutants.inc
number=0

fresh() {
	[ $number = 0 ] || guest_destroy "$g" >/dev/null 2>&1
	g=m$((number += 1))
	guest_start $g pv modules=none vcpus=2 || bail "no guest"
	guest_run $g "$free_at_once"
	guest_net_driver $g ours || bail "no front end"
	hostile_addresses $g
	program=$(hostile_program $g)
	hostile_run good >/dev/null || bail "not even an honest back end is taken"
}

hostile_run() {
	timeout $((120 * LAB_STRETCH)) hostile netback "$@" --guest "$(guest_domid $g)" --count 500 --timeout $short \
		--program "$program"
}

try() {	# NUMBER NAME KIND SCENARIO
	local output status
	guest_run -t 10 $g "echo $1 >/sys/module/rust_xenbus/parameters/mutant" || fresh
	output=$(hostile_run "$4" 2>&1)
	status=$?
	caught "$2" "$4" $status "$output"
	guest_run -t 10 $g 'echo 0 >/sys/module/rust_xenbus/parameters/mutant' || fresh
	[ $status = 0 ] || hostile_run good >/dev/null || fresh
}

ulimit -n 16384
swap_driver net none || bail "dom0's driver does not go"
fresh
check "with every check in place, all pass" hostile_run $(plan_of netback | cut -f 4 | sort -u)
while IFS=$'\t' read -r -u 9 n name kind what; do
	try "$n" "$name" "$kind" "$what"
done 9< <(plan_of netback)
guest_destroy $g
