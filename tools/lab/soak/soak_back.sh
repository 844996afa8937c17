# SPDX-License-Identifier: GPL-2.0
# A back end answers a busy guest, some answers mutated, until $SOAK_COUNT (100000) are sent.
# timeout: 3600
#
# SOAK_SECONDS=N ends it after that time, with whatever count.
# Not among the tests that run by default: SOAK_COUNT=1000000 tools/lab/lab run soak/soak_back.sh
# Each disk ends with answers that no front end may put up with; then the next one comes. The grants
# are counted after each, and an innocent disk is compared in the end.

count=${SOAK_COUNT:-100000} seed=${SOAK_SEED:-1}

swap_driver back ours || bail "no back end"
guest_start g pv modules=none vcpus=2 || bail "no guest"
guest_run g "$free_at_once"
guest_driver g ours || bail "no front end"
innocent=$(lab_disk 16)
disk_attach g "$innocent" xvda || bail "no innocent disk"
guest_run g 'dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/xvda bs=64k conv=fsync' >/dev/null 2>&1
load="guestctl run g 300 'i=0; while [ ! -b /dev/@ ] && [ \$i -lt 50 ]; do sleep 0.1; i=\$((i + 1)); done
	fio --name=load --filename=/dev/@ --rw=randrw --bssplit=4k/70:16k/20:128k/10 --direct=1 --ioengine=libaio \\
		--iodepth=32 --size=2m --io_size=600m --norandommap --continue_on_error=all --fsync=256'"
ulimit -n 16384
results_of hostile back soak --guest "$(guest_domid g)" --count "$count" --seed "$seed" --seconds "${SOAK_SECONDS:-3000}" --timeout $((10 * LAB_STRETCH)) \
	--poke true --load "$load"
check "innocent disk still serves" guest_run g 'dd if=/dev/xvda bs=64k count=16 iflag=direct | cmp - /tmp/data'
disk_detach g xvda
guest_stop g
