# SPDX-License-Identifier: GPL-2.0
# Drivers: ours (/payload/modules) and the C ones of the same kernel.

# swap_driver back|net ours|c|none: which block, or network, back end dom0 has.
swap_driver() {
	case $1 in
	back)
		driver_unload xen_blkback blktap blkback && driver_unload_foundation || return 1
		case $2 in
		ours) driver_load rust_xenbus blkback ;;
		c) modprobe xen-blkback ;;
		none) ;;
		*) echo "swap_driver: what is $2?" >&2; return 2 ;;
		esac || return 1
		echo "$2" >"$LAB_STATE/back" ;;
	net)
		driver_unload xen_netback netback && driver_unload_foundation || return 1
		case $2 in
		ours) driver_load rust_xenbus netback ;;
		c) modprobe xen-netback ;;
		none) ;;
		*) echo "swap_driver: what is $2?" >&2; return 2 ;;
		esac || return 1
		echo "$2" >"$LAB_STATE/net" ;;
	*) echo "swap_driver: what is $1?" >&2; return 2 ;;
	esac
}

# back_queues N: so many queues dom0's back ends offer from now on, however many CPUs dom0 has.
back_queues() {
	local f
	for f in /sys/module/{blkback,xen_blkback,netback,xen_netback}/parameters/max_queues; do
		[ ! -e "$f" ] || echo "$1" >"$f" || return 1
	done
}

# driver_now back|net: which one is loaded.
driver_now() {
	cat "$LAB_STATE/$1" 2>/dev/null || echo none
}

# driver_load NAME...: insmod our modules in that order, those that are loaded already left alone.
driver_load() {
	local m
	for m; do
		[ -d "/sys/module/$m" ] || insmod "/payload/modules/$m.ko" || return 1
	done
}

# driver_unload NAME...: rmmod those of them that are loaded.
driver_unload() {
	local m
	for m; do
		[ ! -e "/sys/module/$m/initstate" ] || timeout -k 5 $((60 * LAB_STRETCH)) rmmod "$m" || return 1
	done
}

# driver_unload_foundation: rust_xenbus, unless another of our drivers uses it.
driver_unload_foundation() {
	[ "$(cat /sys/module/rust_xenbus/refcnt 2>/dev/null)" != 0 ] || driver_unload rust_xenbus
}

# guest_net_driver GUEST ours|c|none: which network front end the guest has.
guest_net_driver() {
	guest_run -t 60 "$1" "/lab/driver net $2"
}

# guest_driver GUEST ours|c|none: which block front end the guest has.
guest_driver() {
	guest_run -t 60 "$1" "/lab/driver $2" && echo "$2" >"$LAB_STATE/guests/$1/modules"
}

# grants_in_use DOMID: how many of that domain's grants are mapped or being copied now.
grants_in_use() {
	timeout $((20 * LAB_STRETCH)) xl dmesg -c >>"$LAB_STATE/logs/xl.dmesg.before" 2>/dev/null
	timeout $((20 * LAB_STRETCH)) xl debug-keys g
	sleep 0.3
	timeout $((20 * LAB_STRETCH)) xl dmesg | awk -v d="d$1" '
		/grant-table for remote/ { on = ($0 ~ ("remote " d "( |$)")) }
		on && /\[ *(0x)?[0-9a-f]+\] +[0-9]+ 0x/ { n++ }
		END { print n + 0 }'
}
