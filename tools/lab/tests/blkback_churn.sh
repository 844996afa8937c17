# SPDX-License-Identifier: GPL-2.0
# Our back end, C front end: detached under load, by force, guest destroyed under load; nothing leaks.
# timeout: 420
swap_driver back ours || bail "no back end"
guest_start g pv modules=c || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
before=$(grants_in_use "$id")

threads() { pgrep -cf "^\[?$id\.xvd"; }
load() { guest_bg g "$1" "fio --name=l --filename=/dev/xvdb --size=32M --rw=randrw --bs=16k --ioengine=libaio --iodepth=32 --direct=1 --time_based --runtime=60 --output-format=terse"; }

many() {
	local i
	for i in {1..4}; do
		disk_attach_only g "$disk" xvdb || return 1
		# every other time the front end is still connecting when the disk goes
		[ $((i % 2)) = 0 ] || wait_for 20 guest_run g '[ -b /dev/xvdb ]' || return 1
		disk_detach g xvdb || return 1
	done
}
check "attach and detach, over and over" many
is "no thread left" "$(threads)" 0

check "attach" disk_attach g "$disk" xvdb
load one
sleep 3
check "detach under load" disk_detach g xvdb
wait_for 15 guest_run g '[ -e /run/one.status ]'
is "no thread left" "$(threads)" 0
is "no grants left" "$(grants_in_use "$id")" "$before"

# The C front end stops its queue when the disk closes, and starts it with the next response only: if
# all is answered by then, a request that still sits in its scheduler waits for ever, and it takes no
# other device. Once in some fifteen times; what follows is tried in another guest then.
if guest_run g '[ ! -e /run/one.status ]'; then
	check "... though all that it sent is answered" guest_run g 'mount -t debugfs none /sys/kernel/debug; cd /sys/kernel/debug/block/xvdb &&
		grep STOPPED hctx*/state && [ "$(cat hctx*/tags | grep "^busy=" | sort -u)" = busy=0 ]'
	guest_destroy g
	guest_start g pv modules=c || bail "no other guest"
	id=$(guest_domid g)
	before=$(grants_in_use "$id")
else
	# It ends its old device in its own time; a new one of the same number comes after it.
	check "the guest lets go" wait_for 30 guest_run g '[ ! -e /sys/bus/xen/devices/vbd-51728 ]'
fi
check "attach" disk_attach g "$disk" xvdb
load two
sleep 3
check "forced detach under load" disk_detach g xvdb force
is "no thread left" "$(threads)" 0
is "no grants left" "$(grants_in_use "$id")" "$before"
check "dom0 reads the disk" dd if="$disk" of=/dev/null bs=1M status=none
guest_destroy g

guest_start h pv modules=c || bail "no second guest"
id=$(guest_domid h)
check "attach" disk_attach h "$disk" xvdb
guest_bg h three "fio --name=l --filename=/dev/xvdb --size=32M --rw=randrw --bs=16k --ioengine=libaio --iodepth=32 --direct=1 --time_based --runtime=60 --output-format=terse"
sleep 3
check "guest destroyed under load" guest_destroy h
check "the device goes" wait_for 20 test ! -e "/sys/bus/xen-backend/devices/vbd-$id-51728"
is "no thread left" "$(threads)" 0
check "no domain left in Xen" wait_for 20 domain_gone "$id"
check "rmmod" driver_unload blkback
check "insmod again" driver_load blkback
