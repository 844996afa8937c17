# SPDX-License-Identifier: GPL-2.0
# A ring that is polled: the mode is switched on a live disk under load; a thread that always polls gets no
# events and sleeps never, one that polls as long as it is worth it costs nothing when idle.
# timeout: 300
# cpus: 2
swap_driver back ours || bail "no back end"
guest_get pvc pv modules=c || bail "no guest"
id=$(guest_domid pvc)
disk=$(lab_disk 64)
check "attach" disk_attach pvc "$disk" xvdb
polling=/sys/bus/xen-backend/devices/vbd-$id-51728/polling
thread=$(pgrep -f "^\[?$id\.xvdb-0")

# How long the thread has run, in 10 ms.
ran() { awk '{ print $14 + $15 }' "/proc/$thread/stat"; }
# How many events it has got.
events() { awk '/blkif-backend/ { for (i = 2; i < NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts; }
idle() {
	local from
	from=$(ran)
	sleep 3
	echo $(($(ran) - from))
}
requests() {
	local from
	from=$(events)
	guest_run pvc 'fio --name=r --filename=/dev/xvdb --rw=randread --bs=4k --iodepth=1 --ioengine=libaio --direct=1 --number_ios=2000 --size=32M --norandommap --output-format=terse' >/dev/null || echo failed
	echo $(($(events) - from))
}

is "at first" "$(cat "$polling")" "never [adaptive] always"
for word in sometimes "" 3 -1; do
	check_fails "'$word' is refused" sh -c "echo '$word' >$polling"
done
is "it stays" "$(cat "$polling")" "never [adaptive] always"

check "never" sh -c "echo never >$polling"
n=$(requests)
check "an event a request, about ($n of 2000)" test "$n" -gt 1000
n=$(idle)
check "idle, it sleeps ($n of 300)" test "$n" -lt 15
check "always, by number" sh -c "echo 2 >$polling"
is "it is shown" "$(cat "$polling")" "never adaptive [always]"
n=$(requests)
check "hardly an event ($n of 2000)" test "$n" -lt 200
n=$(idle)
check "idle, it runs ($n of 300)" test "$n" -gt 100
check "adaptive" sh -c "echo adaptive >$polling"
sleep 1
n=$(idle)
check "idle, it sleeps ($n of 300)" test "$n" -lt 15
# How long at most: whatever time a request takes here, a second is more.
most=/sys/module/blkback/parameters/poll_us before=$(<$most)
echo 1000000 >$most
n=$(requests)
check "adaptive for a second: hardly an event ($n of 2000)" test "$n" -lt 500
echo 0 >$most
n=$(requests)
check "for no time: an event a request, about ($n of 2000)" test "$n" -gt 1000
echo "$before" >$most

guest_bg pvc load 'fio --name=v --filename=/dev/xvdb --size=24M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --output-format=terse'
for i in {1..10}; do
	for mode in always never adaptive; do
		echo $mode >"$polling"
		sleep 0.2
	done
done
check "switched under load, the data are right" guest_wait -t 90 pvc load
echo always >"$polling"
check "detach while it polls" disk_detach pvc xvdb
