# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: how many spare pages it keeps, and gives back when memory is short.
# timeout: 180
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
disk=$(lab_disk 64)
params=/sys/module/blkback/parameters
tracing=/sys/kernel/tracing
mountpoint -q $tracing || mount -t tracefs none $tracing
if [ ! -e $tracing/kprobe_events ]; then
	skip "spare pages" "this kernel has no kprobes to count them with"
	exit
fi
# The pages that drivers of dom0 take, and give back; nothing but our disk does here.
echo 'p:lab/taken gnttab_alloc_pages n=%di:s32' >$tracing/kprobe_events
echo 'p:lab/given gnttab_free_pages n=%di:s32' >>$tracing/kprobe_events
echo 1 >$tracing/events/lab/enable
count() { # taken|given: pages since the last `mark`
	awk -v name="$1:" 'index($0, name) { sub(/.*n=/, ""); n += $0 } END { print n + 0 }' $tracing/trace
}
mark() {
	: >$tracing/trace
}
given_is() {
	local n
	n=$(count given)
	[ "$n" -ge "$1" ] && [ "$n" -le "$2" ] || { echo "$n pages were given back"; return 1; }
}
load() {
	guest_run pvc 'fio --name=l --filename=/dev/xvdb --size=8M --rw=randread --bs=16k --ioengine=libaio --iodepth=32 --direct=1 --output-format=terse'
}

# Pages that are kept mapped are in use, not spare.
echo 0 >"$params/feature_persistent"
mark
check "attach" disk_attach pvc "$disk" xvdb
check "load" load
check "load again" load
# 1024 requests of 4 pages each; as many pages are needed as were in flight at once.
taken=$(count taken)
diag "$taken pages for both"
check "pages were taken for it, and served again" [ "$taken" -ge 4 -a "$taken" -le 512 ]
check "none were given back" given_is 0 0

# What calls the kernel's shrinkers, as a lack of memory does.
mark
echo 2 >/proc/sys/vm/drop_caches
check "when memory is short all go" wait_for 10 given_is "$taken" "$taken"

# For so long after that none is kept.
echo 60000 >"$params/buffer_squeeze_duration_ms"
load >/dev/null
echo 2 >/proc/sys/vm/drop_caches
sleep 0.5
mark
check "load" load
sleep 0.2
is "all that were taken went back at once" "$(count given)" "$(count taken)"
echo 10 >"$params/buffer_squeeze_duration_ms"
# A new end of that time comes with the next call only.
echo 2 >/proc/sys/vm/drop_caches
sleep 0.5

echo 4 >"$params/max_buffer_pages"
load >/dev/null
mark
check "load" load
taken=$(count taken)
check "with room for 4 pages more are taken anew" [ "$taken" -ge 100 ]
is "... and given back" "$(count given)" "$taken"
mark
check "detach" disk_detach pvc xvdb
check "the rest goes with the disk" given_is 1 5
echo 1024 >"$params/max_buffer_pages"
echo 1 >"$params/feature_persistent"
echo 0 >$tracing/events/lab/enable
echo >$tracing/kprobe_events

# The line that each ring logs.
echo 1 >"$params/log_stats"
check "attach" disk_attach pvc "$disk" xvdb
check "load" load
echo 0 >"$params/log_stats"
check "a ring logs what it has done" eval \
	'dmesg | grep -E "\(.*xvdb-0\): oo +0 +\| +rd +[0-9]+ +\| +wr +[0-9]+ +\| +f +[0-9]+ +\| +ds +[0-9]+ +\| pg: +[0-9]+/1056"'
check "detach" disk_detach pvc xvdb
