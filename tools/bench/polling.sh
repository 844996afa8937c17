# SPDX-License-Identifier: GPL-2.0
# For bench --polling: event channels against polling, in real time. For the C back end and for ours in each
# mode: fio's latency and requests a second, what dom0's thread has run meanwhile, and in an idle time after it.
# Each result is a line "bench MODE JOB REPETITION KEY=VALUE...".
# timeout: 3000
. /payload/tests/block.inc

thread_ticks() {
	local pid n=0
	for pid in $(pgrep -f "^\[?$(guest_domid bench)\.xvdb-"); do
		n=$((n + $(awk '{ print $14 + $15 }' "/proc/$pid/stat")))
	done
	echo $n
}

run() {
	local mode=$1 name rw block depth requests disk queues from busy idle
	IFS=: read -r name rw block depth requests disk queues <<<"$2"
	from=$(thread_ticks)
	guest_run -t 300 bench "$(bench_fio /dev/xvdb "$rw" "$block" "$depth" "$requests" 1)" >"$LAB_DIR/job" 2>&1 ||
		{ cat "$LAB_DIR/job"; not_ok "$mode: $name"; return; }
	busy=$(($(thread_ticks) - from))
	sleep 1
	from=$(thread_ticks)
	sleep 5
	idle=$(($(thread_ticks) - from))
	# terse, version 3: 8 read IOPS, 9 its ms, 16 mean of completion latency in us; 30: the 99th percentile
	awk -F';' -v head="bench $mode $name $3" -v busy="$busy" -v idle="$idle" '
		$1 == "3" && NF > 100 {
			split($30, p, "=")
			printf "%s read_iops=%s write_iops=0 read_ms=%s mean_us=%s p99_us=%s thread_ms=%d idle_ms=%d\n",
				head, $8, $9, $40, p[2], busy * 10, idle * 10
		}' "$LAB_DIR/job"
}

for mode in c never adaptive always; do
	pair=c/ours
	[ $mode != c ] || pair=c/c
	check "$mode: attach" bench_attach $pair null 1
	[ $mode = c ] || echo $mode >"/sys/bus/xen-backend/devices/vbd-$(guest_domid bench)-51728/polling"
	for job in $BENCH_JOBS; do
		for ((i = 1; i <= BENCH_REPEAT; i++)); do
			run $mode "$job" $i
		done
	done
	check "$mode: detach" bench_detach $pair
done
ok "measured"
