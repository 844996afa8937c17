# SPDX-License-Identifier: GPL-2.0
# What becomes of an interface in its life: two queues, either end down and up, another driver in the
# guest, a rate, a guest that does not receive, a save and a restore with a transfer going on.
# timeout: 240
swap_driver net "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=none vcpus=2 || bail "no guest"
guest_run g "$free_at_once"
check "front end" guest_net_driver g "$MODULES_FRONT"
grants_note g
answers() {
	guest_run g 'ping -c 1 -W 5 -q 10.9.0.1'
}
vif() {
	echo "vif$(guest_domid g).0"
}
# send: the guest sends 500 kB; leaves how long that takes, in ms, in /run/took
send() {
	local start=${EPOCHREALTIME/./} size
	size=$(timeout 60 busybox wget -q -O - http://10.9.0.30:8081/some | wc -c)
	echo $(((${EPOCHREALTIME/./} - start) / 1000)) >/run/took
	[ "$size" = 500000 ]
}
# bound GUEST 0|1: takes the interface from its driver, or gives it back
bound() {
	guest_run g "echo vif-0 >/sys/bus/xen/drivers/$([ "$MODULES_FRONT" = c ] && echo vif || echo netfront)/$1"
}

# trust 0|1: whether the guest trusts back ends that its interface is connected to from now on
trust() {
	guest_run g "for f in /sys/module/*netfront/parameters/trusted; do echo $1 >\$f || exit 1; done"
}

mkdir -p /run/www
dd if=/dev/zero of=/run/www/big bs=1M count=64 2>/dev/null
net_bridge
busybox httpd -p 8080 -h /run/www
back_queues 2
check "attach" net_attach g 30
node=/local/domain/$(guest_domid g)/device/vif/0
is "two queues" "$(xenstore-read "$node/multi-queue-num-queues" 2>/dev/null)" 2
check "it answers" answers
is "the ring's pages" "$(guest_run g 'cat /sys/class/net/eth0/rxbuf_cur')" 256
check "dom0 sees a speed" ethtool "$(vif)"
diag "$(ethtool "$(vif)" | grep -i speed; ethtool -S "$(vif)" | tr -s '\n ' ' ')"
check_fails "a back end in use is not unloaded" rmmod netback xen_netback
check "the vif goes down and up" sh -c "ip link set $(vif) down && ip link set $(vif) up"
check "it answers" answers
check "the guest's interface goes down and up" guest_run g 'ip link set eth0 down; ip link set eth0 up'
check "it answers" answers
check "the front end is unbound" bound unbind
is "the interface is gone" "$(guest_run g 'ls /sys/class/net | grep eth')" ""
check "a back end that is not trusted" trust 0
check "and bound again" bound bind
check "with an address" guest_run g 'i=0; until ip addr add 10.9.0.30/24 dev eth0 2>/dev/null; do
	i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done; ip link set eth0 up; sleep 1'
check "it answers" answers
guest_run g 'head -c 500000 /dev/urandom >/run/some; cd /run && busybox httpd -p 8081'
check "500 kB are sent" send
diag "$(cat /run/took) ms"
xenstore-write "/local/domain/0/backend/vif/$(guest_domid g)/0/rate" 12500,50000
check "at 250 kB a second, too" send
diag "$(cat /run/took) ms"
check "which takes its time" [ "$(cat /run/took)" -gt 1000 ]
xenstore-rm "/local/domain/0/backend/vif/$(guest_domid g)/0/rate"
check "and without the rate" send
diag "$(cat /run/took) ms"
check "a guest that does not receive" xl pause g
for _ in {1..2000}; do
	printf '%1400s' x >/dev/udp/10.9.0.30/9
done 2>/dev/null
check "and then does" xl unpause g
check "it answers" answers
guest_bg g load 'for n in 1 2 3; do wget -q -O - http://10.9.0.1:8080/big | wc -c; done | sort -u'
sleep 1
check "one that is trusted from the next connection on" trust 1
guest_save_restore g
check "it answers" wait_for 20 answers
is "what it fetched is whole" "$(guest_wait -t 120 g load)" $((64 << 20))
check "detach" net_detach g
grants_check g
check "the front end is unloaded" guest_net_driver g none
guest_stop g
check "so is the back end" swap_driver net none
pkill -f "httpd -p 8080" || :
