# SPDX-License-Identifier: GPL-2.0
# Programs that keep something of their own are killed under load, and run out of room, lose their server,
# or the end of a file: the guest sees a pause or an error, and all lives on.
# timeout: 300
swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
guest_get pv1 pv || bail "no guest"
id=$(guest_domid pv1)
room=$LAB_STATE/room
mkdir -p "$room" && mount -t tmpfs -o size=24M none "$room" || bail "no file system"
disk=$(lab_disk 16)
check "attach" disk_attach pv1 "$disk" xvdb
pid() { cat "/run/blktap/$id-51728.pid"; }
dd_run() { guest_run -t 60 pv1 "dd if=$1 of=$2 bs=64k $3 2>/dev/null"; }

# kills CHAIN: five times, while the guest verifies.
kills() {
	local i bad=0
	tapctl attach pv1 xvdb "$1" || return 1
	guest_bg pv1 load 'fio --name=v --filename=/dev/xvdb --size=12M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --output-format=terse >/dev/null'
	for i in 1 2 3 4 5; do
		sleep 0.3
		kill -9 "$(pid)"
		tapctl attach pv1 xvdb "$1" || bad=1
	done
	guest_wait -t 120 pv1 load && [ $bad = 0 ] && tapctl detach pv1 xvdb
}
check "cow, killed again and again" kills "cow:delta=$room/delta"
rm "$room/delta"
cp "$(command -v bench.qcow2)" "$room/a.qcow2"
check "qcow2, killed again and again" kills "qcow2:$room/a.qcow2"
rm "$room"/*

# No room.
head -c 20M /dev/zero >"$room/full"
check "cow, with little room" tapctl attach pv1 xvdb "cow:delta=$room/delta"
first=$(pid)
check_fails "a write that finds none fails" dd_run /dev/zero /dev/xvdb 'count=256 oflag=direct'
check "... reads go on" dd_run /dev/xvdb /dev/null 'count=256 iflag=direct'
rm "$room/full"
check "... and writes when there is room again" dd_run /dev/zero /dev/xvdb 'count=256 oflag=direct'
is "... by the same program" "$(tapctl list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["pid"])')" "$first"
check "detach" tapctl detach pv1 xvdb
rm "$room/delta"

# No server.
head -c 16M /dev/zero >"$room/disk"
# serve DESCRIPTION: start one, as $server.
serve() {
	blktap serve --nbd "$room/socket" "raw:$room/disk" >"$LAB_STATE/serve.log" 2>&1 &
	server=$!
	check "$1" wait_for 10 test -S "$room/socket" || cat "$LAB_STATE/serve.log"
}
kill_server() {
	kill -9 $server
	wait $server 2>/dev/null
	rm -f "$room/socket"
}
serve "a server"
check "its client" tapctl attach pv1 xvdb "remote:$room/socket,give-up=3s"
check "... works" dd_run /dev/zero /dev/xvdb 'count=16 oflag=direct'
kill_server
guest_bg pv1 early 'dd if=/dev/xvdb of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null'
sleep 0.5
serve "a server again"
check "what was asked for meanwhile is answered" guest_wait pv1 early
kill_server
check_fails "no server for long: it fails" dd_run /dev/xvdb /dev/null 'count=1 iflag=direct'
serve "a server at last"
check "... works again" wait_for 30 dd_run /dev/zero /dev/xvdb 'count=16 oflag=direct'
check "detach" tapctl detach pv1 xvdb
kill $server
wait $server

# No end.
check "a base" tapctl attach pv1 xvdb "cow:base=$room/disk,delta=$room/delta"
truncate -s 8M "$room/disk"
check_fails "cut off: an error where it is missing" dd_run /dev/xvdb /dev/null 'count=1 skip=160 iflag=direct'
check "... and not before" dd_run /dev/xvdb /dev/null 'count=128 iflag=direct'
check "... nor where the guest has written" dd_run /dev/zero /dev/xvdb 'count=16 seek=192 oflag=direct'
check "... which it can read" dd_run /dev/xvdb /dev/null 'count=16 skip=192 iflag=direct'
check "detach" tapctl detach pv1 xvdb
check "the disk below has not noticed" dd_run /dev/xvdb /dev/null 'iflag=direct'
check "detach the disk" disk_detach pv1 xvdb
umount "$room"
check "rmmod" driver_unload blktap
