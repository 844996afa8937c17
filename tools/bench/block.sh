# SPDX-License-Identifier: GPL-2.0
# Measures in dom0: each pair of drivers in turn, the same jobs on each, over a disk of null_blk.
# timeout: 3000
#
# From the command (lab.env): BENCH_PAIRS and BENCH_JOBS, as in block.inc, in the order to measure;
# BENCH_REPEAT, how often each job.
. /payload/tests/block.inc

bench_null
for pair in $BENCH_PAIRS; do
	[ "$pair" = none ] || check "$pair: attach" bench_attach "$pair"
	for job in $BENCH_JOBS; do
		for ((i = 1; i <= BENCH_REPEAT; i++)); do
			bench_job "$pair" "$job" "$i" || not_ok "$pair: $job"
		done
	done
	[ "$pair" = none ] || check "$pair: detach" disk_detach bench xvdb
done
ok "measured"
