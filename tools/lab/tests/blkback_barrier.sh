# SPDX-License-Identifier: GPL-2.0
# The order in which barriers reach a disk: each alone, after all before it, before all after it,
# whatever the queue they came by.
# timeout: 120
swap_driver back "$MODULES_BACK" || bail "no back end"
modprobe -a dm-mod dm-delay || bail "no device mapper"
tracing=/sys/kernel/tracing
mountpoint -q $tracing || mount -t tracefs none $tracing
disk=$(lab_disk 16)
# Writes take 20 ms, so that the next would overtake them.
dmsetup create slow --table "0 32768 delay $disk 0 0 $disk 0 20" || bail "no slow disk"
dmsetup mknodes
guest_start g pv modules=none || bail "no guest"
guest_run g 'echo 0 >/sys/bus/xen/drivers_autoprobe; modprobe -a xen-gntalloc xen-evtchn' || bail "no modules in the guest"
check "attach" disk_attach_only g /dev/mapper/slow xvdb

dev=$(stat -Lc '%Hr,%Lr' /dev/mapper/slow)
: >$tracing/trace
for event in block_bio_queue block_bio_complete; do
	echo 1 >$tracing/events/block/$event/enable
done
guest_run g "hostile front barriers --device 51728 --timeout $((10 * LAB_STRETCH))" >"$LAB_DIR/hostile"
check "all requests are done" grep -q '^ok .*barriers' "$LAB_DIR/hostile"
for event in block_bio_queue block_bio_complete; do
	echo 0 >$tracing/events/block/$event/enable
done
cp $tracing/trace "$LAB_DIR/trace"
# A write has W, a barrier also F (a flush before it, and FUA).
order() {
	awk -v dev="$dev" '
		function bad(text) { print text ": " $0; wrong++ }
		match($0, /block_bio_(queue|complete): /) {
			split(substr($0, RSTART + RLENGTH), f, " ")
			if (f[1] != dev || f[2] !~ /W/)
				next
			if ($0 ~ /block_bio_queue/) {
				if (barrier != "") bad("while a barrier is on its way")
				if (f[2] ~ /F/) {
					if (away > 0) bad(away " writes are on their way before a barrier")
					barrier = f[3]; barriers++
				} else
					writes++
				if (++away > most) most = away
			} else {
				away--
				if (f[3] == barrier) barrier = ""
			}
		}
		END {
			printf "%d writes, %d barriers, at most %d at a time\n", writes, barriers, most
			exit wrong || writes < 40 || barriers < 12 || most < 4
		}' "$LAB_DIR/trace"
}
check "each barrier came alone" order
diag "$(order | tail -n 1)"
guest_destroy g
check "the disk is closed" wait_for 10 dmsetup remove slow
