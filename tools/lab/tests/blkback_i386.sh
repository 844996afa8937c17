# SPDX-License-Identifier: GPL-2.0
# Our back end and a 32-bit guest: Debian 12's kernel and its C front end.
# needs: i386
# timeout: 180
swap_driver back ours || bail "no back end"
cat /payload/i386/base.cpio /payload/guest.cpio >"$LAB_STATE/i386.cpio"
guest_start q pvh modules=none kernel=/payload/i386/vmlinux ramdisk="$LAB_STATE/i386.cpio" || bail "no guest"
id=$(guest_domid q)
disk=$(lab_disk 64)
is "it is a 32-bit guest" "$(guest_run q 'uname -m' | tr -d '\r\n')" i686
check "front end" guest_run q 'modprobe xen-blkfront'
before=$(grants_in_use "$id")
check "attach" disk_attach q "$disk" xvdb
is "its protocol" "$(xenstore-read "/local/domain/$id/device/vbd/51728/protocol")" x86_32-abi
is "size" "$(guest_run q 'cat /sys/block/xvdb/size' | tr -d '\r\n')" 131072
# 4k: 32 requests of a segment each; 128k: indirect requests, by the page cache many at a time.
for bs in 4k 40k 128k; do
	check "$bs: write" guest_run q "dd if=/dev/urandom of=/tmp/a bs=128k count=64 && dd if=/tmp/a of=/dev/xvdb bs=$bs conv=fsync"
	check "$bs: read" guest_run q "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvdb bs=$bs iflag=direct 2>/dev/null | head -c 8388608 | cmp - /tmp/a"
done
is "dom0 sees the same" "$(head -c 8388608 "$(losetup -nO BACK-FILE "$disk")" | sha256sum | cut -c1-64)" \
	"$(guest_run q 'sha256sum /tmp/a' | cut -c1-64)"
check "discard" guest_run q 'blkdiscard -o 1M -l 1M /dev/xvdb'
is "what was discarded" "$(guest_run q 'dd if=/dev/xvdb bs=1M skip=1 count=1 2>/dev/null | tr -d "\0" | wc -c' | tr -d '\r\n ')" 0
check "detach" disk_detach q xvdb
is "no grants left" "$(grants_in_use "$id")" "$before"
guest_stop q
