# SPDX-License-Identifier: GPL-2.0
# A guest sends packets, a part of them mutated, until $SOAK_COUNT (100000) are sent.
# timeout: 3600
#
# SOAK_SECONDS=N ends it after that time, with whatever count.
# Not among the tests that run by default: SOAK_COUNT=1000000 tools/lab/lab run soak/soak_net_front.sh
# After each part the grants are counted, and an innocent interface is tried. A part that fails is
# repeated by `hostile netfront fuzz --fatal 2000` with the --seed and --from that it has printed.

count=${SOAK_COUNT:-100000} seed=${SOAK_SEED:-1} part=50000 end=$((SECONDS + ${SOAK_SECONDS:-3500}))

settled() {
	local now
	for _ in {1..40}; do
		now=$(hostile grants "$id" all)
		[ "$now" = "$before" ] && return
		sleep 0.1
	done
	echo "grants: $now; before: $before"
	return 1
}

swap_driver net "$MODULES_BACK" || bail "no back end"
(guest_start g pv modules=none) & (guest_start n pv modules=none) & wait
for g in g n; do
	guest_alive $g || bail "guest $g does not start"
done
guest_run g "$free_at_once"
id=$(guest_domid g)
guest_net_driver n "$MODULES_FRONT" && net_attach n 20 || bail "no innocent interface"
guest_run g 'modprobe -a xen-gntalloc xen-evtchn' || bail "no modules in the guest"
before=$(hostile grants "$id" all)
net_attach_only g 21 || bail "no interface"
diag "before: $before"
sent=0
while [ "$sent" -lt "$count" ] && [ $SECONDS -lt $end ]; do
	n=$((count - sent < part ? count - sent : part))
	output=$(guest_run -t 900 g "hostile netfront fuzz --count $n --fatal 2000 --seed $seed --seconds $((end - SECONDS)) --timeout $((10 * LAB_STRETCH))")
	status=$?
	sed 's/^\([^#]\)/# \1/' <<<"$output"
	n=$(awk '/^# fuzz:/ { print $3 }' <<<"$output")
	is "${n:-0} messages, seed $seed" $status 0
	[ $status = 0 ] || break
	check "grants after $((sent += n)) messages" settled || break
	check "innocent interface" guest_run n 'ping -c 2 -W 5 -q 10.9.0.1' || break
	seed=$((seed + 1))
done
guest_stop g
guest_stop n
