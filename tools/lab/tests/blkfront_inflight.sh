# SPDX-License-Identifier: GPL-2.0
# A flush that is with the back end when the guest is saved is sent again after the restore. It is that
# of a durable write: a process that waits for a flush or a discard of its own keeps the kernel from
# being suspended, so that none of these are in flight then.
# timeout: 300
swap_driver back "$MODULES_BACK" || bail "no back end"
modprobe -a dm-mod dm-delay || bail "no device mapper"
guest_start g pv modules=ours || bail "no guest"
disk=$(lab_disk 64)
# Only a flush takes long.
dmsetup create held --table "0 131072 delay $disk 0 0 $disk 0 0 $disk 0 600000" || bail "no mapped device"
dmsetup mknodes
check "attach" disk_attach g /dev/mapper/held xvdb
counts() {
	(cd "/sys/bus/xen-backend/devices/vbd-$(guest_domid g)-51728/statistics" && echo "$(<f_req) $(<wr_req)")
}
counts_are() {
	[ "$(counts)" = "$1" ] || { counts; return 1; }
}
guest_bg g write 'fio --name=w --filename=/dev/xvdb --rw=write --bs=4k --offset=2M --size=4k --ioengine=libaio --direct=1 --sync=1 --buffer_pattern=0x78 --output-format=terse'
check "a write is done, its flush is in flight" wait_for 20 counts_are "1 1"
saved=$LAB_STATE/disks/saved
timeout $((120 * LAB_STRETCH)) xl save g "$saved" >"$LAB_DIR/save" 2>&1 &
save=$!
# The file is written with the guest suspended, and the guest destroyed then: the old back end may end.
suspended() {
	xl list | grep -q '^g .*--s' || ! xl domid g >/dev/null 2>&1
}
check "the guest is suspended" wait_for 60 suspended
dmsetup load held --table "0 131072 linear $disk 0" && dmsetup suspend --nolockfs held
check "the disk answers" dmsetup resume held
wait $save
is "save" $? 0
check "restore" timeout $((120 * LAB_STRETCH)) xl restore "$saved"
rm -f "$saved"
guest_attached g
check "the guest answers" guest_run -t 60 g true
check "the write ends well" guest_wait g write
is "the flush was sent again, the write was not" "$(counts)" "1 0"
is "the data" "$(guest_run g 'dd if=/dev/xvdb bs=4k skip=512 count=1 iflag=direct 2>/dev/null | tr -d x | wc -c' | tr -d '\r ')" 0
# A resume that fails, because the device has not finished what an earlier back end gave it; then the
# disk is taken away (XSA-465).
dmsetup load held --table "0 131072 delay $disk 0 0 $disk 0 0 $disk 0 600000" && dmsetup suspend --nolockfs held && dmsetup resume held
guest_bg g write 'fio --name=w --filename=/dev/xvdb --rw=write --bs=4k --offset=2M --size=4k --ioengine=libaio --direct=1 --sync=1 --output-format=terse'
check "another flush is in flight" wait_for 20 counts_are "2 1"
check "save" timeout $((120 * LAB_STRETCH)) xl save g "$saved"
check "restore" timeout $((120 * LAB_STRETCH)) xl restore "$saved"
rm -f "$saved"
guest_attached g
id=$(guest_domid g)
check "the guest answers" guest_run -t 60 g true
check "the back end has refused" wait_for 10 xenstore-exists "/local/domain/0/error/backend/vbd/$id/51728/error"
timeout $((60 * LAB_STRETCH)) xl block-detach --force g 51728
check "the disk goes" wait_for 20 guest_run g '[ ! -e /sys/block/xvdb ]'
check_fails "the write has failed" guest_wait g write
guest_clean g
dmsetup load held --table "0 131072 linear $disk 0" && dmsetup suspend --nolockfs held && dmsetup resume held
guest_destroy g
check "the disk is closed" wait_for 20 dmsetup remove held
