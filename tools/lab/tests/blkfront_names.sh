# SPDX-License-Identifier: GPL-2.0
# Devices of all kinds get the names and minors that the C front end gives them; partitions are found;
# a disk that grows is seen to.
# timeout: 400
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get names pv modules=ours || bail "no guest"
disk=$(lab_disk 8)
# A partition of 2 MB.
printf 'start=2048, size=4096, type=83\n' | sfdisk -q "$disk" 2>/dev/null ||
	{ printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\020\0\0' | dd of="$disk" bs=1 seek=446 conv=notrunc 2>/dev/null
	printf '\125\252' | dd of="$disk" bs=1 seek=510 conv=notrunc 2>/dev/null; }

# vdev, name, major:minor, name of the partition that is found in it
while read -r vdev name minor part; do
	check "$vdev: attach" disk_attach_only names "$disk" "$vdev"
	check "$vdev is $name" wait_for 10 guest_run names "[ -b /dev/$name ]"
	is "$vdev: number" "$(guest_run names "cat /sys/block/$name/dev")" "202:$minor"
	[ "$part" = - ] || is "$vdev: partition" "$(guest_run names "cat /sys/block/$name/$part/size")" 4096
	check "$vdev: detach" disk_detach names "$vdev"
done <<'L'
xvdb xvdb 16 xvdb1
xvda3 xvda3 3 -
hdb xvdb 16 xvdb1
sdc xvdc 32 xvdc1
xvdq xvdq 4096 xvdq1
L

check "attach" disk_attach names "$disk" xvdb
file=$(losetup -nO BACK-FILE "$disk")
truncate -s 16M "$file" && losetup -c "$disk"
# A back end looks at the size when it is asked for something.
guest_run names 'dd if=/dev/xvdb of=/dev/null count=1 iflag=direct 2>/dev/null'
check "a disk that grows is seen to" wait_for 5 guest_run names '[ "$(cat /sys/block/xvdb/size)" = 32768 ]'
check "detach" disk_detach names xvdb
