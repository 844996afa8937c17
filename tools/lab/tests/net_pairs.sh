# SPDX-License-Identifier: GPL-2.0
# Our network drivers with each other and with the C ones at the other end, in a PV and in a PVH guest: an
# interface is attached to the running guest, a file goes each way over TCP, it is detached.
# timeout: 300
# cpus: 2

# drivers GUEST: the drivers that its interface has at the two ends.
drivers() {
	local id
	id=$(guest_domid "$1")
	guest_run "$1" 'basename "$(readlink /sys/bus/xen/devices/vif-0/driver)"'
	basename "$(readlink "/sys/bus/xen-backend/devices/vif-$id-0/driver")"
}

# verify GUEST TEXT DRIVERS NUMBER: an interface's whole use.
verify() {
	local g=$1 t=$2 ip=10.9.0.$4 before
	before=$(hostile grants "$(guest_domid "$g")" all)
	check "$t: attach" net_attach "$g" "$4" || return
	is "$t: the drivers are these" "$(echo $(drivers "$g"))" "$3"
	check "$t: ping" guest_run "$g" "ping -c 2 -W 5 -q 10.9.0.1"
	check "$t: ping of whole pages" guest_run "$g" "ping -c 2 -W 5 -q -s 9000 10.9.0.1"
	check "$t: the guest fetches a file" guest_run "$g" "wget -q -O /run/got http://10.9.0.1:8080/file && sha256sum /run/got"
	is "$t: it is the same" "${ktap_out%% *}" "$sum"
	check "$t: dom0 fetches it back" fetch_back "$g" "$ip"
	# The C front end complains when it is detached with something sent that nobody has answered,
	# whichever back end it has.
	[ "${3%% *}" != vif ] || guest_run "$g" 'ip link set eth0 down; sleep 0.5'
	check "$t: detach" net_detach "$g"
	is "$t: the interface is gone" "$(guest_run "$g" 'ls /sys/class/net | grep eth')" ""
	is "$t: no grant is left" "$(guest_run "$g" "/lab/driver net none"; wait_grants "$g" "$before")" "$before"
}

# fetch_back GUEST IP: the guest serves what it has got.
fetch_back() {
	guest_run "$1" 'cd /run && busybox httpd -p 8081'
	[ "$(busybox wget -q -O - "http://$2:8081/got" | sha256sum | cut -d' ' -f1)" = "$sum" ]
	local status=$?
	guest_run "$1" 'killall httpd; rm -f /run/got'
	return $status
}

# wait_grants GUEST NUMBER: how many grants there are, when it is that number, or after a while.
wait_grants() {
	local now n
	for n in {1..25}; do
		now=$(hostile grants "$(guest_domid "$1")" all)
		[ "$now" != "$2" ] || break
		sleep 0.2
	done
	echo "$now"
}

modprobe -a loop
mkdir -p /run/www
dd if=/dev/urandom of=/run/www/file bs=1M count=8 2>/dev/null
sum=$(sha256sum /run/www/file | cut -d' ' -f1)
net_bridge
busybox httpd -p 8080 -h /run/www
(guest_get pv pv modules=none) & (guest_get pvh pvh modules=none) & wait
for g in pv pvh; do
	guest_alive $g || bail "guest $g does not start"
	guest_run $g "$free_at_once"
done
declare -A front_name=([ours]=netfront [c]=vif) back_name=([ours]=rust-netback [c]=vif)
pair() {	# GUEST FRONT BACK NUMBER
	check "$1: front end: $2" guest_net_driver $1 $2
	verify $1 "$1, $2/$3" "${front_name[$2]} ${back_name[$3]}" $4
	guest_net_driver $1 none
}
n=10
for back in ours c; do
	check "back end: $back" swap_driver net $back
	for front in ours c; do
		[ $front/$back = c/c ] || at_once "pair pv $front $back $((n + 1))" "pair pvh $front $back $((n + 2))"
		n=$((n + 2))
	done
done
check "no back end" swap_driver net none
pkill -f "httpd -p 8080" || :
