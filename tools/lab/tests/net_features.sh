# SPDX-License-Identifier: GPL-2.0
# What is easily forgotten of an interface: parameters and keys, statistics, MTU, ARP when it is connected
# again, netconsole, a guest that does not receive, debugfs, and the scripts vif-route and vif-openvswitch.
# timeout: 200
swap_driver net none
if [ "$MODULES_BACK" = ours ]; then
	driver_load rust_xenbus && insmod /payload/modules/netback.ko rx_stall_timeout_msecs=1500 rx_drain_timeout_msecs=3000
	back=/sys/module/netback/parameters driver=rust-netback
else
	modprobe xen-netback rx_stall_timeout_msecs=1500 rx_drain_timeout_msecs=3000
	back=/sys/module/xen_netback/parameters driver=vif
fi || bail "no back end"
guest_start g pv modules=none vcpus=2 || bail "no guest"
check "front end" guest_net_driver g "$MODULES_FRONT"
id=$(guest_domid g)
vif=vif$id.0
front=/local/domain/$id/device/vif/0
parameter() {
	guest_run g "for f in /sys/module/*netfront/parameters/$1; do echo $2 >\$f || exit 1; done"
}

is "the cache of hashes has its parameter" "$(cat $back/hash_cache_size)" 64
check "one queue for each interface, says the guest" parameter max_queues 1
check "attach, with a back end that is not trusted" net_attach g 30 untrusted script="$LAB/vif-quick"
is "there is one queue" "$(xenstore-read $front/multi-queue-num-queues)" 1
is "the key says so" "$(xenstore-read $front/trusted)" 0

# same: what one end has sent the other has received
counters() {
	guest_run g "cd /sys/class/net/eth0/statistics; cat tx_packets tx_bytes rx_packets rx_bytes" | tr '\n' ' '
	(cd "/sys/class/net/$vif/statistics" && cat rx_packets rx_bytes tx_packets tx_bytes) | tr '\n' ' '
}
same() {
	local tx rx txb rxb vrx vtx vrxb vtxb
	read -r tx txb rx rxb vrx vrxb vtx vtxb < <(counters)
	echo "guest: $tx $txb $rx $rxb, vif: $vrx $vrxb $vtx $vtxb"
	[ "$tx $txb $rx $rxb" = "$vrx $vrxb $vtx $vtxb" ] && [ "$tx" -ge "$1" ] && [ "$rx" -ge "$1" ] &&
		[ "$txb" -ge $(($1 * 1042)) ]
}
check "20 packets each way" guest_run g 'ping -c 20 -i 0.05 -W 5 -q -s 1000 10.9.0.1'
check "both ends have counted the same" wait_for 5 same 20 || diag "$(same 20)"
is "statistics have the names that they should" \
	"$(ethtool -S "$vif" | sed -n 's/^ *\([a-z_]*\): [0-9]*$/\1/p' | tr '\n' ' ')" \
	"rx_gso_checksum_fixup tx_zerocopy_sent tx_zerocopy_success tx_zerocopy_fail tx_frag_overflow "
check "in the guest, too" guest_run g 'ethtool -S eth0 | grep "^ *rx_gso_checksum_fixup: [0-9]*$"'

# What the guest receives of a file in packets of at most 170 bytes.
mkdir -p /run/www
dd if=/dev/urandom of=/run/www/file bs=64k count=8 2>/dev/null
busybox httpd -p 8080 -h /run/www
before=$(cat "/sys/class/net/$vif/statistics/tx_packets")
check "small packets" sh -c "ethtool -K $vif tso off gso off && ip route add 10.9.0.30/32 dev xenbr0 mtu lock 156"
check "the guest fetches a file" guest_run g 'wget -q -O - http://10.9.0.1:8080/file | sha256sum'
is "it is the same" "$ktap_out" "$(sha256sum </run/www/file)"
check "it came in small packets" [ $(($(cat "/sys/class/net/$vif/statistics/tx_packets") - before)) -ge 5000 ]
ethtool -K "$vif" tso on gso on
ip route del 10.9.0.30/32
pkill -f "httpd -p 8080"

check "a link and time stamps" guest_run g 'ethtool eth0 | grep "Link detected: yes" && ethtool -T eth0 | grep software-transmit'
if [ "$MODULES_FRONT" = ours ]; then
	check "a speed" guest_run g 'ethtool eth0 | grep "Speed: 10000Mb/s" && ethtool eth0 | grep "Duplex: Full"'
fi

mtu() {
	guest_run g "ip link set eth0 mtu $1"
}
mtu_is() {
	[ "$(guest_run g 'cat /sys/class/net/eth0/mtu')" = "$1" ]
}
check "an MTU of 9000" mtu 9000
check "without SG ..." guest_run g 'ethtool -K eth0 sg off'
check "... it is 1500" mtu_is 1500
check_fails "... and no more" mtu 9000
check "with SG it may be more" guest_run g 'ethtool -K eth0 sg on && ip link set eth0 mtu 1500'

# rebind: the back end is another one, and its script is run.
rebind() {
	echo "vif-$id-0" >/sys/bus/xen-backend/drivers/$driver/unbind &&
		echo "vif-$id-0" >/sys/bus/xen-backend/drivers/$driver/bind &&
		XENBUS_PATH=backend/vif/$id/0 vif=$vif "$LAB/vif-quick" online
}
if [ "$MODULES_FRONT/$MODULES_BACK" = ours/ours ]; then
	check "the vif's MTU" ip link set "$vif" mtu 9000
	xenstore-write $front/feature-sg 0
	timeout $((20 * LAB_STRETCH)) python3 -c '
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
open("/run/arp", "w")
while True:
	frame = s.recv(2000)
	if frame[28:32] == frame[38:42] == bytes([10, 9, 0, 30]):
		break
' &
	arp=$!
	wait_for 10 test -e /run/arp
	check "the back end is bound again" rebind
	wait $arp
	is "the guest tells where its address is" $? 0
	check_fails "the vif's MTU, for a guest without SG" ip link set "$vif" mtu 9000
	check "it has no SG" sh -c "ethtool -k $vif | grep 'scatter-gather: off'"
	check "it answers" guest_run g 'ping -c 1 -W 5 -q -s 1400 10.9.0.1'
fi

python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.9.0.1", 6666))
while True:
	with open("/run/netconsole", "ab") as f:
		f.write(s.recv(2000))
' &
listener=$!
check "netconsole" guest_run g "modprobe netconsole netconsole=@10.9.0.30/eth0,6666@10.9.0.1/$(cat /sys/class/net/xenbr0/address)"
by_the_network() {
	guest_run g "echo '<0>by the network' >/dev/kmsg"
	grep 'by the network' /run/netconsole
}
check "its message arrives" wait_for 5 by_the_network || diag "$(guest_dmesg g | tail -n 5)"
guest_run g 'rmmod netconsole'
kill $listener

carrier() {
	[ "$(cat "/sys/class/net/$vif/carrier")" = "$1" ]
}
flood() {
	local n
	for ((n = 0; n < 20000; n++)); do
		printf '%1400s' x >/dev/udp/10.9.0.30/9 || return
	done 2>/dev/null
}
check "a guest that does not receive" xl pause g
flood &
flood=$!
check "has no carrier" wait_for 20 carrier 0
kill $flood
check "and then does" xl unpause g
check "has one again" wait_for 20 carrier 1
check "it answers" guest_run g 'ping -c 1 -W 5 -q 10.9.0.1'

debug=/sys/kernel/debug/xen-netback/$vif
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
check "debugfs shows the rings" grep -z 'Queue 0.*TX: nr_ents 256.*req prod [1-9].*RX: nr_ents 256.*req prod [1-9].*NAPI weight: 64.*pkts' \
	$debug/io_ring_q0 || diag "$(cat $debug/io_ring_q0)"
check "a kick" sh -c "echo kick >$debug/io_ring_q0"
check_fails "anything else" sh -c "echo knock >$debug/io_ring_q0"
is "no control ring, no file of it" "$(echo $debug/*)" $debug/io_ring_q0
check "it answers" guest_run g 'ping -c 1 -W 5 -q 10.9.0.1'
check "detach" net_detach g
check_fails "the directory is gone" ls $debug

# guest_has ADDRESS/BITS ROUTE: the guest has an interface, and gives it that.
guest_has() {
	guest_run -t 40 g "i=0; until [ -d /sys/class/net/eth0 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done
		ip addr add $1 dev eth0 && ip link set eth0 up && { [ -z '$2' ] || ip route add $2 dev eth0; }"
}
attach_by() {
	timeout $((40 * LAB_STRETCH)) xl network-attach "$id" mac=00:16:3e:09:00:31 "$@"
}
ln -sf "$(command -v busybox)" /usr/sbin/ifconfig
check "more queues, says the guest" parameter max_queues 2
echo 1 >$back/max_queues
check "attach by vif-route" attach_by script=vif-route ip=10.8.0.2 gatewaydev=xenbr0
check "the guest has it" guest_has 10.8.0.2/32 10.9.0.1
is "there is one queue, says dom0" "$(xenstore-read $front/multi-queue-num-queues)" 1
check "it answers" guest_run g 'ping -c 1 -W 5 -q 10.9.0.1'
check "detach" net_detach g
echo 0 >$back/max_queues

if command -v ovs-vsctl >/dev/null; then
	modprobe openvswitch
	mkdir -p /run/openvswitch
	check "openvswitch" sh -c "ovsdb-tool create /run/ovs.db /usr/share/openvswitch/vswitch.ovsschema &&
		ovsdb-server /run/ovs.db --remote=punix:/run/openvswitch/db.sock --detach --pidfile --no-chdir &&
		ovs-vsctl --no-wait init && ovs-vswitchd --detach --pidfile --no-chdir && ovs-vsctl --timeout=30 add-br ovsbr0 &&
		ip addr add 10.7.0.1/24 dev ovsbr0 && ip link set ovsbr0 up"
	check "attach by vif-openvswitch" attach_by script=vif-openvswitch bridge=ovsbr0
	check "the guest has it" guest_has 10.7.0.2/24
	check "it is a port" sh -c "ovs-vsctl list-ports ovsbr0 | grep $vif"
	check "it answers" guest_run g 'ping -c 1 -W 5 -q 10.7.0.1'
	check "detach" net_detach g
	is "it is no port any more" "$(ovs-vsctl list-ports ovsbr0)" ""
	ovs-vsctl del-br ovsbr0
	kill "$(cat /run/openvswitch/ovs-vswitchd.pid)" "$(cat /run/openvswitch/ovsdb-server.pid)"
fi
guest_stop g
check "the back end is unloaded" swap_driver net none
