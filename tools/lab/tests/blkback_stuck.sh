# SPDX-License-Identifier: GPL-2.0
# A disk that does not answer, and its guest destroyed: other guests get disks, all ends when it answers.
# timeout: 300
swap_driver back ours || bail "no back end"
modprobe dm-mod || bail "no device mapper"
disk=$(lab_disk 64)
dmsetup create stuck --table "0 131072 linear $disk 0" || bail "no mapped device"
dmsetup mknodes
guest_get pvc pv modules=c || bail "no guest"
guest_start g pv modules=c || bail "no second guest"
id=$(guest_domid g)
threads() { pgrep -f "^\[?$id\.xvdb-0" | wc -l; }

check "attach" disk_attach g /dev/mapper/stuck xvdb
guest_bg g load 'dd if=/dev/zero of=/dev/xvdb bs=64k oflag=direct'
sleep 2
check "the disk stops to answer" dmsetup suspend --noflush --nolockfs stuck
sleep 2
check "guest destroyed" guest_destroy g
check "its device goes" wait_for 20 test ! -e "/sys/bus/xen-backend/devices/vbd-$id-51728"
is "its thread waits for the disk" "$(threads)" 1
other=$(lab_disk 16)
check "another guest gets a disk" disk_attach pvc "$other" xvdc
check "... and uses it" guest_run pvc 'dd if=/dev/xvdc of=/dev/null bs=1M count=16 2>/dev/null'
check "... and gives it back" disk_detach pvc xvdc
check "the disk answers" dmsetup resume stuck
check "the thread ends" wait_for 20 eval '[ "$(threads)" = 0 ]'
check "the disk is closed" wait_for 10 dmsetup remove stuck
check "the domain is gone" wait_for 20 domain_gone "$id"

# A front end that says Closed, as that of a guest whose kernel is started anew, while the disk is slow.
dmsetup create stuck --table "0 131072 linear $disk 0" && dmsetup mknodes
guest_start h pv modules=c || bail "no third guest"
id=$(guest_domid h)
state() { xenstore-read "/local/domain/0/backend/vbd/$id/51728/state"; }
check "attach" disk_attach h /dev/mapper/stuck xvdb
check "the disk stops to answer" dmsetup suspend --noflush --nolockfs stuck
guest_bg h load 'dd if=/dev/zero of=/dev/xvdb bs=64k count=1 oflag=direct'
sleep 2
xenstore-write "/local/domain/$id/device/vbd/51728/state" 6
sleep 3
is "the back end waits for it" "$(state)" 5
check "the disk answers" dmsetup resume stuck
check "the back end has closed" wait_for 10 eval '[ "$(state)" = 6 ]'
check "the guest has got its answer" guest_wait -t 10 h load
guest_run h 'echo vbd-51728 >/sys/bus/xen/drivers/vbd/unbind'
xenstore-write "/local/domain/$id/device/vbd/51728/state" 1
check "... and waits for the next front end" wait_for 10 eval '[ "$(state)" = 2 ]'
check "which connects" guest_run h 'echo vbd-51728 >/sys/bus/xen/drivers/vbd/bind
	i=0; until [ -b /dev/xvdb ]; do sleep 0.1; i=$((i + 1)); [ $i -lt 100 ] || exit 1; done'
check "... and is served" guest_run h 'dd if=/dev/xvdb of=/dev/null bs=1M count=4 2>/dev/null'
check "guest destroyed" guest_destroy h
check "its device goes" wait_for 20 test ! -e "/sys/bus/xen-backend/devices/vbd-$id-51728"
check "the disk is closed" wait_for 10 dmsetup remove stuck
check "rmmod" driver_unload blkback
check "insmod again" driver_load blkback
