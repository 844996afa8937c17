# SPDX-License-Identifier: GPL-2.0
# A guest with few grants: disks that run out of them wait for each other, and lose nothing.
# timeout: 240
swap_driver back "$MODULES_BACK" || bail "no back end"
modprobe -a dm-mod dm-delay || bail "no device mapper"
# Two frames of 512 references; a ring of 32 requests of 256 KB alone could use 2048.
guest_start g pv modules=none vcpus=2 memory=320 config='max_grant_frames=2' || bail "no guest"
guest_run g 'insmod /lab/modules/rust_xenbus.ko && insmod /lab/modules/blkfront.ko max_indirect_segments=64' || bail "no front end"
echo ours >"$LAB_STATE/guests/g/modules"
guest_run g 'mount -t tracefs none /sys/kernel/tracing; cd /sys/kernel/tracing && [ -e kprobe_events ] &&
	echo "p:lab/wait gnttab_request_free_callback" >kprobe_events && echo 1 >events/lab/enable' && traced=1
for d in xvdb xvdc; do
	disk=$(lab_disk 64)
	# Slow, so that there are as many requests at a time as there can be.
	dmsetup create "slow-$d" --table "0 131072 delay $disk 0 100" || bail "no slow disk"
	dmsetup mknodes
	check "attach $d" disk_attach g "/dev/mapper/slow-$d" $d
done
# What one disk does not need any more the other one gets when the back end has let go of it.
unused=$(echo /sys/module/*blkback/parameters/persistent_grant_unused_seconds)
echo 1 >"$unused"
for d in xvdb xvdc; do
	guest_bg g $d "fio --name=v --filename=/dev/$d --size=6M --rw=randwrite --bs=256k --ioengine=libaio --iodepth=32 --direct=1 --verify=crc32c --verify_fatal=1 --output-format=terse"
done
most=0
while [ "$(guest_run g 'ls /run/*.status 2>/dev/null | wc -l' | tr -d '\r')" != 2 ]; do
	sleep 0.3
	now=$(hostile grants "$(guest_domid g)" | awk '{ print $2 }')
	most=$((now > most ? now : most))
	((SECONDS < 200 * LAB_STRETCH)) || break
done
check "xvdb: fio verify" guest_wait g xvdb
check "xvdc: fio verify" guest_wait g xvdc
diag "at most $most were granted"
check "nearly all grants were in use" [ "$most" -ge 900 ]
if [ "$traced" = 1 ]; then
	n=$(guest_run g 'grep -c "wait:" /sys/kernel/tracing/trace' | tr -d '\r')
	check "the disks waited for grants ($n times)" [ "$n" -ge 1 ]
else
	skip "the disks waited for grants" "this kernel has no kprobes"
fi
for d in xvdb xvdc; do
	check "detach $d" disk_detach g $d
	check "the disk is closed" wait_for 10 dmsetup remove "slow-$d"
done
guest_stop g
echo 60 >"$unused"
