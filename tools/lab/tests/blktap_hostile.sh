# SPDX-License-Identifier: GPL-2.0
# The same front end, with a tap at its disk: a program serves the guest's ring in the kernel thread's place.
# timeout: 420
tap=noop
. /payload/tests/hostile_front.inc
