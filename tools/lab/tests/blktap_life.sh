# SPDX-License-Identifier: GPL-2.0
# Disks with a tap that are detached, unbound, destroyed; a disk with no device; calls that are refused.
# timeout: 420
swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
. /payload/tests/blktap.inc
guest_start g pv || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
stall=$LAB_STATE/stall
check "attach" disk_attach g "$disk" xvdb
n=$(disk_id "$id" xvdb)

check "calls that are refused" tap abuse "$id" "$n"
is "the disk has been let go" "$(tap info "$id" "$n" pid)" 0
available() { awk '/MemAvailable/ { print $2 }' /proc/meminfo; }
before=$(available)
check "attached again and again" tap cycle "$id" "$n" --count 20
# Each time it wrote to 24 MiB.
check "no page is lost" eval '[ "$(available)" -gt $((before - (128 << 10))) ]'
check_fails "rmmod is refused while there is a tap" rmmod blktap
check "remove" tap set "$id" "$n" remove
check "rmmod" rmmod blktap
check "insmod again" driver_load blktap
exec {file}<>/dev/blktap
check_fails "rmmod is refused while a file is open" rmmod blktap
exec {file}>&-

# Who has a disk.
touch "$stall"
tap_start fork "$id" "$n" --stall "$stall"
wait_for 20 tap_over
check_fails "a child keeps the disk" eval '[ "$(tap info "$id" "$n" pid)" = 0 ]'
rm "$stall"
check "... until it ends" wait_for 20 eval '[ "$(tap info "$id" "$n" pid)" = 0 ]'
tap_start exec "$id" "$n"
check "another program in the same process has not" wait_for 2 eval '[ "$(tap info "$id" "$n" pid)" = 0 ]'
tap_start noop "$id" "$n"
first=$tap_pid
python3 -IS "$blktap" noop "$id" "$n" --wait >"$LAB_STATE/second.log" 2>&1 &
second=$!
sleep 2
check_fails "a second program waits" grep -q attached "$LAB_STATE/second.log"
kill -9 "$first"
check "... for the end of the first" wait_for 20 grep -q attached "$LAB_STATE/second.log"
check "... and serves" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null'
kill -9 "$second"

# A program that waits for itself, and never answers, keeps nobody from taking the tap away.
tap_start stuck "$id" "$n"
guest_bg g dd 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
check "a program is stuck" wait_for 20 grep -q stuck "$LAB_STATE/tap.log"
python3 -IS "$blktap" noop "$id" "$n" --wait >"$LAB_STATE/second.log" 2>&1 &
second=$!
sleep 1
check "remove" tap set "$id" "$n" remove
check "... gives its request to the disk" guest_wait g dd
check "... and the disk to whoever waits for it" wait_for 20 grep -q attached "$LAB_STATE/second.log"
check "what the old one says of the disk" wait_for 20 grep -q "geometry: ENODEV" "$LAB_STATE/tap.log"
check "... goes past the new one" guest_run g '[ "$(cat /sys/block/xvdb/size)" = 131072 ]'
tap_kill
kill -9 "$second"
wait_for 5 eval '[ "$(tap info "$id" "$n" pid)" = 0 ]'

# A detach, with a program that works, one that does not, and none.
tap_start noop "$id" "$n"
check "detach with a program" disk_detach g xvdb
check "... which is told" wait_for 20 grep -q gone "$LAB_STATE/tap.log"
is "no tap any more" "$(tap list)" ""
python3 -IS "$blktap" noop "$id" "$n" --wait >"$LAB_STATE/second.log" 2>&1 &
second=$!
check "attach" disk_attach g "$disk" xvdb
check "whoever waits gets it" wait_for 20 grep -q attached "$LAB_STATE/second.log"
kill -9 "$second"
touch "$stall"
wait_for 5 eval '[ "$(tap info "$id" "$n" pid)" = 0 ]'
tap_start noop "$id" "$n" --stall "$stall"
guest_bg g dd 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
sleep 1
echo "vbd-$id-$n" >/sys/bus/xen-backend/drivers/rust-blkback/unbind
check "unbound, with a program that does not answer" wait_for 10 test ! -e "/sys/bus/xen-backend/devices/vbd-$id-$n/driver"
echo "vbd-$id-$n" >/sys/bus/xen-backend/drivers/rust-blkback/bind
guest_wait g dd
rm "$stall"
check "... which is told" wait_for 20 grep -q gone "$LAB_STATE/tap.log"
check "bound again, without a tap" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null'

# A detach by force, with requests that no program takes.
touch "$stall"
tap_start noop "$id" "$n" --stall "$stall"
guest_bg g dd 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
sleep 1
tap_kill
rm "$stall"
check "detach by force" disk_detach g xvdb force
is "no tap any more" "$(tap list)" ""
check "attach as another one" disk_attach g "$disk" xvde
n=$(disk_id "$id" xvde)

# No device behind the disk.
cat >/etc/xen/scripts/block-none <<'END'
#!/bin/sh
[ "$1" != add ] || xenstore-write "$XENBUS_PATH/hotplug-status" connected
END
chmod +x /etc/xen/scripts/block-none
check "a disk without a device" timeout 60 xl block-attach "$id" "script=block-none,vdev=xvdd,access=w,target=none"
m=$(disk_id "$id" xvdd)
tap_start ram "$id" "$m" --geometry --sectors 65536 --sector-size 4096 --policy error
check "the guest has it" wait_for 20 guest_run g '[ "$(cat /sys/block/xvdd/size)" = 65536 ]'
is "logical block size" "$(guest_run g 'cat /sys/block/xvdd/queue/logical_block_size')" 4096
is "write cache" "$(guest_run g 'cat /sys/block/xvdd/queue/write_cache')" "write back"
check "mkfs and fsck" guest_run -t 120 g 'mkfs.ext4 -q -F /dev/xvdd && e2fsck -fn /dev/xvdd >/dev/null 2>&1'
check "fio verify" guest_run -t 120 g 'fio --name=v --filename=/dev/xvdd --size=8M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null'
tap_kill
check_fails "without the program it fails" guest_run g 'dd if=/dev/xvdd of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
tap_start ram "$id" "$m" --geometry --sectors 131072 --sector-size 4096
check "another size" wait_for 20 guest_run g '[ "$(cat /sys/block/xvdd/size)" = 131072 ]'
check "... and it works" guest_run g 'dd if=/dev/zero of=/dev/xvdd bs=1M seek=63 count=1 oflag=direct 2>/dev/null'
check "detach" disk_detach g xvdd
rm -f /etc/xen/scripts/block-none

# The guest is destroyed, with requests at the program.
touch "$stall"
tap_start noop "$id" "$n" --stall "$stall"
guest_bg g load 'dd if=/dev/zero of=/dev/xvde bs=64k count=500 oflag=direct 2>/dev/null'
sleep 1
check "guest destroyed" guest_destroy g
check "its device goes" wait_for 20 test ! -e "/sys/bus/xen-backend/devices/vbd-$id-$n"
check "the domain is gone" wait_for 20 domain_gone "$id"
rm "$stall"
check "the program is told" wait_for 20 grep -q gone "$LAB_STATE/tap.log"
check "the disk is free" lab_disk_free "$disk"
check "rmmod" wait_for 5 driver_unload blktap
