# SPDX-License-Identifier: GPL-2.0
# A guest is restored under a back end of another kind while its disk is busy: with other queues,
# other limits, other ways to get at the data. Requests in flight may be too large for it.
# timeout: 400
. /payload/tests/blkfront.inc
swap_driver back c || bail "no back end"
guest_start g pv modules=ours vcpus=2 || bail "no guest"
disk=$(lab_disk 64)
grants_note g
limits() {
	queues=$(back_says multi-queue-max-queues) segments=$(back_says feature-max-indirect-segments)
	queues=$((queues > 2 ? 2 : queues > 1 ? queues : 1)) segments=$((segments > 32 ? 32 : segments > 11 ? segments : 11))
	[ "$(queue max_segments)" = $segments ] && [ "$(guest_run g 'ls /sys/block/xvdb/mq | wc -l')" = $queues ]
}
saved=$LAB_STATE/disks/saved

check "load" front_with max_indirect_segments=32
check "attach" disk_attach g "$disk" xvdb
check "limits" limits
for back in ours c; do
	guest_bg g load "$verify --name=v --rw=randwrite --bsrange=4k-128k --size=16M --offset_increment=32M --numjobs=2 --iodepth=16 --fsync=32 --loops=2"
	sleep 3
	check "save" timeout 120 xl save g "$saved"
	swap_driver back $back && back_queues 2 || bail "no back end $back"
	check "restore under $back" timeout 120 xl restore "$saved"
	rm -f "$saved"
	guest_attached g
	check "$back: the guest answers" guest_run -t 60 g true
	check "$back: fio has gone on, and finds its data" guest_wait -t 120 g load
	check "$back: limits" wait_for 10 limits
	verified "$back"
done
check "detach" disk_detach g xvdb
grants_check g
guest_stop g
