# SPDX-License-Identifier: GPL-2.0
# For bench --net, in dom0: each pair of network drivers in turn, the same jobs on each.
# timeout: 5000
#
# From the command (lab.env): BENCH_PAIRS and BENCH_JOBS, as in net.inc, in the order to measure;
# BENCH_REPEAT, how often each job.
. /payload/tests/net.inc

repeat() {
	for ((i = 1; i <= BENCH_REPEAT; i++)); do
		net_job "$1" "$2" "$i" || not_ok "$1: $2"
	done
}

net_all repeat
ok "measured"
