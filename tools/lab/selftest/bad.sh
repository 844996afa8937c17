# SPDX-License-Identifier: GPL-2.0
# For selftest/run: a test with a failure.
check "true is true" true
check "false is true" false
dies() {
	echo "ok 1 - what came before its end"
	return 3
}
results_of dies
