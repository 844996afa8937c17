# SPDX-License-Identifier: GPL-2.0
# For bench --scale: what a disk more costs. Attaches null_blk disks one after the other to a guest, with each
# pair of drivers, and looks at time and memory after BENCH_SCALE disks, and at what dom0 and the
# guest do in 20 idle seconds. Each result is a line "bench PAIR DISKS 1 KEY=VALUE...".
# timeout: 5000
. /payload/tests/block.inc

free_kb='sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; awk "/^MemFree/ { print \$2 }" /proc/meminfo'
letters=({b..z} a{a..z} b{a..z})

switches() {
	awk '$1 == "ctxt" { print $2 }' /proc/stat
}

now_ms() {
	echo $((${EPOCHREALTIME/./} / 1000))
}

# measure PAIR DISKS ATTACH_MS: memory is that above what there was without a disk, idle as now.
measure() {
	local pair=$1 count=$2 dom0 guest from guest_from
	from=$(switches) guest_from=$(guest_run scale "awk '\$1 == \"ctxt\" { print \$2 }' /proc/stat")
	sleep 20
	from=$(($(switches) - from))
	guest_from=$(($(guest_run scale "awk '\$1 == \"ctxt\" { print \$2 }' /proc/stat") - guest_from))
	dom0=$(sh -c "$free_kb") guest=$(guest_run scale "$free_kb")
	if [ "$count" = 0 ]; then
		dom0_free=$dom0 guest_free=$guest
	fi
	echo "bench $pair $count 1 attach_ms=$3 dom0_kb=$(((dom0_free - dom0) / (count ? count : 1)))" \
		"guest_kb=$(((guest_free - guest) / (count ? count : 1))) dom0_switches=$from guest_switches=$guest_from"
}

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
