# SPDX-License-Identifier: GPL-2.0
# For bench --profile, with insns.c in QEMU: on each pair of drivers in turn the job BENCH_JOB with
# few requests and with many, and a mark before, between and after the two. The difference of the
# two is what the additional requests take, and nothing else. Leaves the kernels' symbols in the logs.
# timeout: 3000
. /payload/tests/block.inc

bench_symbols
for pair in $BENCH_PAIRS; do
	bench_jobs "$pair" bench_marked
done
ok "profiled"
