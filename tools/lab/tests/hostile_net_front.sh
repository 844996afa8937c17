# SPDX-License-Identifier: GPL-2.0
# A network front end that misbehaves in every way we know; the back end refuses, stops, leaks nothing.
# timeout: 300
#
# Guest g has three interfaces on the bridge, without a driver: `hostile` speaks for them. Guest n, on
# the same bridge, is innocent, and goes on fetching a file.

count=${FUZZ_COUNT:-1000}
[ "$MODULES_BACK" = ours ] || tolerant=--tolerant

# settled WANT: the grants come to be WANT.
settled() {
	local now
	for _ in {1..80}; do
		now=$(hostile grants "$id" all)
		[ "$now" = "$1" ] && return
		sleep 0.05
	done
	echo "grants: $now; before: $1"
	return 1
}

# disabled: how often the driver has said that it disables an interface.
disabled() {
	dmesg | grep -c 'vif disabled'
}

# waiting: how many packets wait for the guest, by debugfs, again and again.
waiting() {
	local line never
	exec {never}<> <(:)
	until read -r -t 0.02 -u "$never"; do
		while read -r line; do
			[[ $line != "Rx internal queue:"* ]] || { line=${line#* pkts } && echo "${line%% *}"; }
		done 2>/dev/null <"/sys/kernel/debug/xen-netback/vif$id.0/io_ring_q0"
	done 2>/dev/null
}

# hostile_net DEVICE SCENARIO...: their results become ours; then messages and grants are counted.
hostile_net() {
	local device=$1 names=${*:2} said
	said=$(disabled)
	guest_run -t 200 g "hostile netfront $names --device $device --count $count --timeout $((10 * LAB_STRETCH)) $tolerant" \
		>/run/hostile.out || echo "#status $?" >>/run/hostile.out
	results_of cat /run/hostile.out
	if [ "$MODULES_BACK" = ours ]; then
		is "each time with one message" $(($(disabled) - said)) \
			"$(awk '/^# disabled/ { print $3 }' /run/hostile.out)"
	fi
	check "grants after $names" settled "$before"
}

swap_driver net none
# For rx-none: the stack's own queue is as long as the interface says (fq_codel's is 10240 packets).
echo pfifo_fast >/proc/sys/net/core/default_qdisc
drain=rx_drain_timeout_msecs=1000
if [ "$MODULES_BACK" = ours ]; then
	driver_load rust_xenbus && insmod /payload/modules/netback.ko $drain
else
	modprobe xen-netback $drain
fi && back_queues 2 || bail "no back end"
(guest_start g pv modules=none) & (guest_start n pv modules=none) & wait
for g in g n; do
	guest_alive $g || bail "guest $g does not start"
done
guest_run g "$free_at_once"
guest_net_driver n "$MODULES_FRONT" || bail "no front end"
id=$(guest_domid g)
mkdir -p /run/www
dd if=/dev/urandom of=/run/www/file bs=64k count=8 2>/dev/null
sum=$(sha256sum /run/www/file | cut -d' ' -f1)
net_bridge
busybox httpd -p 8080 -h /run/www
check "innocent interface appears" net_attach n 20 || bail "no innocent interface"
guest_run g 'modprobe -a xen-gntalloc xen-evtchn' || bail "no modules in the guest"
before=$(hostile grants "$id" all)
for n in 21 22 23; do
	net_attach_only g $n || bail "no interface"
done
diag "before: $before"
guest_bg n innocent "n=0
	while [ ! -e /tmp/stop ]; do
		wget -q -O - http://10.9.0.1:8080/file | sha256sum | grep -q $sum || exit 1
		n=\$((n + 1)); sleep 0.3
	done; echo \$n"

# What debugfs says of a control ring, when a guest has one.
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
(
	exec {never}<> <(:)
	until { read -r line <"/sys/kernel/debug/xen-netback/vif$id.0/ctrl"; } 2>/dev/null && [[ $line == *TOEPLITZ* ]]; do
		read -r -t 0.02 -u "$never"
	done
	: >/run/toeplitz
) &
watcher=$!

if [ -n "$HOSTILE" ]; then
	hostile_net 0 $HOSTILE
else
	waiting >/run/waiting &
	reader=$!
	hostile_net 0 rx-disabled
	kill $reader
	if [ "$MODULES_BACK" = ours ]; then
		check "packets have waited for an interface" [ "$(sort -n /run/waiting | tail -n 1)" -ge 100 ]
		is "none waits for one that is disabled" "$(tail -n 1 /run/waiting)" 0
	fi
	hostile_net 0 all
	# These may cost the device, so each has its own.
	hostile_net 1 state-garbage
	hostile_net 2 state-removed
fi
kill $watcher 2>/dev/null
if [ -z "$HOSTILE" ]; then
	check "debugfs has shown a guest's hash" ls /run/toeplitz
	check "checksums were to be made up for" sh -c "ethtool -S vif$id.0 | grep 'rx_gso_checksum_fixup: [1-9]'"
fi
if [ "$MODULES_BACK" = ours ]; then
	check "storms of events were seen through" [ "$(cat "/sys/bus/xen-backend/devices/vif-$id-0/xenbus/spurious_events")" -ge 3 ]
fi
check "what misbehaved is detached" net_detach g
guest_run n 'touch /tmp/stop'
check "innocent interface has worked all the time" guest_wait -t 30 n innocent
diag "$ktap_out files were fetched"
check "innocent interface goes on" guest_run n 'ping -c 2 -W 5 -q 10.9.0.1'
guest_stop g
guest_stop n
pkill -f "httpd -p 8080" || :
