# SPDX-License-Identifier: GPL-2.0
# For bench --profile, with insns.c in QEMU: on each pair of drivers in turn the job BENCH_JOB with
# few requests and with many, and a mark before, between and after the two. The difference of the
# two is what the additional requests take, and nothing else. Leaves the kernels' symbols in the logs.
# timeout: 3000
. /payload/tests/block.inc

cp /proc/kallsyms "$LAB_DIR/dom0.symbols"
cat /proc/xen/xensyms >"$LAB_DIR/xen.symbols"

marked() {
	local pair=$1 job=$2 name rw block depth requests rest
	IFS=: read -r name rw block depth requests rest <<<"$job"
	[ "$pair" = none ] || guest_run bench 'grep -E "\[(xen_)?blkfront|\[rust_xenbus" /proc/kallsyms' >"$LAB_DIR/${pair/\//-}.guest.symbols"
	grep '\[' /proc/kallsyms >"$LAB_DIR/${pair/\//-}.dom0.symbols"
	# the first warms up: what is kept mapped, the slabs
	bench_job "$pair" "$job" warm || not_ok "$pair: $job"
	bench-mark
	bench_job "$pair" "$job" few || not_ok "$pair: $job"
	bench-mark
	bench_job "$pair" "$name:$rw:$block:$depth:$((requests * 3)):$rest" many || not_ok "$pair: $job"
	bench-mark
}

for pair in $BENCH_PAIRS; do
	bench_jobs "$pair" marked
done
ok "profiled"
