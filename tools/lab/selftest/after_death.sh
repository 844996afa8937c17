# SPDX-License-Identifier: GPL-2.0
# For selftest/run: runs after dom0 died.
check "nothing of the test before is there" test ! -e "$LAB_STATE/logs/death"
