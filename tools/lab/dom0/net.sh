# SPDX-License-Identifier: GPL-2.0
# Network interfaces. dom0 has a bridge, xenbr0, with the address 10.9.0.1; a guest's interface gets
# another one of that network.

# net_bridge: make the bridge, if it is not there. Its address is its own: it has no network card that would give
# it one, and that of a vif is also that of a vif in a driver domain.
net_bridge() {
	[ -d /sys/class/net/xenbr0 ] || {
		modprobe bridge && ip link add xenbr0 address 00:16:3e:09:ff:01 type bridge && ip addr add 10.9.0.1/24 dev xenbr0 &&
			ip link set lo up && ip link set xenbr0 up
	}
}

# net_attach_only GUEST NUMBER [KEY=VALUE...]: xl network-attach to a running guest, on the bridge, whether
# the guest has a driver for it or not. Keys are xl's, such as rate=10Mb/s.
net_attach_only() {
	local guest=$1 number=$2 keys
	shift 2
	keys=$(printf ' %s' "$@")
	net_bridge || return 1
	# shellcheck disable=SC2086
	timeout -k 5 $((60 * LAB_STRETCH)) xl network-attach "$(guest_domid "$guest")" \
		"mac=00:16:3e:09:00:$(printf %02x "$number")" bridge=xenbr0 $keys
}

# net_attach GUEST NUMBER [KEY=VALUE...]: the same, and waits until the guest has the interface, and gives
# that the address 10.9.0.NUMBER.
net_attach() {
	local guest=$1 number=$2
	net_attach_only "$@" || return 1
	guest_run -t 40 "$guest" "i=0; until [ -d /sys/class/net/eth0 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done
		ip addr add 10.9.0.$number/24 dev eth0 && ip link set eth0 up
		until [ \"\$(cat /sys/class/net/eth0/carrier)\" = 1 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done" || {
		echo "net_attach: no interface in $guest" >&2
		net_state "$guest" >&2
		return 1
	}
}

# hostile_addresses GUEST: from now on, until there is a file /tmp/stop, the guest brings up whatever
# interface comes with the address that `hostile netback` gives it.
hostile_addresses() {
	guest_bg "$1" addresses 'while [ ! -e /tmp/stop ]; do
		for d in /sys/class/net/eth*; do
			n=${d##*/}
			read -r address <$d/address && [ "$address" = 00:16:3e:0a:00:01 ] &&
				read -r flags <$d/flags && [ "$flags" = 0x1002 ] &&
				ip addr add 10.10.0.2/24 dev $n && ip link set $n up
		done 2>/dev/null; sleep 0.05
	done'
}

# hostile_program GUEST: prints the command by which `hostile netback --program` has the guest use XDP
# programs on its interface.
hostile_program() {
	# shellcheck disable=SC2016
	guest_run "$1" 'cat >/run/hostile-program <<"end"
d=$(grep -l 00:16:3e:0a:00:01 /sys/class/net/eth*/address)
d=${d%/address}
n=${d##*/}
attach() {
	/lab/bin/xdp attach $n /lab/bin/xdp.verdicts
}
detach() {
	/lab/bin/xdp detach $n
}
case $1 in
attach) attach && cat $d/ifindex ;;
detach) detach ;;
replace) for i in 0 1 2 3 4 5 6 7 8 9; do attach || exit 1; done ;;
cycle) for i in 0 1 2 3 4 5 6 7 8 9; do detach && { attach || attach || attach; } || exit 1; done ;;
down | up) ip link set $n $1 ;;
memory) for i in 0 1 2 3 4 5 6 7 8 9; do grep MemFree: /proc/meminfo; sleep 0.1; done |
	sort -n -k 2 | tail -n 1 | tr -dc 0-9 ;;
esac
end'
	echo "guestctl run $1 $((20 * LAB_STRETCH)) 'sh /run/hostile-program @'"
}

# streams_start GUEST ADDRESS: TCP both ways between the guest, which has that address, and dom0: each end
# sends numbers, and the other one sees that none is missing or comes twice (not with `check`, which would
# wait for them). streams_go_on: whether both
# have gone on since $streams_before, which streams_note sets. streams_stop GUEST: end them; fails if
# anything was wrong.
streams_start() {
	local guest=$1 awk='$1 != NR { print "line " NR " is " $1 >"/run/stream-wrong"; exit 1 }
		NR % 500 == 0 { print NR >>"/run/stream"; close("/run/stream") }'
	streams_guest=$guest
	streams_before='0 0'
	rm -f /run/stream /run/stream-wrong
	# standard input stays open: nc would close its half of the connection
	exec {streams_open}<> <(:)
	busybox nc -l -p 9001 <&"$streams_open" | awk "$awk" &
	guest_bg "$guest" stream-in "tail -f /dev/null | nc -l -p 9002 | awk '$awk'"
	wait_for 10 guest_run "$guest" 'netstat -ltn | grep -q :9002' || return 1
	guest_bg "$guest" stream-out 'seq 1 100000000 | nc 10.9.0.1 9001'
	seq 1 100000000 | busybox nc "$2" 9002 &
}

streams_now() {
	echo "$(tail -n 1 /run/stream 2>/dev/null || echo 0) $(guest_run "$streams_guest" 'tail -n 1 /run/stream 2>/dev/null || echo 0')"
}

streams_note() {
	streams_before=$(streams_now)
}

streams_go_on() {
	local now
	now=$(streams_now)
	echo "before: $streams_before, now: $now"
	[ "${now% *}" -gt "${streams_before% *}" ] && [ "${now#* }" -gt "${streams_before#* }" ]
}

streams_stop() {
	local wrong
	wrong=$(cat /run/stream-wrong 2>/dev/null; guest_run "$1" 'cat /run/stream-wrong 2>/dev/null; killall -q seq tail nc awk')
	echo "$wrong"
	[ -z "$wrong" ]
}

# net_link GUEST 0|1: whether its interface has no link, or one.
net_link() {
	[ "$(guest_run "$1" 'cat /sys/class/net/eth0/carrier')" = "$2" ]
}

# net_detach GUEST: xl network-detach of the first interface; waits until both ends have let go.
net_detach() {
	local id dev
	id=$(guest_domid "$1")
	dev=$(net_id "$id") || { echo "net_detach: $1 has none" >&2; return 1; }
	timeout -k 5 $((60 * LAB_STRETCH)) xl network-detach "$id" "$dev" || return 1
	wait_for 20 net_gone "$id" "$dev" || { net_state "$1" >&2; return 1; }
}

# net_gone DOMID NUMBER: has the back end gone from the store, and its interface?
net_gone() {
	! xenstore-exists "/local/domain/0/backend/vif/$1/$2" 2>/dev/null && [ ! -e "/sys/class/net/vif$1.$2" ]
}

# net_id DOMID: the number of its first interface.
net_id() {
	xenstore-list "/local/domain/0/backend/vif/$1" 2>/dev/null | sort -n | head -n 1 | grep .
}

# net_state GUEST: what the store says of its interfaces.
net_state() {
	local id
	id=$(guest_domid "$1")
	xenstore-ls "/local/domain/0/backend/vif/$id" | sed 's/^/back:  /'
	xenstore-ls "/local/domain/$id/device/vif" | sed 's/^/front: /'
}
