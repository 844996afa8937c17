# SPDX-License-Identifier: GPL-2.0
# Our front end in an HVM guest: it takes disks whose emulation was unplugged, and leaves alone CD-ROM
# drives, and disks that are emulated still.
# needs: bios
# timeout: 240
# cpus: 2
swap_driver back "$MODULES_BACK" || bail "no back end"
hda=$(lab_disk 16) hdc=$(lab_disk 16) xvdb=$(lab_disk 16)
hvm_start() { # KERNEL PARAMETER
	LAB_GUEST_LIMIT=90 guest_start h hvm modules=none memory=320 kernel=/guest/vmlinuz append="$1" \
		disk="format=raw,backendtype=phy,vdev=hda,access=w,target=$hda" \
		disk="format=raw,backendtype=phy,vdev=hdc,access=r,devtype=cdrom,target=$hdc" \
		config="bios_path_override='/payload/bios/bios.bin'
vga='none'
nographic=1
usb=0" && return
	cat "$LAB_STATE/guests/h/create"
	tail -n 30 /var/log/xen/qemu-dm-h.log
	/usr/lib/xen-4.20/bin/xenctx "$(guest_domid h)" | head -n 12
	bail "no guest"
}
driver_of() {
	guest_run h "basename \$(readlink /sys/bus/xen/devices/vbd-$1/driver) 2>/dev/null" | tr -d '\r\n'
}

hvm_start ''
is "it is an HVM guest" "$(guest_run h 'cat /sys/hypervisor/guest_type' | tr -d '\r\n')" HVM
check "front end" guest_driver h ours
check "a disk that was unplugged appears" wait_for 10 guest_run h '[ -b /dev/xvda ]'
is "... and is ours" "$(driver_of 768)" blkfront
check "fio verify" guest_run h 'fio --name=v --filename=/dev/xvda --size=2M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --output-format=terse'
is "the CD-ROM drive is left alone" "$(driver_of 5632)" ""
check "a disk without emulation" disk_attach h "$xvdb" xvdb
check "... is used" guest_run h 'dd if=/dev/zero of=/dev/xvdb bs=64k count=16 oflag=direct 2>/dev/null'
check "... and detached" disk_detach h xvdb
check "no complaint" guest_stop h

hvm_start xen_emul_unplug=unnecessary
check "front end" guest_driver h ours
check "a disk without emulation" disk_attach h "$xvdb" xvdb
is "a disk that is emulated is left alone" "$(driver_of 768)" ""
check "detach" disk_detach h xvdb
guest_stop h
