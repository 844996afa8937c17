# SPDX-License-Identifier: GPL-2.0
# For bench --tap: a disk without a tap, then with each of BENCH_TAPS in turn, the same jobs on each;
# with BENCH_PROFILE as profile.sh does it.
# timeout: 5000
#
# BENCH_TAPS: words NAME|HOW|DISKS|CHAIN: on which disks (null,ram) it is measured. HOW is off (no tap, the module is not loaded), on (CHAIN is attached),
# passthrough (attached, in that mode) or qemu (QEMU's own back end). In CHAIN, @ is the disk, @2 another
# one like it, @socket that of a server that has the disk, @delta and @map are files.
. /payload/tests/block.inc

[ -z "$BENCH_PROFILE" ] || bench_symbols

# tap_on HOW CHAIN DISK
tap_on() {
	local chain=$2 disk
	disk=$(bench_disk "$3") || return 1
	if [[ $chain = *@socket* ]]; then
		blktap serve --nbd "$LAB_STATE/socket" "raw:$disk" >"$LAB_STATE/logs/serve" 2>&1 &
		tap_server=$!
		wait_for 10 test -S "$LAB_STATE/socket" || return 1
	fi
	case $chain in
	qcow2:*) dd if="$(command -v bench.qcow2)" of="$disk" bs=64k conv=notrunc status=none || return 1 ;;
	crypt*) dd if="$(command -v bench.luks)" of="$disk" bs=64k conv=notrunc status=none || return 1 ;;
	compress*) dd if=/dev/zero of="$disk" bs=64k count=1 status=none || return 1 ;;
	esac
	rm -f "$LAB_STATE/delta" "$LAB_STATE/map"
	chain=${chain//@socket/$LAB_STATE/socket}
	chain=${chain//@delta/$LAB_STATE/delta}
	chain=${chain//@map/$LAB_STATE/map}
	[[ $chain != *@2* ]] || chain=${chain//@2/$(bench_disk "${3}2")}
	chain=${chain//@/$disk}
	tapctl attach bench xvdb "$chain" || return 1
	[ "$1" != passthrough ] || tapctl mode bench xvdb passthrough
}

tap_off() {
	tapctl detach bench xvdb || return 1
	[ -z "$tap_server" ] || kill "$tap_server"
	tap_server=
}

# tap_jobs NAME DISK: those of BENCH_JOBS that are on that disk.
tap_jobs() {
	local job
	for job in $BENCH_JOBS; do
		[[ $job = *":$2:"* ]] || continue
		# What a disk has not got yet, it does not read as it does later.
		[ "$2" = null ] || bench_job "$1" "fill:write:64k:8:$((BENCH_RAM * 16)):$2:1" 0 >/dev/null
		if [ -n "$BENCH_PROFILE" ]; then
			bench_marked "$1" "$job"
			continue
		fi
		for ((i = 1; i <= BENCH_REPEAT; i++)); do
			bench_job "$1" "$job" "$i" || not_ok "$1: $job"
		done
	done
}

for disk in null ram; do
	[[ $BENCH_JOBS = *":$disk:"* ]] || continue
	attached=
	for tap in $BENCH_TAPS; do
		IFS='|' read -r name how disks chain <<<"$tap"
		[[ ,$disks, = *,$disk,* ]] || continue
		case $how in
		qemu)
			[ -z "$attached" ] || check "detach" bench_detach ours/ours
			attached=
			check "$name: attach ($disk)" bench_attach ours/qemu "$disk" 1
			tap_jobs "$name" "$disk"
			check "$name: detach" bench_detach ours/qemu
			rm -f "$LAB_STATE/guests/bench/vcpus"
			continue ;;
		esac
		if [ -z "$attached" ]; then
			check "attach ($disk)" bench_attach ours/ours "$disk" 1
			attached=1
		fi
		if [ "$how" = off ]; then
			tap_jobs "$name" "$disk"
			continue
		fi
		driver_load blktap
		check "$name: tap" tap_on "$how" "$chain" "$disk" || { tap_off; continue; }
		tap_jobs "$name" "$disk"
		check "$name: off" tap_off
	done
	[ -z "$attached" ] || check "detach" bench_detach ours/ours
done
ok "measured"
