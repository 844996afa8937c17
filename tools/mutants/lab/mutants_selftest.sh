# SPDX-License-Identifier: GPL-2.0
# Each check of the foundation, taken out, is missed by its own tests.
# timeout: 300
. /payload/tests/mutants.inc

# Load the module, which runs the tests; prints their results.
selftest() {
	echo "mutants: begin $1" >/dev/kmsg
	insmod /payload/modules/xenbus_selftest.ko 2>/dev/null && rmmod xenbus_selftest
	dmesg | awk -v mark="mutants: begin $1" 'index($0, mark) { n = 0 } { line[n++] = $0 }
		END { for (i = 0; i < n; i++) if (sub(/.*xenbus_selftest: /, "", line[i])) print line[i] }'
}

driver_load rust_xenbus || bail "no foundation"
take 0
check_fails "with every check in place, all pass" grep -q '^not ok' <<<"$(selftest 0)"
while IFS=$'\t' read -r -u 9 n name kind what; do
	take "$n"
	output=$(selftest "$n")
	take 0
	grep -qE "^(not )?ok [0-9]+ - $what" <<<"$output" || { not_ok "$name: there is no test: $what"; continue; }
	grep -qE "^not ok [0-9]+ - $what" <<<"$output"
	caught "$name" "$what" $((! $?)) "$output"
done 9< <(plan_of selftest)
