# SPDX-License-Identifier: GPL-2.0
# A front end that misbehaves in every way we know; the back end refuses, stops, leaks nothing.
# timeout: 420
#
# The guest has three disks: xvda, served to an ordinary front end, is innocent and has to go on;
# xvdb is the hostile one's; xvdc is like it, but read-only. `hostile` speaks for the last two.

count=${FUZZ_COUNT:-500}
[ "$MODULES_BACK" = ours ] || tolerant=--tolerant

grants() {
	hostile grants "$id"
}

# settled WANT: the grants come to be WANT. The innocent disk has some too, while it works.
settled() {
	local now
	for _ in {1..80}; do
		now=$(grants)
		[ "$now" = "$1" ] && return
		sleep 0.05
	done
	echo "grants: $now; before: $1"
	return 1
}

# hostile_front DEVICE SCENARIO...: their results become ours; then the grants are counted.
hostile_front() {
	local device=$1 names=${*:2}
	results_of guest_run -t 120 g "hostile front $names --device $device --count $count --timeout $((10 * LAB_STRETCH)) $tolerant"
	check "grants after $names" settled "$before" || leaking "$device" $names
}

# One of these leaks: find out which.
leaking() {
	local device=$1 name now last
	shift
	last=$(grants)
	for name; do
		guest_run g "hostile front $name --device $device --count $count --timeout $((10 * LAB_STRETCH)) $tolerant" >/dev/null
		sleep 0.3
		now=$(grants)
		diag "$name: $last, then $now"
		last=$now
	done
}

swap_driver back "$MODULES_BACK" && back_queues 2 || bail "no back end"
guest_start g pv modules=none || bail "no guest"
guest_run g "$free_at_once"
id=$(guest_domid g)
innocent=$(lab_disk 16) rw=$(lab_disk 16) ro=$(lab_disk 16)
dd if=/dev/urandom of="$ro" bs=1M count=16 2>/dev/null
ro_sum=$(sha256sum <"$ro")

# Without autoprobe the front end takes only the disk that it is told to.
guest_run g 'echo 0 >/sys/bus/xen/drivers_autoprobe; modprobe -a xen-gntalloc xen-evtchn' || bail "no modules in the guest"
if [ "$MODULES_FRONT" = ours ]; then
	# What the innocent disk has granted is to come to rest, between its requests.
	guest_driver g none && guest_run g 'cd /lab/modules; insmod rust_xenbus.ko && insmod blkfront.ko feature_persistent=0 max_indirect_segments=0'
else
	guest_run g 'modprobe xen-blkfront feature_persistent=0'
fi || bail "no front end"
disk_attach_only g "$innocent" xvda && disk_attach_only g "$rw" xvdb && disk_attach_only g "$ro" xvdc r || bail "no disks"
check "innocent disk appears" guest_run g 'echo vbd-51712 >$(ls -d /sys/bus/xen/drivers/*vbd* /sys/bus/xen/drivers/*blkfront* 2>/dev/null | head -n 1)/bind
	i=0; until [ -b /dev/xvda ]; do sleep 0.1; i=$((i + 1)); [ $i -lt 100 ] || exit 1; done'
before=$(grants)
diag "before: $before"

# The innocent disk's work: write and compare, a moment of rest between.
guest_bg g innocent 'dd if=/dev/urandom of=/tmp/data bs=16k count=8 2>/dev/null
	while [ ! -e /tmp/stop ]; do
		dd if=/tmp/data of=/dev/xvda bs=16k oflag=direct 2>/dev/null || exit 1
		dd if=/dev/xvda bs=16k count=8 iflag=direct 2>/dev/null | cmp - /tmp/data || exit 2
		sleep 0.5
	done'

hostile_front 51744 write-readonly
is "the read-only disk is as it was" "$(sha256sum <"$ro")" "$ro_sum"
names=$(hostile front --list | awk '$1 !~ /^(write-readonly|state-garbage|state-removed)$/ { print $1 }')
set -- $names
while [ $# -gt 0 ]; do
	hostile_front 51728 "${@:1:12}"
	shift $(($# < 12 ? $# : 12))
done
if [ "$MODULES_BACK" = ours ]; then
	check "storms of events were seen through" [ "$(cat "/sys/bus/xen-backend/devices/vbd-$id-51728/xenbus/spurious_events")" -ge 3 ]
fi
# After the answer nothing is mapped but the ring, as long as pages are not to be kept.
mapped() {
	local now
	for _ in {1..15}; do
		now=$(grants)
		[ "${now##* }" = "$1" ] && return
		sleep 0.1
	done
	echo "grants: $now; mapped should be $1"
	return 1
}
guest_bg g idle "hostile front idle --rest --device 51728 $tolerant"
guest_run g 'i=0; until [ -e /tmp/hostile-idle ]; do sleep 0.1; i=$((i + 1)); [ $i -lt 100 ] || exit 1; done'
check "nothing stays mapped after the answer" mapped $((${before##* } + 1))
guest_wait g idle >/dev/null
# These may cost the device, so each has its own.
hostile_front 51728 state-garbage
hostile_front 51744 state-removed

guest_run g 'touch /tmp/stop'
check "innocent disk has worked all the time" guest_wait -t 20 g innocent
check_fails "no bad request has come as far as the disk" sh -c 'dmesg | grep "beyond end of device"'
check "the driver has said of each ring that it stopped" [ "$(dmesg | grep -ciE 'bogus ring|overrun|stopped')" -ge 3 ]
guest_stop g
