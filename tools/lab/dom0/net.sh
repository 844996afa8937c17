# SPDX-License-Identifier: GPL-2.0
# Network interfaces. dom0 has a bridge, xenbr0, with the address 10.9.0.1; a guest's interface gets
# another one of that network.

# net_bridge: make the bridge, if it is not there.
net_bridge() {
	[ -d /sys/class/net/xenbr0 ] || {
		modprobe bridge && ip link add xenbr0 type bridge && ip addr add 10.9.0.1/24 dev xenbr0 &&
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
			[ "$(cat $d/address 2>/dev/null)" = 00:16:3e:0a:00:01 ] && [ "$(cat $d/flags)" = 0x1002 ] &&
				ip addr add 10.10.0.2/24 dev $n && ip link set $n up
		done; sleep 0.05
	done'
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
