# SPDX-License-Identifier: GPL-2.0
# For selftest/run: the kernel complains as this test expects.
# expect-dmesg: WARNING: an expected
check "true is true" true
echo "<4>WARNING: an expected complaint" >/dev/kmsg
