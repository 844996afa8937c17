# SPDX-License-Identifier: GPL-2.0
# For selftest/run: a test that hangs.
# timeout: 2
while :; do
	sleep 1
done
