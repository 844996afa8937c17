# SPDX-License-Identifier: GPL-2.0
# A tap on the disk of a running guest: each mode, changes of mode under load, programs that come and go.
# timeout: 300
swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
. /payload/tests/blktap.inc
guest_get pv1 pv || bail "no guest"
id=$(guest_domid pv1)
disk=$(lab_disk 64)
check "attach" disk_attach pv1 "$disk" xvdb
n=$(disk_id "$id" xvdb)
verify() { guest_run -t 120 pv1 "fio --name=v --filename=/dev/xvdb --size=${1:-8M} --rw=randrw --bsrange=4k-128k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null"; }

tap_start noop "$id" "$n" || bail "no program"
is "mode" "$(tap info "$id" "$n" mode)" interpose
is "state" "$(tap info "$id" "$n" state)" connected
check "interpose: fio verify" verify
check "... mkfs and fsck" guest_run pv1 'mkfs.ext4 -q -F /dev/xvdb && e2fsck -fn /dev/xvdb >/dev/null 2>&1'
check "a second program is refused" eval 'tap noop "$id" "$n" 2>&1 | grep -q EBUSY'
check "the program ends" tap_stop
is "its requests wait for the next one" "$(tap info "$id" "$n" pid)" 0

tap_start guest "$id" "$n"
check "interpose with the guest's pages: fio verify" verify
tap_stop
tap_start guest "$id" "$n" --no-data
check "... with no data in the window at all" verify
tap_stop

tap_start pass "$id" "$n" --no-data
check "interpose, and the disk answers the guest: fio verify" verify
check "... with flushes" guest_run pv1 'mkfs.ext4 -q -F /dev/xvdb && e2fsck -fn /dev/xvdb >/dev/null 2>&1'
tap_stop

tap_start pass "$id" "$n" --no-data --polls
check "... which serves the guest's ring itself: fio verify" verify
check "... with flushes" guest_run pv1 'mkfs.ext4 -q -F /dev/xvdb && e2fsck -fn /dev/xvdb >/dev/null 2>&1'
tap_stop

tap_start ram "$id" "$n" --sectors 131072
check "intercept-fe: fio verify" verify
tap_stop
tap_start ram "$id" "$n" --sectors 131072 --polls
check "... which serves the guest's ring itself: fio verify" verify
tap_stop
file=$LAB_STATE/disks/direct
truncate -s 64M "$file"
tap_start ram "$id" "$n" --sectors 131072 --file "$file"
check "intercept-fe, O_DIRECT between a file and the window: fio verify" verify
tap_stop
rm "$file"

for polls in "" --polls; do
	tap_start noop "$id" "$n" --mode passthrough $polls
	check "passthrough: fio verify" verify
	guest_bg pv1 load 'fio --name=v --filename=/dev/xvdb --size=16M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --time_based --runtime=10 --output-format=terse >/dev/null'
	bad=0
	for i in $(seq 8); do
		for mode in interpose passthrough; do
			tap set "$id" "$n" mode $mode || bad=1
			sleep 0.3
		done
	done
	is "modes changed under load" "$bad" 0
	check "the load has not noticed" guest_wait -t 120 pv1 load
	tap_stop
done

check "intercept-be: a client reads and writes" tap be "$id" "$n"
check "remove" tap set "$id" "$n" remove
check "no tap any more" eval '[ -z "$(tap list)" ]'
check "without a tap: fio verify" verify
check "detach" disk_detach pv1 xvdb
check "rmmod" driver_unload blktap
