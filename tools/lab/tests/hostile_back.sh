# SPDX-License-Identifier: GPL-2.0
# A back end that misbehaves in every way we know; the front end gives that disk up, leaks nothing.
# timeout: 420
#
# `hostile back` serves disks of its own to a guest with an ordinary front end, has the guest read
# from them, and counts the guest's grants after each. xvda, served by dom0's back end, is innocent
# and has to go on.

tolerant=
[ "$MODULES_FRONT" = ours ] || tolerant=--tolerant

swap_driver back "$MODULES_BACK" || bail "no back end"
# Pages that are not zeroed by the kernel itself, and are full: what the driver does not zero shows.
guest_start g pv modules=none vcpus=2 append=init_on_alloc=0 || bail "no guest"
guest_run g 'dd if=/dev/urandom of=/tmp/full bs=1M count=64 2>/dev/null; rm /tmp/full'
guest_run g "$free_at_once"
if [ "$MODULES_FRONT" = ours ]; then
	guest_driver g ours
else
	# The count of grants is to come to rest.
	guest_run g 'modprobe xen-blkfront feature_persistent=0'
fi || bail "no front end"
innocent=$(lab_disk 16)
disk_attach g "$innocent" xvda || bail "no innocent disk"
guest_run g 'dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/xvda bs=64k conv=fsync' >/dev/null 2>&1

appears="i=0; while [ ! -b /dev/@ ] && [ \$i -lt 20 ]; do sleep 0.25; i=\$((i + 1)); done"
poke="guestctl run g 20 '$appears
	dd if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct'"
# Twice through the page cache, which goes with the last close.
reread="guestctl run g 20 '$appears
	exec 3</dev/@; dd if=/dev/@ of=/tmp/1 bs=4096 skip=256 count=8 && sleep 1 &&
	dd if=/dev/@ of=/tmp/2 bs=4096 skip=256 count=8 && cmp /tmp/1 /tmp/2'"
load="guestctl run g 60 '$appears
	fio --name=load --filename=/dev/@ --rw=randrw --bsrange=4k-128k --direct=1 --ioengine=libaio --iodepth=32 \
		--size=2m --io_size=8m --norandommap --continue_on_error=all --fsync=64'"
# The poke that is still in flight has the console for its 20 s.
irqs="guestctl run g 60 \"awk '/blkif/ { n += \\\$2 + \\\$3 } END { print n + 0 }' /proc/interrupts\""
ulimit -n 16384
results_of hostile back ${HOSTILE:-all} --guest "$(guest_domid g)" --count "${FUZZ_COUNT:-500}" --timeout $((10 * LAB_STRETCH)) --poke "$poke" --reread "$reread" --load "$load" --irqs "$irqs" $tolerant

check "innocent disk still serves" guest_run g 'dd if=/dev/xvda bs=64k count=16 iflag=direct | cmp - /tmp/data'
stopped=$(guest_dmesg g | grep -ciE 'disabled for further use|broke the protocol')
[ -n "$HOSTILE" ] || check "the front end has said of each disk why it stopped" [ "$stopped" -ge 7 ]
disk_detach g xvda
guest_stop g
