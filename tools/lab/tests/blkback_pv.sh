# SPDX-License-Identifier: GPL-2.0
# Our back end under the C front end of a PV guest: data verified, detach and attach again, rmmod.
# timeout: 300
DISK_SCRIPT=block
. /payload/tests/blkback.inc
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
blkback_basic pvc
check "rmmod" driver_unload blkback
check "insmod again" driver_load blkback
