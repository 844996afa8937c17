# SPDX-License-Identifier: GPL-2.0
# Our back end under the C front end of a PVH guest: data verified, detach and attach again, rmmod.
# timeout: 300
# cpus: 2
. /payload/tests/blkback.inc
swap_driver back ours || bail "no back end"
guest_get pvhc pvh modules=c || bail "no guest"
blkback_basic pvhc
check "rmmod" driver_unload blkback
check "insmod again" driver_load blkback
