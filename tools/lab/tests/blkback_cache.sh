# SPDX-License-Identifier: GPL-2.0
# dom0's page cache of a disk is written back and dropped when it connects: neither end sees old data.
# timeout: 120
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get pv1 pv || bail "no guest"
disk=$(lab_disk 16)
# The last close of a block device would write back and drop its cache by itself.
exec 9<>"$disk"
# Nothing but the attach is to write back.
was=$(</proc/sys/vm/dirty_writeback_centisecs)
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
block() { # FILE: its byte
	dd if="$1" bs=4k count=1 skip=100 2>/dev/null | od -An -tx1 -N1 | tr -d ' '
}
file=$(losetup -nO BACK-FILE "$disk")
tr '\0' a </dev/zero | dd of="$disk" bs=4k count=1 seek=100 conv=notrunc iflag=fullblock 2>/dev/null
is "the data is in dom0's cache" "$(block "$disk")" 61
is "... only" "$(block "$file")" 00

check "attach" disk_attach pv1 "$disk" xvdb
is "the guest reads it" "$(guest_run pv1 'dd if=/dev/xvdb bs=4k count=1 skip=100 iflag=direct 2>/dev/null | cut -c1 | head -n 1 | od -An -tx1 -N1 | tr -d " "')" 61
check "the guest writes" guest_run pv1 'tr "\0" b </dev/zero | dd of=/dev/xvdb bs=4k count=1 seek=100 iflag=fullblock oflag=direct 2>/dev/null'
is "dom0 reads what the guest wrote" "$(block "$disk")" 62
check "detach" disk_detach pv1 xvdb
exec 9>&-
echo "$was" >/proc/sys/vm/dirty_writeback_centisecs
