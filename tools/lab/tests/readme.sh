# SPDX-License-Identifier: GPL-2.0
# What README.md says on writing a tap, to the letter: put in, killed, changed, put back, taken away.
# Then the same disk with the example in C.
# timeout: 120
swap_driver back ours || bail "no back end"
guest_get pv1 pv || bail "no guest"
disk=$(lab_disk 64)
check "attach an ordinary disk" disk_attach pv1 "$disk" xvdb
place=$LAB_STATE/readme
mkdir -p "$place/target/release/examples" "$place/bin"
cp /payload/bin/readme/watch "$place/target/release/examples/"

updates=/lib/modules/$(uname -r)/updates
mkdir -p "$updates"
cp /payload/modules/{rust_xenbus,blkback,blktap}.ko "$updates"
depmod

# There is no cargo here. What is built has been built, of the same text.
cat >"$place/bin/cargo" <<'EOF'
#!/bin/sh
[ "$*" = "build --release --example watch" ] && install -m755 /payload/bin/readme/changed target/release/examples/watch
EOF
chmod +x "$place/bin/cargo"

# block N: does what block N says, with the guest's name.
block() {
	local text
	text=$(/payload/bin/readme/readme "$1" | sed 's/\bguest\b/pv1/g') || return
	sed 's/^/# > /' <<<"$text"
	(cd "$place" && PATH=$place/bin:$PATH timeout $((60 * LAB_STRETCH)) bash -euc "$text")
}
export README=/payload/bin/readme/README.md
rm -f /run/blktap/*

guest_bg pv1 load 'fio --name=v --filename=/dev/xvdb --offset=8M --size=8M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --time_based --runtime=15 --output-format=terse >/dev/null'
check "attach under load" block 4
check "it is between the guest and its disk" eval 'tapctl list | grep -q "xvdb.*interpose.*connected.*watch"'
check "a write of the guest" guest_run pv1 'dd if=/dev/zero of=/dev/xvdb bs=12k seek=4 count=1 oflag=direct 2>/dev/null'
check "... is in the log" eval 'cat /run/blktap/*.log | grep -q "^12288 bytes are written to 49152$"'
check "kill it" block 5
wait_for 10 eval '[ "$(tapctl list --json | python3 -c "import json, sys; print(json.load(sys.stdin)[0][\"pid\"])")" = 0 ]'
check "change it, put it back, upgrade" block 7
took=$(guest_run pv1 'a=$(cut -d" " -f1 /proc/uptime | tr -d .); dd if=/dev/zero of=/dev/xvdb bs=4k count=10 oflag=direct 2>/dev/null; b=$(cut -d" " -f1 /proc/uptime | tr -d .); echo $((b - a))')
diag "ten writes took ${took}0 ms"
check "writes are slow now" [ "$took" -ge 50 ]
check "take it away" block 8
check "the guest has not noticed" guest_wait -t 60 pv1 load
check "nothing of it is left" eval '[ "$(tapctl list --json)" = "[]" ]'
id=$(guest_domid pv1)
n=$(disk_id "$id" xvdb)
count "$id" "$n" >"$LAB_STATE/count.log" 2>&1 &
counter=$!
check "the example in C attaches" wait_for 20 eval 'tapctl list | grep -q xvdb.*interpose'
check "fio verify" guest_run -t 60 pv1 'fio --name=v --filename=/dev/xvdb --size=8M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --fsync=32 --verify=crc32c --output-format=terse >/dev/null'
check "10 MiB more in pieces of 4 KiB" guest_run pv1 'dd if=/dev/xvdb of=/dev/null bs=4k count=2560 iflag=direct 2>/dev/null'
sleep 2
tail -1 "$LAB_STATE/count.log" | sed 's/^/# /'
check "it has seen that" [ "$(tail -1 "$LAB_STATE/count.log" | sed "s/reads [0-9]* .\([0-9]*\).*/\1/")" -ge 20480 ]
check "... and flushes" eval 'tail -1 "$LAB_STATE/count.log" | grep -q "flushes [1-9]"'
guest_bg pv1 load 'fio --name=v --filename=/dev/xvdb --size=8M --rw=randrw --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --time_based --runtime=5 --output-format=terse >/dev/null'
sleep 2
kill -9 "$counter"
check "killed under load, the disk serves the guest" guest_wait -t 60 pv1 load
is "... without it" "$(tapctl list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["mode"])')" passthrough
check "take the tap away" tapctl detach pv1 xvdb
check "detach the disk" disk_detach pv1 xvdb
rm -rf "$place" /run/blktap/*.log "$updates"
depmod
check "rmmod" driver_unload blktap
