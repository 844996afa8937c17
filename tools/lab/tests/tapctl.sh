# SPDX-License-Identifier: GPL-2.0
# tapctl and xl's block-tap: chains that come, go and are replaced while the guest works.
# timeout: 300
swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
install -m755 "$(command -v block-tap)" /etc/xen/scripts/ || bail "no script"
guest_get pv1 pv || bail "no guest"
id=$(guest_domid pv1)
file=$LAB_STATE/disks/tapctl.raw
truncate -s 64M "$file"
verify() { guest_run -t 120 pv1 "fio --name=v --filename=/dev/xvdb --size=8M --rw=randrw --bsrange=4k-128k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null"; }
appears() { guest_run -t 40 pv1 "i=0; until [ \"\$(cat /sys/block/xvdb/size 2>/dev/null || echo 0)\" = $1 ]; do i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done"; }
block_attach() { timeout -k 5 $((60 * LAB_STRETCH)) xl block-attach "$id" "script=block-tap,vdev=xvdb,target=$1"; }

reason=$(block_attach "rav:$file" 2>&1)
is "a chain that is wrong: xl fails" $? 1
check "... and says what would be right" grep -q "there is no extension rav; did you mean raw?" <<<"$reason"
diag "$reason"
reason=$(block_attach "raw:$file.not" 2>&1)
is "a file that is not there: xl fails" $? 1
check "... and says so" grep -q "$file.not: No such file" <<<"$reason"
wait_for 20 eval '! disk_id "$id" xvdb' || diag "$(disk_state pv1 xvdb)"

check "xl block-attach with script=block-tap" block_attach "raw:$file"
check "the guest has the disk" appears 131072
check "fio verify" verify
check "list" eval 'tapctl list | grep -q "xvdb.*intercept-fe.*connected.*raw:$file"'
check "list --json" eval 'tapctl list --json | python3 -c "import json, sys; [it] = json.load(sys.stdin); assert it[\"chain\"] == \"raw:$file\""'
check "show" eval 'tapctl show pv1 xvdb | grep -q LATENCY'
tapctl show pv1 xvdb | sed 's/^/# /'
check "top" eval 'tapctl top -n 1 -d 1 | grep -q xvdb'
check "a second attach is refused, with what helps" eval 'tapctl attach pv1 xvdb "raw:$file" 2>&1 | grep -q "tapctl upgrade"'

guest_bg pv1 load 'fio --name=v --filename=/dev/xvdb --size=16M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --time_based --runtime=20 --output-format=terse >/dev/null'
bad=0
for i in $(seq 5); do
	tapctl upgrade pv1 xvdb || bad=1
	sleep 0.5
	tapctl restart pv1 xvdb || bad=1
	sleep 0.5
done
is "upgrades and restarts under load" "$bad" 0
kill -9 "$(tapctl list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["pid"])')"
check "killed, another one takes over" tapctl attach pv1 xvdb "raw:$file"
check_fails "an upgrade to what cannot be read is refused" tapctl upgrade pv1 xvdb "rav:/x"
check "the load has not noticed" guest_wait -t 120 pv1 load

truncate -s 96M "$file"
check "the guest sees that the file has grown" appears 196608
check "detach" disk_detach pv1 xvdb
check "the program has gone" eval '[ "$(tapctl list --json)" = "[]" ] && [ ! -e "/run/blktap/$id-51728.pid" ]'

disk=$(lab_disk 64)
check "attach an ordinary disk" disk_attach pv1 "$disk" xvdb
check "put a filter before it" tapctl attach pv1 xvdb noop
check "fio verify" verify
check "... mkfs and fsck" guest_run pv1 'mkfs.ext4 -q -F /dev/xvdb && e2fsck -fn /dev/xvdb >/dev/null 2>&1'
check "mode passthrough" tapctl mode pv1 xvdb passthrough
check "mode interpose" tapctl mode pv1 xvdb interpose
check "policy passthrough" tapctl policy pv1 xvdb passthrough
check "take it away" tapctl detach pv1 xvdb
check "fio verify without" verify
check_fails "there is none to detach" tapctl detach pv1 xvdb
check "... which can be no error" tapctl detach --if-any pv1 xvdb
check "detach the disk" disk_detach pv1 xvdb
sed 's/^/# /' /run/blktap/*.log | tail -40
rm -f "$file" /run/blktap/*.log
check "rmmod" driver_unload blktap
