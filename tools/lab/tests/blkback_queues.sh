# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: four queues, rings of many pages, requests of many segments.
# timeout: 300
swap_driver back ours || bail "no back end"
params=/sys/module/blkback/parameters
max=$(cat "$params/max_queues")
echo 4 >"$params/max_queues"
guest_start q pv vcpus=4 memory=512 modules=c || bail "no guest"
# The debug kernel knows of two.
cpus=$(guest_run q nproc)
id=$(guest_domid q)
disk=$(lab_disk 64)
before=$(grants_in_use "$id")
front=/local/domain/$id/device/vbd/51728
back=/sys/bus/xen-backend/devices/vbd-$id-51728/statistics
threads() { pgrep -f "^\[?$id\.xvdb-" | wc -l; }
load() {
	guest_run -t 90 q "fio --filename=/dev/xvdb --size=8M --rw=randwrite --bsrange=$1 --ioengine=libaio --iodepth=16 --fsync=16 --direct=1 --verify=crc32c --output-format=terse --name=a --name=b --offset=8M --name=c --offset=16M --name=d --offset=24M"
}

check "attach" disk_attach q "$disk" xvdb
is "queues" "$(xenstore-read "$front/multi-queue-num-queues")" "$cpus"
is "threads" "$(threads)" "$cpus"
check "... under the C driver's names" pgrep -x "$id.xvdb-$((cpus - 1))"
check "fio verify on four CPUs" load 4k-64k
check "the sum is counted" [ "$(cat "$back/wr_req")" -gt 100 ]
is "no request has waited for room" "$(cat "$back/oo_req")" 0
check "detach" disk_detach q xvdb
is "no thread left" "$(threads)" 0
is "no grants left" "$(grants_in_use "$id")" "$before"

# Rings of 16 pages; the C front end allocates all their requests' pages at once.
guest_run q 'rmmod xen_blkfront; modprobe xen-blkfront max_ring_page_order=4 max_queues=2 max_indirect_segments=16' || bail "no front end"
check "attach, large rings" disk_attach q "$disk" xvdb
is "order of the rings" "$(xenstore-read "$front/ring-page-order")" 4
is "threads" "$(threads)" 2
check "fio verify with many requests on their way" guest_run -t 90 q 'fio --name=v --filename=/dev/xvdb --size=16M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=256 --direct=1 --verify=crc32c --output-format=terse'
check "detach" disk_detach q xvdb
is "no grants left" "$(grants_in_use "$id")" "$before"

# Requests of 256 segments.
guest_run q 'rmmod xen_blkfront; modprobe xen-blkfront max_queues=1 max_indirect_segments=256' || bail "no front end"
check "attach, large requests" disk_attach q "$disk" xvdb
is "segments in a request" "$(guest_run q 'cat /sys/block/xvdb/queue/max_segments')" 256
wr=$(cat "$back/wr_req")
check "16 writes of a megabyte" guest_run q 'dd if=/dev/urandom of=/dev/xvdb bs=1M count=16 oflag=direct 2>/dev/null'
is "... are 16 requests" $(($(cat "$back/wr_req") - wr)) 16
check "fio verify, up to a megabyte" load 512-1M
check "detach" disk_detach q xvdb
is "no grants left" "$(grants_in_use "$id")" "$before"
echo "$max" >"$params/max_queues"
guest_stop q
