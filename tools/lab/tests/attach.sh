# SPDX-License-Identifier: GPL-2.0
# A disk is attached to a running guest, written, detached, attached again; the data is still there.
# timeout: 120
swap_driver back "$MODULES_BACK"
(guest_get pv pv) & (guest_get pvh pvh) & wait
for g in pv pvh; do
	guest_alive $g || bail "guest $g does not start"
	disk=$(lab_disk 64)
	check "$g: attach" disk_attach $g "$disk" xvdb
	check "$g: mkfs.ext4" guest_run $g 'mkfs.ext4 -q /dev/xvdb'
	check "$g: write files" guest_run $g 'modprobe ext4; mount /dev/xvdb /mnt && dd if=/dev/urandom of=/mnt/a bs=1M count=8 2>/dev/null &&
		sha256sum /mnt/a >/run/sum && cp /run/sum /mnt/sum && umount /mnt'
	check "$g: fio with verify" guest_run $g 'fio --name=v --filename=/dev/xvdb --offset=48M --size=4M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse'
	check "$g: detach" disk_detach $g xvdb
	is "$g: the disk is gone" "$(guest_run $g 'ls /sys/block | grep xvdb')" ""
	check "$g: attach again" disk_attach $g "$disk" xvdb r
	check "$g: the data is still there" guest_run $g 'mount -o ro,noload /dev/xvdb /mnt && cmp /run/sum /mnt/sum && sha256sum -c /mnt/sum; s=$?; umount /mnt; exit $s'
	check_fails "$g: a read-only disk is not written" guest_run $g 'dd if=/dev/zero of=/dev/xvdb count=1'
	check "$g: detach again" disk_detach $g xvdb
done
