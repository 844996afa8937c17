# SPDX-License-Identifier: GPL-2.0
# Driver domains, and devmgr, which starts them again.

# driver_domain_start NAME DISK [KEY=VALUE...]: a PV guest that serves disks to others (backend=NAME),
# with the drivers that the run asks for at both of its ends. Its xvda is dom0's DISK. Further
# settings are those of guest_start; its configuration file is $LAB_STATE/guests/NAME/cfg.
driver_domain_start() {
	local name=$1 disk=$2 ramdisk=$LAB_STATE/driver.cpio
	shift 2
	[ -e "$ramdisk" ] || cat /guest/guest.cpio /guest/driver.cpio /payload/guest.cpio >"$ramdisk" || return 1
	guest_start "$name" pv modules=none ramdisk="$ramdisk" config='driver_domain=1' \
		append="lab.driver=$MODULES_FRONT/$MODULES_BACK" \
		disk="format=raw,backendtype=phy,vdev=xvda,access=w,target=$disk" "$@" || return 1
	wait_for 30 driver_domain_beats "$name"
}

# driver_domain_beats NAME: is it up, so that devices can be attached?
driver_domain_beats() {
	local id
	id=$(xl domid "$1" 2>/dev/null) && xenstore-exists "/local/domain/$id/data/heartbeat" 2>/dev/null
}

# devmgr_start NAME... [-- OPTION...]: look after these driver domains. Its log is $LAB_STATE/logs/devmgr.
devmgr_start() {
	local configs=() word
	while [ $# -gt 0 ]; do
		word=$1
		shift
		[ "$word" != -- ] || break
		configs+=("$LAB_STATE/guests/$word/cfg")
	done
	devmgr run "$@" "${configs[@]}" </dev/null >>"$LAB_STATE/logs/devmgr" 2>&1 &
	echo $! >"$LAB_STATE/devmgr.pid"
}

# devmgr_stop: end it; no error if there is none.
devmgr_stop() {
	local pid
	[ -e "$LAB_STATE/devmgr.pid" ] || return 0
	pid=$(<"$LAB_STATE/devmgr.pid")
	rm "$LAB_STATE/devmgr.pid"
	kill "$pid" 2>/dev/null
	wait_for 10 process_gone "$pid"
}

process_gone() {
	! kill -0 "$1" 2>/dev/null
}

# busy_start GUEST DEVICE: two sorts of load on a disk of 64 MB: fio, which verifies, over and over in
# one half, and `steady` in the other, which checks each block and notes the pauses.
busy_start() {
	guest_bg "$1" busy-fio "n=0; until [ -e /run/busy-stop ]; do
		n=\$((n + 1)); fio --name=v --filename=$2 --size=4M --offset=\$((n % 4 * 8))M --randseed=\$n --rw=randwrite \
			--bsrange=4k-64k --ioengine=libaio --iodepth=32 --direct=1 --verify=crc32c --verify_fatal=1 --fsync=64 \
			>/run/busy-now.fio 2>&1 || { cat /run/busy-now.fio; exit 1; }; done; echo \$n passes" &&
		guest_bg "$1" busy-steady "steady $2 --offset 32 --size 16 --threads 8 --seconds 86400 --until /run/busy-stop"
}

# busy_pauses GUEST: the pauses so far that nobody has asked for yet, in ms, one in a line.
busy_pauses() {
	guest_run "$1" "touch /run/busy-seen; sed -n 's/^pause.* ms=//p' /run/busy-steady.out >/run/busy-now;
		tail -n +\$((\$(wc -l </run/busy-seen) + 1)) /run/busy-now; mv /run/busy-now /run/busy-seen"
}

# busy_stop GUEST: end the load; fails, and shows what was wrong, if a request failed or a byte is wrong.
busy_stop() {
	local status=0
	guest_run "$1" 'touch /run/busy-stop'
	guest_wait -t 90 "$1" busy-steady | tail -n 20
	[ "${PIPESTATUS[0]}" = 0 ] || status=1
	guest_wait -t 90 "$1" busy-fio || status=1
	guest_run "$1" 'rm -f /run/busy-*'
	return $status
}

# disk_served GUEST NUMBER DOMID: is the disk connected through another domain than that?
disk_served() {
	local back
	back=$(xenstore-read "/local/domain/$(guest_domid "$1")/device/vbd/$2/backend" 2>/dev/null) &&
		[ "${back#"/local/domain/$3/"}" = "$back" ] &&
		[ "$(xenstore-read "$back/state" 2>/dev/null)" = 4 ]
}
