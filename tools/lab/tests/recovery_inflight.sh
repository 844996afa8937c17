# SPDX-License-Identifier: GPL-2.0
# A flush, a discard and a write that are with a driver domain when it is destroyed are sent again to
# the next one, once each, and end well.
# timeout: 240
swap_driver back "$MODULES_BACK" || bail "no back end"
modprobe dm-mod || bail "no device mapper"
disk=$(lab_disk 64)
dmsetup create held --table "0 131072 linear $disk 0" || bail "no mapped device"
dmsetup mknodes
guest_get g pv modules=ours &
driver_domain_start drv /dev/mapper/held &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
devmgr_start drv
check "attach" disk_attach g /dev/xvda xvdb backend=drv
counts() {
	guest_run drv "cd /sys/bus/xen-backend/devices/vbd-*/statistics && echo \$(cat f_req) \$(cat wr_req) \$(cat ds_req)" | tr -d '\r'
}
counts_are() {
	[ "$(counts)" = "$1" ] || { counts; return 1; }
}
sleep 1
read -r f w d <<<"$(counts)"
check "the disk stops to answer" dmsetup suspend --noflush --nolockfs held
# The write comes first, and is asynchronous: a discard and a write that wait lock each other out.
guest_bg g write 'fio --name=w --filename=/dev/xvdb --rw=write --bs=4k --offset=2M --size=4k --ioengine=libaio --direct=1 --buffer_pattern=0x78 --output-format=terse'
check "a write is in flight" wait_for 20 counts_are "$f $((w + 1)) $d"
guest_bg g flush 'dd if=/dev/null of=/dev/xvdb count=0 conv=notrunc,fsync 2>&1'
guest_bg g discard 'blkdiscard -o 16M -l 4M /dev/xvdb'
check "a flush and a discard, too" wait_for 10 counts_are "$((f + 1)) $((w + 1)) $((d + 1))"
old=$(xl domid drv)
check "the driver domain is destroyed" xl destroy "$old"
check "the disk answers" dmsetup resume held
check "the disk is back" wait_for 60 device_served g vbd/51728 "$old"
check "the flush ends well" guest_wait g flush
check "the discard" guest_wait g discard
check "the write" guest_wait g write
devmgr_stop
guest_attached drv
wait_for 20 guest_run drv true
check "each was sent again, once" counts_are "1 1 1"
is "the data" "$(guest_run g 'dd if=/dev/xvdb bs=4k skip=512 count=1 iflag=direct 2>/dev/null | tr -d x | wc -c' | tr -d '\r ')" 0
check "detach" disk_detach g xvdb
guest_destroy drv
check "the disk is closed" wait_for 20 dmsetup remove held
