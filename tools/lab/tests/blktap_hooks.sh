# SPDX-License-Identifier: GPL-2.0
# throttle, trace and fault between a guest and its disk: hooks, by which no data is copied.
# timeout: 120
swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
guest_get pv1 pv || bail "no guest"
disk=$(lab_disk 64)
check "attach an ordinary disk" disk_attach pv1 "$disk" xvdb
rm -f /run/blktap/*.log
trace=$LAB_STATE/trace

# lines OP: how many requests of this kind are in the trace.
lines() { awk -v op="$1" '$2 == op { n++ } END { print n + 0 }' "$trace"; }

check "attach" tapctl attach pv1 xvdb "trace:$trace+throttle:write-iops=50,burst=0s"
check "fio verify" guest_run -t 60 pv1 'fio --name=v --filename=/dev/xvdb --size=2M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null'
before=$(date +%s%N)
check "20 writes" guest_run pv1 'dd if=/dev/zero of=/dev/xvdb bs=4k count=20 conv=fsync oflag=direct 2>/dev/null'
took=$((($(date +%s%N) - before) / 1000000))
diag "took $took ms"
check "... take their time" [ "$took" -ge 390 ]
check "detach" tapctl detach pv1 xvdb
tail -4 "$trace" | sed 's/^/# /'
check "the trace has the writes" [ "$(lines W)" -ge 20 ]
check "... and reads, and a flush" [ "$(lines R)" -gt 0 -a "$(lines F)" -gt 0 ]

check "attach a fault" tapctl attach pv1 xvdb "trace:$trace+fault:error=EIO,op=read,from=1M,to=2M"
check_fails "a read in its place fails" guest_run pv1 'dd if=/dev/xvdb of=/dev/null bs=4k skip=256 count=1 iflag=direct 2>/dev/null'
check "another one does not" guest_run pv1 'dd if=/dev/xvdb of=/dev/null bs=4k skip=512 count=1 iflag=direct 2>/dev/null'
check "detach" tapctl detach pv1 xvdb
check "the trace has both" eval '[ "$(grep -c "error 5" "$trace")" -ge 1 ] && grep -q " ok$" "$trace"'
check "detach the disk" disk_detach pv1 xvdb
sed 's/^/# /' /run/blktap/*.log
rm -f "$trace" /run/blktap/*.log
check "rmmod" driver_unload blktap
