# SPDX-License-Identifier: GPL-2.0
# For selftest/run: a good test.
check "true is true" true
check_fails "false is not" false
skip "this one is left out" "to see how that is counted"
