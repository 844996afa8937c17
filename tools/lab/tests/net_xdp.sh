# SPDX-License-Identifier: GPL-2.0
# XDP programs on an interface in use, with our back end and the C one: each verdict, other lengths,
# a redirection to another interface, traffic while programs come and go, what is refused, and what a
# restore leaves.
# timeout: 180
[ "$MODULES_FRONT" = ours ] || { skip "XDP" "the test is of our front end"; exit; }
xdp=/lab/bin/xdp
prog=/lab/bin/xdp.verdicts

# front KEY: what the guest's first interface says in the store
front() {
	xenstore-read "/local/domain/$(guest_domid g)/device/vif/0/$1" 2>/dev/null
}
answers() {
	guest_run g 'ping -c 1 -W 5 -q 10.9.1.1'
}
# stats IF NAME...: the guest's counts
stats() {
	local name
	guest_run g "$xdp stats $1" >/run/stats
	shift
	for name; do
		sed -n "s/^$name //p" /run/stats
	done | xargs
}
# listens: waits until somebody waits for test frames (or is sure to have failed)
listens='for i in $(seq 100); do ! grep -q " 88b5 " /proc/net/packet || break; sleep 0.1; done'
# here IF, got LINES: what comes back from the guest by an interface, when it is as many lines
here() {
	xdp receive "$1" $((20 * LAB_STRETCH)) >/run/here 2>/dev/null &
	receiver=$!
	eval "$listens"
}
got() {
	wait_for 10 eval "[ \$(wc -l </run/here) -ge $1 ]"
	kill $receiver 2>/dev/null
	wait $receiver
	sort /run/here | uniq -c | xargs
}
# frames: one frame for each verdict goes to the guest; what comes out there
frames() {
	local op
	guest_bg g frames "$xdp receive eth0 $((20 * LAB_STRETCH))"
	guest_run g "$listens"
	for op in p d a u t l s g c h; do
		xdp send "$vif" $op 200
	done
	for size in 3500 3600 5000; do
		xdp send "$vif" p $size
	done
	xdp send "$vif" e 100
	guest_wait -t 30 g frames
}
# The op, the length, the first byte of the pattern, how many bytes are not of it. Three packets are not
# there: dropped, aborted, sent back; and two are too large to be in a page with the room around them.
arrived="p 200 20 0
l 328 143 0
s 168 52 0
g 264 20 64
c 160 20 0
h 200 20 0
p 3500 20 0
e 100 20 0"

# A script of ours, for that of xl's makes a bridge of interfaces that are none here.
cat >/etc/xen/scripts/lab-vif <<'end'
#!/bin/sh
[ "$1" = online ] || exit 0
ip link set "$vif" up
case $vif in *.0) ip addr add 10.9.1.1/24 dev "$vif" ;; esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
end
chmod +x /etc/xen/scripts/lab-vif
# plug NUMBER: one more interface of the guest's
plug() {
	timeout -k 5 $((60 * LAB_STRETCH)) xl network-attach g "mac=00:16:3e:09:01:0$1" script=lab-vif || return
	guest_run -t 40 g "i=0; until [ -d /sys/class/net/eth$1 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done; ip link set eth$1 up
		[ $1 != 0 ] || ip addr add 10.9.1.2/24 dev eth0
		until [ \"\$(cat /sys/class/net/eth$1/carrier)\" = 1 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done"
}
# first_is_large: dom0 may send large frames by its end of the first one, but TCP in small packets: what
# is larger than a page does not get past a program.
first_is_large() {
	vif=vif$(guest_domid g).0
	ip link set "$vif" mtu 9000
	ethtool -K "$vif" tso off gso off >/dev/null 2>&1
}
second_gone() {
	timeout $((60 * LAB_STRETCH)) xl network-detach g 1 && wait_for 20 net_gone "$(guest_domid g)" 1
}

# fetch: the guest sends a file while programs come and go
fetch() {
	busybox wget -q -O - http://10.9.1.2:8081/file | sha256sum >/run/sum &
	guest_run g "for i in \$(seq 20); do $xdp attach eth0 $prog && $xdp detach eth0 || exit 1; done" ||
		return 1
	wait $!
	[ "$(cut -d' ' -f1 /run/sum)" = "$(guest_run g 'sha256sum </run/file' | cut -d' ' -f1)" ]
}

# verdicts BACK: all that is to be seen with a back end
verdicts() {
	local b=$1 second
	check "$b: attach" plug 0 || return
	first_is_large
	is "$b: no room is asked for" "$(front xdp-headroom)" 0
	check "$b: a program" guest_run g "$xdp attach eth0 $prog"
	is "$b: there is to be room, the interface is connected" "$(front xdp-headroom) $(front state)" "256 4"
	guest_run g 'cd /sys/kernel/tracing && echo >trace && echo 1 >events/xdp/xdp_exception/enable'
	here "$vif"
	is "$b: what the guest gets" "$(frames)" "$arrived"
	is "$b: what it sends back" "$(got 1)" "1 t 200 20 0"
	is "$b: what was aborted is traced" "$(guest_run g 'cd /sys/kernel/tracing
		grep -o "action=.*" trace | cut -d" " -f1 | xargs; echo 0 >events/xdp/xdp_exception/enable')" \
		"action=ABORTED action=0x4d"
	is "$b: counted: dropped, sent back" "$(stats eth0 rx_xdp_drops rx_xdp_tx)" "5 1"
	check "$b: it answers" answers

	guest_run g 'echo 0 >/sys/module/netfront/parameters/trusted'
	check "$b: a second interface, that trusts nobody" plug 1
	second=$(guest_run g 'cat /sys/class/net/eth1/ifindex')
	here "${vif%.0}.1"
	check "$b: packets to be redirected" xdp send "$vif" r 200 "$second" 100
	is "$b: they are, as they were" "$(got 100)" "100 r 200 20 0"
	is "$b: counted" "$(stats eth0 rx_xdp_redirects) $(stats eth1 tx_xdp_xmits)" "100 100"
	check "$b: another program redirects everything back" guest_run g \
		"$xdp attach eth1 /lab/bin/xdp.patch \$(cat /sys/class/net/eth0/ifindex)"
	here "$vif"
	check "$b: packets" xdp send "${vif%.0}.1" p 1400 0 100
	is "$b: they are there" "$(got 100)" "100 p 1400 20 0"
	check "$b: the second one is gone" second_gone
	guest_run g 'echo 1 >/sys/module/netfront/parameters/trusted'

	check "$b: the guest fetches a file" guest_run g 'wget -q -O /run/file http://10.9.1.1:8080/file'
	is "$b: which is whole" "$(guest_run g 'sha256sum </run/file')" "$sum"
	check "$b: no program" guest_run g "$xdp detach eth0"
	is "$b: no room is asked for" "$(front xdp-headroom) $(front state)" "0 4"
	check "$b: it serves the file while programs come and go" fetch
	check "$b: it answers" answers
}

mkdir -p /run/www
dd if=/dev/urandom of=/run/www/file bs=1M count=4 2>/dev/null
sum=$(sha256sum </run/www/file)
busybox httpd -p 8080 -h /run/www
guest_get g pv modules=none || bail "no guest"
guest_run g "$free_at_once
mount -t tracefs tracefs /sys/kernel/tracing; cd /run && busybox httpd -p 8081"
for back in c ours; do
	check "back end: $back" swap_driver net "$back"
	check "front end" guest_net_driver g ours
	grants_note g
	verdicts "$back"
	[ "$back" = c ] || break
	check "$back: detach" net_detach g
	grants_check g "$back: "
	guest_net_driver g none
done

# The rest is the same with both.
check "a larger MTU" guest_run g 'ip link set eth0 mtu 3503'
is "a program is refused" "$(guest_run g "$xdp attach eth0 $prog" | head -n 1)" \
	"MTU is too large for XDP, at most 3502 works"
check "not with this one" guest_run g "ip link set eth0 mtu 3502 && $xdp attach eth0 $prog"
check_fails "then the MTU is" guest_run g 'ip link set eth0 mtu 3503'
guest_run g 'ip link set eth0 mtu 1500'
guest_save_restore g
check "after a restore, it answers" wait_for 20 answers
is "there is to be room" "$(front xdp-headroom) $(front state)" "256 4"
first_is_large
is "the program is there" "$(frames)" "$arrived"
for p in /sys/module/*netback/parameters/provides_xdp_headroom; do
	echo 0 >"$p"
done
check "a back end without room" plug 1
is "a program is refused" "$(guest_run g "$xdp attach eth1 $prog" | head -n 1)" \
	"back end leaves no headroom for XDP"
for p in /sys/module/*netback/parameters/provides_xdp_headroom; do
	echo 1 >"$p"
done
check "detach" second_gone
check "detach" net_detach g
grants_check g
is "it was warned of a verdict that there is not" \
	"$(guest_dmesg g | grep -c 'Illegal XDP return value 77')" 1
check "the front end is unloaded" guest_net_driver g none
check "so is the back end" swap_driver net none
pkill -f "httpd -p 8080" || :
