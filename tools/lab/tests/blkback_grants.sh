# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: pages are kept mapped, as many and as long as the parameters say.
# timeout: 240
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
id=$(guest_domid pvc)
disk=$(lab_disk 64)
params=/sys/module/blkback/parameters
before=$(grants_in_use "$id")
node=/local/domain/0/backend/vbd/$id/51728

# A load of 128 pages at a time, which the front end takes from its pool.
load() {
	guest_run pvc 'fio --name=l --filename=/dev/xvdb --size=16M --rw=randwrite --bs=16k --ioengine=libaio --iodepth=32 --direct=1 --verify=crc32c --output-format=terse' && return
	# What has not been done, and who waits for it.
	grep -H . "/sys/bus/xen-backend/devices/vbd-$id-51728/statistics"/*
	guest_run -t 20 pvc 'cat /sys/block/xvdb/inflight; for p in $(pidof fio); do cat /proc/$p/stack; done'
	return 1
}
# kept: the pages that are mapped beside the ring's.
kept() {
	echo $(($(grants_in_use "$id") - before - 1))
}
kept_is() {
	local n
	n=$(kept)
	[ "$n" -ge "$1" ] && [ "$n" -le "$2" ] || { echo "$n pages are mapped"; return 1; }
}

is "names and defaults" "$(cd "$params" && grep -H . * | grep -v max_queues | tr '\n' ' ')" \
	"buffer_squeeze_duration_ms:10 feature_persistent:Y log_stats:0 max_buffer_pages:1024 max_persistent_grants:1056 max_ring_page_order:4 persistent_grant_unused_seconds:60 poll_us:50 polling:1 "
is "permissions" "$(stat -c '%n %a' "$params"/* | sed 's,.*/,,' | tr '\n' ' ')" \
	"buffer_squeeze_duration_ms 644 feature_persistent 644 log_stats 644 max_buffer_pages 644 max_persistent_grants 644 max_queues 644 max_ring_page_order 444 persistent_grant_unused_seconds 644 poll_us 644 polling 644 "
is "a queue for each CPU" "$(cat "$params/max_queues")" "$(nproc)"

check "attach" disk_attach pvc "$disk" xvdb
is "pages may be kept" "$(xenstore-read "$node/feature-persistent")" 1
check "fio verify" load
check "pages are kept" kept_is 4 1056
echo 1 >"$params/persistent_grant_unused_seconds"
check "the disk is read" guest_run pvc 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
check "what is not used goes" wait_for 20 kept_is 0 0
echo 60 >"$params/persistent_grant_unused_seconds"
echo 20 >"$params/max_persistent_grants"
check "fio verify with less room" load
check "no more are kept" wait_for 10 kept_is 1 20
check "detach" disk_detach pvc xvdb
is "no grants left" "$(grants_in_use "$id")" "$before"
echo 1056 >"$params/max_persistent_grants"

echo 0 >"$params/feature_persistent"
check "attach, pages not kept" disk_attach pvc "$disk" xvdb
is "... as it says" "$(xenstore-read "$node/feature-persistent")" 0
check "fio verify" load
check "none is" kept_is 0 0
check "detach" disk_detach pvc xvdb
echo 1 >"$params/feature_persistent"
is "no grants left" "$(grants_in_use "$id")" "$before"
