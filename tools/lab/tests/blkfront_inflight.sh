# SPDX-License-Identifier: GPL-2.0
# A flush, a discard and a write with FUA that are with the back end when the guest is saved are sent
# again after the restore, once each, and end well.
# timeout: 300
swap_driver back "$MODULES_BACK" || bail "no back end"
modprobe dm-mod || bail "no device mapper"
guest_start g pv modules=ours || bail "no guest"
disk=$(lab_disk 64)
dmsetup create held --table "0 131072 linear $disk 0" || bail "no mapped device"
dmsetup mknodes
check "attach" disk_attach g /dev/mapper/held xvdb
counts() {
	(cd "/sys/bus/xen-backend/devices/vbd-$(guest_domid g)-51728/statistics" && echo "$(<f_req) $(<wr_req) $(<ds_req)")
}
in_flight() {
	[ "$(counts)" = "$1" ] || { counts; return 1; }
}
sleep 1
read -r f w d <<<"$(counts)"
check "the disk stops to answer" dmsetup suspend --noflush --nolockfs held
guest_bg g flush 'dd if=/dev/null of=/dev/xvdb count=0 conv=notrunc,fsync 2>&1'
guest_bg g discard 'blkdiscard -o 16M -l 4M /dev/xvdb'
# 4 KB, written durably: where there is no FUA, a flush follows the write.
guest_bg g write 'fio --name=w --filename=/dev/xvdb --rw=write --bs=4k --offset=2M --size=4k --direct=1 --sync=1 --buffer_pattern=0x78 --output-format=terse'
check "a flush, a write and a discard are in flight" wait_for 10 in_flight "$((f + 1)) $((w + 1)) $((d + 1))"
saved=$LAB_STATE/disks/saved
timeout $((120 * LAB_STRETCH)) xl save g "$saved" >"$LAB_DIR/save" 2>&1 &
save=$!
# The guest has stopped when Xen says that it is suspended; the old back end can end then.
suspended() {
	xl list | awk '$1 == "g" { exit $5 !~ /s/ } END { if (!NR) exit 1 }' || ! kill -0 $save 2>/dev/null
}
check "the guest is suspended" wait_for 60 suspended
sleep 1
check "the disk answers" dmsetup resume held
wait $save
is "save" $? 0
check "restore" timeout $((120 * LAB_STRETCH)) xl restore "$saved"
rm -f "$saved"
guest_attached g
check "the guest answers" guest_run -t 60 g true
check "the flush ends well" guest_wait g flush
check "the discard" guest_wait g discard
check "the write" guest_wait g write
read -r f w d <<<"$(counts)"
check "flushes were sent again" [ "$f" -ge 1 ]
is "the write, once" "$w" 1
is "the discard, once" "$d" 1
is "the data" "$(guest_run g 'dd if=/dev/xvdb bs=4k skip=512 count=1 iflag=direct 2>/dev/null | tr -d x | wc -c' | tr -d '\r ')" 0
check "detach" disk_detach g xvdb
guest_destroy g
check "the disk is closed" wait_for 10 dmsetup remove held
