# SPDX-License-Identifier: GPL-2.0
# Measures in dom0: each pair of drivers in turn, the same jobs on each.
# timeout: 5000
#
# From the command (lab.env): BENCH_PAIRS and BENCH_JOBS, as in block.inc, in the order to measure;
# BENCH_REPEAT, how often each job.
. /payload/tests/block.inc

repeat() {
	for ((i = 1; i <= BENCH_REPEAT; i++)); do
		bench_job "$1" "$2" "$i" || not_ok "$1: $2"
	done
}

for pair in $BENCH_PAIRS; do
	bench_jobs "$pair" repeat
done
ok "measured"
