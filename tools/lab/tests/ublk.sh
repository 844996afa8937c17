# SPDX-License-Identifier: GPL-2.0
# A chain of extensions as a block device of dom0, by ublk: no guest, and none of our modules.
# timeout: 120
modprobe ublk_drv 2>/dev/null || { skip "ublk" "the kernel has none"; exit; }
place=$LAB_STATE/ublk
mkdir -p "$place"
truncate -s 64M "$place/base"
blktap serve --ublk "cow:base=$place/base,delta=$place/delta,new=yes" 2>"$place/log" &
server=$!
wait_for 20 grep -q "as /dev/ublkb" "$place/log" || { sed 's/^/# /' "$place/log"; bail "no device"; }
dev=$(sed -n 's,.* as \(/dev/ublkb[0-9]*\)$,\1,p' "$place/log")
wait_for 10 test -b "$dev"
is "its size" "$(blockdev --getsize64 "$dev")" 67108864
check "fio verify" fio --name=v --filename="$dev" --size=16M --rw=randrw --bsrange=4k-256k --ioengine=libaio --iodepth=16 --direct=1 --fsync=64 --verify=crc32c --output-format=terse --output="$place/fio"
check "blkdiscard" blkdiscard -o 32M -l 1M "$dev"
check "zeroes" blkdiscard -z -o 0 -l 4M "$dev"
check "... are read" cmp -n 4194304 "$dev" /dev/zero
check "mkfs" mkfs.ext4 -q -F "$dev"
check "mount" mount "$dev" /mnt
check "write" eval 'seq 200000 >/mnt/numbers && sync && echo 3 >/proc/sys/vm/drop_caches && seq 200000 | cmp - /mnt/numbers'
check "umount" umount /mnt
check "fsck" e2fsck -fn "$dev"
kill "$server"
wait "$server"
is "it ends when it is asked to" $? 0
check "... and the device goes" wait_for 10 test ! -e "$dev"
check "the base is as it was" cmp -n 67108864 "$place/base" /dev/zero
check "what was written is in the delta" eval 'blktap map "$place/delta" | tail -1 | grep -q "^[1-9]"'
truncate -s 8M "$place/disk"
blktap serve --ublk "fault:error=EIO,op=read,from=1M,to=2M+raw:$place/disk" 2>"$place/log" &
server=$!
wait_for 20 grep -q "as /dev/ublkb" "$place/log"
dev=$(sed -n 's,.* as \(/dev/ublkb[0-9]*\)$,\1,p' "$place/log")
wait_for 10 test -b "$dev"
check_fails "an error is an error" dd if="$dev" of=/dev/null bs=4k skip=256 count=1 iflag=direct
check "... of that request only" dd if="$dev" of=/dev/null bs=4k skip=512 count=1 iflag=direct
kill -9 "$server"
wait "$server" 2>/dev/null
check "killed, it takes its device along" wait_for 20 test ! -e "$dev"
sed 's/^/# /' "$place/log"
rm -rf "$place"
