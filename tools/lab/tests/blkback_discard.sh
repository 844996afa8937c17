# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: what the guest discards is gone from the device; discards switched off.
# timeout: 180
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
id=$(guest_domid pvc)
node=/local/domain/0/backend/vbd/$id/51728
disk=$(lab_disk 64)
file=$(losetup -nO BACK-FILE "$disk")
stats=/sys/bus/xen-backend/devices/vbd-$id-51728/statistics
used() { du -k "$file" | cut -f 1; }

check "attach" disk_attach pvc "$disk" xvdb
is "discards are offered" "$(xenstore-read "$node/feature-discard")" 1
for key in granularity alignment; do
	is "discard-$key" "$(xenstore-read "$node/discard-$key")" \
		"$(if [ $key = alignment ]; then cat "/sys/block/${disk##*/}/discard_alignment"; else cat "/sys/block/${disk##*/}/queue/discard_granularity"; fi)"
done
check "the guest may discard" guest_run pvc '[ "$(cat /sys/block/xvdb/queue/discard_max_bytes)" -gt 0 ]'
check "the disk is filled" guest_run pvc 'dd if=/dev/urandom of=/dev/xvdb bs=1M count=64 oflag=direct 2>/dev/null'
sync
full=$(used)
check "... and takes its room" [ "$full" -ge 65536 ]
guest_bg pvc load 'fio --name=v --filename=/dev/xvdb --size=8M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse'
check "blkdiscard beside a load" guest_run pvc 'blkdiscard -o 16M -l 32M /dev/xvdb'
check "the load has not noticed" guest_wait -t 60 pvc load
sync
check "half of the room is free" [ "$(used)" -le $((full - 32000)) ]
check "ds_req has counted" [ "$(cat "$stats/ds_req")" -gt 0 ]
check "what is discarded reads as zeroes" guest_run pvc 'dd if=/dev/xvdb bs=1M skip=16 count=32 iflag=direct 2>/dev/null | cmp -n 33554432 - /dev/zero'
check "detach" disk_detach pvc xvdb

xl block-attach "$id" "format=raw,backendtype=phy,vdev=xvdb,access=w,no-discard,target=$disk"
check "attach without discards" wait_for 20 guest_run pvc '[ -b /dev/xvdb ]'
is "discards are not offered" "$(xenstore-read "$node/feature-discard")" 0
check_fails "... nor is their size" xenstore-exists "$node/discard-granularity"
check_fails "the guest cannot discard" guest_run pvc 'blkdiscard -o 0 -l 4M /dev/xvdb'
check "detach" disk_detach pvc xvdb

modprobe null_blk nr_devices=0 && { mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config; } &&
	mkdir /sys/kernel/config/nullb/lab && cd /sys/kernel/config/nullb/lab || bail "no null_blk"
echo 64 >size && echo 1 >memory_backed && echo 1 >discard && echo 1 >power || bail "no null_blk device"
cd /
null=/dev/lab
check "attach a null_blk device, read-only" disk_attach pvc "$null" xvdb r
check_fails "a read-only disk discards nothing" guest_run pvc 'blkdiscard /dev/xvdb'
check "detach" disk_detach pvc xvdb
check "attach it" disk_attach pvc "$null" xvdb
check "written" guest_run pvc 'dd if=/dev/urandom of=/dev/xvdb bs=1M count=8 oflag=direct 2>/dev/null'
check "blkdiscard" guest_run pvc 'blkdiscard /dev/xvdb'
check "zeroes" guest_run pvc 'dd if=/dev/xvdb bs=1M count=8 iflag=direct 2>/dev/null | cmp -n 8388608 - /dev/zero'
check "detach" disk_detach pvc xvdb
echo 0 >/sys/kernel/config/nullb/lab/power
rmdir /sys/kernel/config/nullb/lab
