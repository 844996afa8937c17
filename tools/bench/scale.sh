# SPDX-License-Identifier: GPL-2.0
# For bench --scale: what a disk more costs. Attaches null_blk disks one after the other to a guest, with each
# pair of drivers, and looks at time and memory after BENCH_SCALE disks, and at what dom0 and the
# guest do in 20 idle seconds. Each result is a line "bench PAIR DISKS 1 KEY=VALUE...".
# timeout: 5000
. /payload/tests/block.inc
. /payload/tests/scale.inc

letters=({b..z} a{a..z} b{a..z})

rmmod null_blk 2>/dev/null
modprobe null_blk queue_mode=2 irqmode=0 memory_backed=0 nr_devices=64 gb=1 submit_queues=1 || bail "no null_blk"
for pair in $BENCH_PAIRS; do
	check "$pair: back end" swap_driver back "${pair#*/}"
	check "$pair: guest" guest_start scale pv cpus=1 memory=512 "modules=${pair%/*}" || continue
	measure "$pair" 0 0
	n=0 from=$(now_ms) since=0
	for count in $BENCH_SCALE; do
		while [ $n -lt "$count" ]; do
			disk_attach scale "/dev/nullb$n" "xvd${letters[$n]}" || bail "$pair: disk $n"
			n=$((n + 1))
		done
		measure "$pair" "$count" $((($(now_ms) - from) / (count - since)))
		since=$count from=$(now_ms)
	done
	check "$pair: guest gone" guest_destroy scale
done
ok "measured"
