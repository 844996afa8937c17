# SPDX-License-Identifier: GPL-2.0
# Our front end while its disk is in use: a detach waits for the last close, a forced one does not;
# neither hangs anybody, and the next attach works. So does a guest's shutdown.
# timeout: 400
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=ours || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
grants_note g

gone_in_guest() {
	guest_run g "[ ! -e /sys/block/$1 ]"
}
load='fio --name=l --filename=/dev/xvdb --ioengine=libaio --direct=1 --rw=randrw --bs=16k --iodepth=32 --size=64M --time_based --runtime=120 --output-format=terse'

check "attach" disk_attach g "$disk" xvdb
check "mount" guest_run g 'modprobe ext4; mkfs.ext4 -q /dev/xvdb && mount /dev/xvdb /mnt && echo before >/mnt/a'
dev=$(disk_id "$id" xvdb)
timeout 60 xl block-detach "$id" "$dev" >/dev/null 2>&1
is "a detach is refused while the disk is mounted" "$(guest_run g 'cat /sys/block/xvdb/size')" 131072
check "the disk still works" guest_run g 'echo after >/mnt/b && sync && echo 3 >/proc/sys/vm/drop_caches && grep after /mnt/b'
check "umount" guest_run g 'umount /mnt'
check "the disk goes when it is closed" wait_for 10 gone_in_guest xvdb
timeout 60 xl block-detach "$id" "$dev" >/dev/null 2>&1
check "dom0 lets go" wait_for 20 disk_gone "$id" "$dev"

for how in "forced detach" "back end says Closed"; do
	check "$how: attach" disk_attach g "$disk" xvdb
	guest_bg g load "$load"
	sleep 3
	if [ "$how" = "forced detach" ]; then
		timeout 60 xl block-detach --force "$id" "$dev" >/dev/null 2>&1
	else
		xenstore-write "/local/domain/0/backend/vbd/$id/$dev/state" 6
	fi
	guest_wait -t 30 g load >/run/load.out
	s=$?
	[ $s != 124 ] && [ $s != 0 ]
	is "$how: fio ends with an error" $? 0
	check "$how: the disk is gone" wait_for 10 gone_in_guest xvdb
	timeout 60 xl block-detach --force "$id" "$dev" >/dev/null 2>&1
	check "$how: dom0 lets go" wait_for 20 disk_gone "$id" "$dev"
done
grants_check g

check "attach again" disk_attach g "$disk" xvdb
check "it works" guest_run g 'fio --name=v --filename=/dev/xvdb --size=4M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=32 --direct=1 --verify=crc32c --output-format=terse'
check "dmesg" guest_clean g
guest_bg g load "$load"
sleep 2
check "shutdown of the guest under load" guest_shutdown g
