# SPDX-License-Identifier: GPL-2.0
# For bench --net --scale: what an interface more costs. Attaches interfaces one after the other to a guest, on one
# bridge, with each pair of drivers, and looks after BENCH_SCALE of them at time and memory, at what dom0 and the
# guest do in 20 idle seconds, and at round trips by the first one, the others idle. Each result is a line
# "bench PAIR INTERFACES 1 KEY=VALUE...".
# timeout: 5000
. /payload/tests/net.inc
. /payload/tests/scale.inc

# Nobody else on the bridge says anything.
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6

# one_more INDEX: attached, and up in the guest; the first one has an address.
one_more() {
	net_attach_only scale $((20 + $1)) script="$LAB/vif-quick" || return 1
	guest_run -t 40 scale "i=0; until [ -d /sys/class/net/eth$1 ]; do
		i=\$((i + 1)); [ \$i -lt 400 ] || exit 1; sleep 0.1; done
		[ $1 != 0 ] || ip addr add 10.9.0.20/24 dev eth0
		ip link set eth$1 up
		until [ \"\$(cat /sys/class/net/eth$1/carrier)\" = 1 ]; do
		i=\$((i + 1)); [ \$i -lt 400 ] || exit 1; sleep 0.1; done"
}

# round_trip: how long one takes, in microseconds.
round_trip() {
	guest_run -t 400 scale 'traffic 10.9.0.1 rr 3000' | awk '$1 == "traffic" { printf "%.1f", $3 / $2 * 1e6 }'
}

check "servers" net_serve
for pair in $BENCH_PAIRS; do
	check "$pair: back end" swap_driver net "${pair#*/}"
	# 64 interfaces have more grants than a guest's table has by default.
	check "$pair: guest" guest_start scale pv cpus=1 memory=512 modules=none config='max_grant_frames=128' || continue
	check "$pair: front end" guest_net_driver scale "${pair%/*}"
	guest_run scale 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
	measure "$pair" 0 0 rr_us=0
	n=0 from=$(now_ms) since=0
	for count in $BENCH_SCALE; do
		while [ $n -lt "$count" ]; do
			one_more $n || bail "$pair: interface $n"
			n=$((n + 1))
		done
		attach=$((($(now_ms) - from) / (count - since)))
		measure "$pair" "$count" $attach "rr_us=$(round_trip)"
		since=$count from=$(now_ms)
	done
	check "$pair: guest gone" guest_destroy scale
done
ok "measured"
