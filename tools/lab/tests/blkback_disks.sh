# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: 4096-byte blocks, a resize, unbind and bind, changes that are refused.
# timeout: 240
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
id=$(guest_domid pvc)

# Blocks of 4096 bytes.
file=$(mktemp "$LAB_STATE/disks/XXXXXX")
truncate -s 64M "$file"
disk=$(losetup -f --show -b 4096 "$file")
check "attach a disk of 4096-byte blocks" disk_attach pvc "$disk" xvdb
is "logical block size" "$(guest_run pvc 'cat /sys/block/xvdb/queue/logical_block_size')" 4096
is "physical block size" "$(guest_run pvc 'cat /sys/block/xvdb/queue/physical_block_size')" 4096
is "size" "$(guest_run pvc 'cat /sys/block/xvdb/size')" 131072
check "fio verify" guest_run pvc 'fio --name=v --filename=/dev/xvdb --size=4M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse'
n=$(disk_id "$id" xvdb)
node=/local/domain/0/backend/vbd/$id/$n

# The toolstack cannot put another device behind it.
old=$(xenstore-read "$node/physical-device")
xenstore-write "$node/physical-device" 7:3f
sleep 1
is "another device is refused" "$(cat "/sys/bus/xen-backend/devices/vbd-$id-$n/physical_device")" "$old"
xenstore-write "$node/physical-device" "$old"

# A resize reaches the guest with the next request.
truncate -s 96M "$file"
losetup -c "$disk"
guest_run pvc 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
check "the guest sees the new size" wait_for 10 guest_run pvc '[ "$(cat /sys/block/xvdb/size)" = 196608 ]'
check "... and reaches its end" guest_run pvc 'dd if=/dev/zero of=/dev/xvdb bs=1M seek=95 count=1 oflag=direct 2>/dev/null'

# The driver may let go of a disk in use, and take it again.
guest_bg pvc load 'fio --name=v --filename=/dev/xvdb --size=8M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse'
sleep 2
echo "vbd-$id-$n" >/sys/bus/xen-backend/drivers/rust-blkback/unbind
check_fails "unbound" test -e "/sys/bus/xen-backend/devices/vbd-$id-$n/driver"
sleep 1
echo "vbd-$id-$n" >/sys/bus/xen-backend/drivers/rust-blkback/bind
check "bound again" test -e "/sys/bus/xen-backend/devices/vbd-$id-$n/driver"
check "the load has not noticed" guest_wait -t 90 pvc load
check "detach" disk_detach pvc xvdb
