# SPDX-License-Identifier: GPL-2.0
# A program behind a tap is killed, under each policy, and breaks the rules: what the guest sees of it.
# timeout: 480
# expect-dmesg: has broken the rules of its rings
swap_driver back ours || bail "no back end"
back_queues 2
driver_load blktap || bail "no taps"
. /payload/tests/blktap.inc
guest_start g pv vcpus=2 || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64) other=$(lab_disk 16)
check "attach" disk_attach g "$disk" xvdb
check "attach another one" disk_attach g "$other" xvdc
n=$(disk_id "$id" xvdb)
stall=$LAB_STATE/stall
load() { guest_bg g "$1" "fio --name=v --filename=/dev/xvdb --size=${2:-8M} --rw=randwrite --bsrange=4k-64k --numjobs=1 --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null"; }
in_flight() { [ "$(tap queues "$id" "${2:-$n}" fe_in_flight | awk '{ s += $1 } END { print s + 0 }')" -gt "$1" ]; }
tap_start noop "$id" "$n" --mode passthrough
is "queues" "$(tap info "$id" "$n" nr_connected)" 2
tap_stop

# hold
touch "$stall"
tap_start noop "$id" "$n" --stall "$stall" || bail "no program"
load load
check "requests are with the program" wait_for 20 in_flight 5
tap_kill
sleep 1
check "... and wait after its death" in_flight 5
is "state" "$(tap info "$id" "$n" state)" connected
rm "$stall"
tap_start noop "$id" "$n"
check "hold: the next one gets them" guest_wait -t 120 g load
load load 20M
bad=0
for polls in "" --polls "" --polls --polls ""; do
	tap_kill
	tap_start noop "$id" "$n" $polls || bad=1
	sleep 0.7
done
is "killed again and again" "$bad" 0
check "... and the load has not noticed" guest_wait -t 200 g load
tap_stop

# A program that serves the guest's rings, and is stopped: what it has not seen waits in the rings.
tap_start noop "$id" "$n" --polls || bad=1
kill -STOP "$tap_pid"
load load
sleep 1
tap_kill
tap_start noop "$id" "$n" --polls || bad=1
check "... nor if it is stopped first" guest_wait -t 120 g load
tap_stop

# passthrough
for polls in "" --polls; do
	touch "$stall"
	tap_start guest "$id" "$n" --stall "$stall" --policy passthrough $polls
	load load
	check "requests are with the program" wait_for 20 in_flight 5
	tap_kill
	check "passthrough: they go to the disk" guest_wait -t 120 g load
	is "... and so do those that come later" "$(tap info "$id" "$n" mode)" passthrough
done

# error
tap_start noop "$id" "$n" --stall "$stall" --policy error
guest_bg g dd 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>&1'
check "a request is with the program" wait_for 20 in_flight 0
tap_kill
check_fails "error: it fails" guest_wait g dd
check_fails "... and so do those that come later" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
tap_start last "$id" "$n" --policy error
check "... but for what a program has answered that goes at once" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
rm "$stall"
tap_start noop "$id" "$n" --policy passthrough
check "... until there is a program" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
tap_stop

# Programs that want another mode than the one before them, with requests held for them.
touch "$stall"
guest_bg g reads 'until [ -e /tmp/done ]; do dd if=/dev/xvdb of=/dev/null bs=4k count=8 iflag=direct 2>/dev/null; sleep 0.1; done'
bad=0
for i in 1 2; do
	tap_start noop "$id" "$n" --stall "$stall" && wait_for 20 in_flight 0 || bad=1
	tap_kill
	tap_start ram "$id" "$n" --stall "$stall" && wait_for 20 in_flight 0 || bad=1
	tap_kill
done
is "another mode with requests held" "$bad" 0
rm "$stall"
tap_start noop "$id" "$n" --policy passthrough
guest_run g 'touch /tmp/done'
check "... which are answered in the end" guest_wait g reads
tap_stop

# What a program that goes has at the disk is waited for, by whatever queue it went there.
modprobe dm-mod
third=$(lab_disk 16)
dmsetup create slow --table "0 32768 linear $third 0" && dmsetup mknodes
check "attach a disk that can be slow" disk_attach g /dev/mapper/slow xvdd
m=$(disk_id "$id" xvdd)
tap_start cross "$id" "$m" --policy error
check "it does not answer" dmsetup suspend --noflush --nolockfs slow
guest_bg g dd 'dd if=/dev/xvdd of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
check "a request by one queue, another by the other" wait_for 20 grep -q sent "$LAB_STATE/tap.log"
tap_kill
sleep 2
check "the guest's is kept" in_flight 0 "$m"
check "it answers" dmsetup resume slow
check_fails "... and the guest's fails" guest_wait g dd
check "remove" tap set "$id" "$m" remove
check "detach" disk_detach g xvdd
check "the disk is closed" wait_for 10 dmsetup remove slow

# Each write made a barrier: the disk flushes before and after it.
flushes() { awk '{ print $16 }' "/sys/block/${disk#/dev/}/stat"; }
tap_start guest "$id" "$n" --barrier
before=$(flushes)
check "writes" guest_run g 'dd if=/dev/zero of=/dev/xvdb bs=4k count=4 oflag=direct 2>/dev/null'
check "... are stable" [ "$(flushes)" -ge "$((before + 4))" ]
tap_stop

# Rules broken. The other disk goes on, and this one as the policy says.
guest_bg g other 'fio --name=v --filename=/dev/xvdc --size=8M --rw=randrw --bs=4k --ioengine=libaio --iodepth=4 --direct=1 --verify=crc32c --time_based --runtime=30 --output-format=terse >/dev/null'
for how in unknown twice overrun-fe overrun-be "unknown --polls" "overrun-fe --polls"; do
	read -r case polls <<<"$how"
	# There are requests until the program has come and gone.
	guest_bg g "$case" 'rm -f /tmp/over; for i in 1 2 3; do
		until [ -e /tmp/over ]; do dd if=/dev/xvdb of=/dev/null bs=4k count=1 skip=$i iflag=direct 2>/dev/null; sleep 0.1; done &
	done; wait'
	check "$how: the program loses the disk" tap bad "$case" "$id" "$n" --policy passthrough $polls
	guest_run g 'touch /tmp/over'
	guest_wait g "$case" >/dev/null
	check "... and the guest does not" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
done
for how in guest fuzz "fuzz --polls"; do
	read -r case polls <<<"$how"
	check "$how: refused, and no more" tap bad "$case" "$id" "$n" --policy passthrough $polls
done
check "the other disk has not noticed" guest_wait -t 120 g other

check "remove" tap set "$id" "$n" remove
check "detach" disk_detach g xvdb
check "guest ends" guest_stop g
check "rmmod" driver_unload blktap
