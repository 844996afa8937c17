# SPDX-License-Identifier: GPL-2.0
# A guest sends well-formed requests, a quarter of them mutated, until $SOAK_COUNT (100000) are sent.
# timeout: 3600
#
# SOAK_SECONDS=N ends it after that time, with whatever count.
# Not among the tests that run by default: SOAK_COUNT=1000000 tools/lab/lab run soak/soak_front.sh
# After each part the grants are counted, and an innocent disk is compared. A part that fails is
# repeated by `hostile front soak` with the --seed and --from that it has printed.

count=${SOAK_COUNT:-100000} seed=${SOAK_SEED:-1} part=50000 end=$((SECONDS + ${SOAK_SECONDS:-3500}))

settled() {
	local now
	for _ in {1..40}; do
		now=$(hostile grants "$id")
		[ "$now" = "$before" ] && return
		sleep 0.1
	done
	echo "grants: $now; before: $before"
	return 1
}

swap_driver back "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=none || bail "no guest"
guest_run g "$free_at_once"
id=$(guest_domid g)
innocent=$(lab_disk 16) disk=$(lab_disk 16)
guest_run g 'echo 0 >/sys/bus/xen/drivers_autoprobe; modprobe -a xen-gntalloc xen-evtchn' || bail "no modules in the guest"
# What the innocent disk has granted is to come to rest.
guest_driver g none && guest_run g 'cd /lab/modules; insmod rust_xenbus.ko && insmod blkfront.ko feature_persistent=0 max_indirect_segments=0' ||
	bail "no front end"
disk_attach_only g "$innocent" xvda && disk_attach_only g "$disk" xvdb || bail "no disks"
check "innocent disk appears" guest_run g 'echo vbd-51712 >/sys/bus/xen/drivers/blkfront/bind
	i=0; until [ -b /dev/xvda ]; do sleep 0.1; i=$((i + 1)); [ $i -lt 100 ] || exit 1; done
	dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/xvda bs=64k conv=fsync'
before=$(hostile grants "$id")
diag "before: $before"
sent=0
while [ "$sent" -lt "$count" ] && [ $SECONDS -lt $end ]; do
	n=$((count - sent < part ? count - sent : part))
	output=$(guest_run -t 900 g "hostile front soak --device 51728 --count $n --seed $seed --seconds $((end - SECONDS)) --timeout $((10 * LAB_STRETCH))")
	status=$?
	sed 's/^\([^#]\)/# \1/' <<<"$output"
	n=$(awk '/^# soak:/ { print $3 }' <<<"$output")
	is "${n:-0} messages, seed $seed" $status 0
	[ $status = 0 ] || break
	check "grants after $((sent += n)) messages" settled || break
	check "innocent disk" guest_run g 'dd if=/dev/xvda bs=64k count=16 iflag=direct 2>/dev/null | cmp - /tmp/data' || break
	seed=$((seed + 1))
done
guest_stop g
