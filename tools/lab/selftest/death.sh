# SPDX-License-Identifier: GPL-2.0
# For selftest/run: dom0 crashes during this test.
sync
echo c >/proc/sysrq-trigger
sleep 30
