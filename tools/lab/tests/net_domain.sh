# SPDX-License-Identifier: GPL-2.0
# Both ends ours, the back end in a driver domain, which is destroyed and started again with TCP connections
# both ways: the guest's interface stays, without a link, and the connections go on with the new domain.
# timeout: 180
swap_driver net ours || bail "no back end"
disk=$(lab_disk 16)
swap_driver back ours || bail "no back end for the disk"
guest_start g pv modules=none &
driver_domain_start drv "$disk" &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
guest_run g "$free_at_once"
check "front end" guest_net_driver g ours
id=$(guest_domid g)
none=$(hostile grants "$id" all)
no_grant_left() {
	[ "$(hostile grants "$id" all)" = "$none" ]
}

# The driver domain has an interface of dom0's, and a bridge of its own.
serve() {
	net_attach_only drv 50 script="$LAB/vif-quick" && guest_put drv "$LAB/vif-quick" /run/vif-quick &&
		guest_run -t 60 drv 'chmod 755 /run/vif-quick && insmod /lab/modules/netback.ko && insmod /lab/modules/netfront.ko && modprobe bridge &&
		brctl addbr xenbr0 && ip link set xenbr0 up && until [ -d /sys/class/net/eth0 ]; do sleep 0.1; done &&
		brctl addif xenbr0 eth0 && ip link set eth0 up'
}
# The guest's interface, of whichever driver domain there is.
attach() {
	timeout $((60 * LAB_STRETCH)) xl network-attach "$id" mac=00:16:3e:09:00:33 bridge=xenbr0 backend=drv script=/run/vif-quick
}
check "the driver domain has a bridge" serve
check "attach" attach
check "the guest has an interface" guest_run -t 40 g 'until [ -d /sys/class/net/eth0 ]; do sleep 0.1; done
	ip addr add 10.9.0.51/24 dev eth0 && ip link set eth0 up'
check "and a link" wait_for 20 net_link g 1
streams_start g 10.9.0.51 || bail "no connections"
check "both ways" wait_for 20 streams_go_on
index=$(guest_run g 'cat /sys/class/net/eth0/ifindex')
for how in destroyed crashed; do
	old=$(guest_domid drv)
	case $how in
	destroyed) check "the driver domain is destroyed" xl destroy drv ;;
	crashed) check "the driver domain crashes" xl sysrq drv c ;;
	esac
	check "it has gone" wait_for 20 domain_gone "$old"
	check "the guest has no link" wait_for 5 net_link g 0
	check "it starts again" driver_domain_start drv "$disk"
	check "with its bridge" serve
	# libxl has a record of its own
	xenstore-rm "/libxl/$id/device/vif/0"
	check "attach" attach
	check "the guest has a link" wait_for 20 net_link g 1 || diag "$(xenstore-ls "/local/domain/$id/device/vif")" "$(guest_dmesg g | tail -n 5)"
	streams_note
	check "the connections go on" wait_for 30 streams_go_on
done
is "it is the same interface" "$(guest_run g 'cat /sys/class/net/eth0/ifindex')" "$index"
check "of the new device" guest_run g 'readlink -f /sys/class/net/eth0 | grep /vif-0/net/eth0'
check "no byte is missing" streams_stop g
xl network-detach "$id" 0
check "detach" wait_for 20 guest_run g '[ ! -d /sys/class/net/eth0 ]'
check "no grant is left" wait_for 5 no_grant_left || diag "before: $none, now: $(hostile grants "$id" all)"
guest_net_driver g none
guest_stop g
guest_destroy drv
