# SPDX-License-Identifier: GPL-2.0
# Our front end's whole life in a running guest: attach, use, detach, over and over; the module goes
# and comes back; nothing is left behind.
# timeout: 300
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=ours || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)

grants_note g

check "attach" disk_attach g "$disk" xvdb
is "size" "$(guest_run g 'cat /sys/block/xvdb/size')" 131072
# As many as the back end and we can agree on; without indirect requests 11.
segments=$(xenstore-read "/local/domain/0/backend/vbd/$id/51728/feature-max-indirect-segments" 2>/dev/null)
segments=$((${segments:-0} > 32 ? 32 : ${segments:-0} > 11 ? segments : 11))
is "limits of the queue" "$(guest_run g 'cd /sys/block/xvdb/queue; echo $(cat max_segments max_hw_sectors_kb max_segment_size logical_block_size dma_alignment)')" \
	"$segments $((segments * 4)) 4096 512 511"
is "no scheduler" "$(guest_run g 'grep -o "\[.*\]" /sys/block/xvdb/queue/scheduler')" "[none]"
is "write cache, as the back end says" "$(guest_run g 'cat /sys/block/xvdb/queue/write_cache')" "write back"
is "parent in sysfs" "$(guest_run g 'basename $(readlink -f /sys/block/xvdb/device)')" vbd-51728
check_fails "the module does not go while it has a device" guest_run g 'rmmod blkfront 2>&1'
fio='fio --filename=/dev/xvdb --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --output-format=terse'
check "fio verify, 4k random" guest_run g "$fio --name=a --size=8M --rw=randwrite --bs=4k --iodepth=32"
check "fio verify, 512 bytes" guest_run g "$fio --name=b --size=512k --offset=9M --rw=randwrite --bs=512 --iodepth=8"
check "fio verify, all sizes, flushes" guest_run g "$fio --name=c --size=16M --offset=16M --rw=randwrite --bsrange=512-256k --iodepth=8 --fsync=16"
check "buffered writes are flushed" guest_run g 'dd if=/dev/urandom of=/run/data bs=1M count=8 2>/dev/null; dd if=/run/data of=/dev/xvdb bs=1M seek=40 conv=fsync 2>/dev/null'
is "they are on the disk" "$(dd if="$disk" bs=1M skip=40 count=8 2>/dev/null | sha256sum)" "$(guest_run g 'sha256sum </run/data')"
check "detach" disk_detach g xvdb
is "the disk is gone" "$(guest_run g 'ls /sys/block | grep xvdb')" ""
for i in 1 2 3; do
	disk_attach g "$disk" xvdb && disk_detach g xvdb || { not_ok "attach and detach, time $i"; break; }
done
grants_check g
check "the module goes" guest_run g 'rmmod blkfront'
check "the module comes back" guest_driver g ours
check "attach again" disk_attach g "$disk" xvdb r
is "the data is still there" "$(guest_run g 'dd if=/dev/xvdb bs=1M skip=40 count=8 2>/dev/null | sha256sum')" "$(guest_run g 'sha256sum </run/data')"
is "the disk is read-only" "$(guest_run g 'cat /sys/block/xvdb/ro')" 1
check_fails "it is not written" guest_run g 'dd if=/dev/zero of=/dev/xvdb count=1 2>&1'
check "unbind in use: the disk goes, its user gets an error" guest_run g '
	sleep 1000 </dev/xvdb & p=$!
	echo vbd-51728 >/sys/bus/xen/drivers/blkfront/unbind
	[ ! -e /sys/block/xvdb ]; s=$?
	kill $p; wait $p; exit $s'
check "the module goes after that" guest_run g 'rmmod blkfront'
check "detach" disk_detach g xvdb
guest_stop g
