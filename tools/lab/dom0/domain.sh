# SPDX-License-Identifier: GPL-2.0
# Driver domains, and devmgr, which starts them again.

# driver_domain_start NAME DISK [pvh] [net=NUMBER] [KEY=VALUE...]: a PV guest, or a PVH one, that serves disks to
# others (backend=NAME), with the drivers that the run asks for at both of its ends. Its xvda is dom0's DISK. With
# net= it serves interfaces, too, on a bridge xenbr0 of its own, on which there is an interface of its own on
# dom0's bridge, with that number in its address. Further settings are those of guest_start; its configuration
# file is $LAB_STATE/guests/NAME/cfg.
driver_domain_start() {
	local name=$1 disk=$2 type=pv ramdisk=$LAB_STATE/driver.cpio serves= config=driver_domain=1
	shift 2
	[ "$1" != pvh ] || { type=pvh; shift; }
	case $1 in
	net=*)
		net_bridge || return 1
		serves=/net
		config+=$'\n'"vif=['mac=00:16:3e:09:00:$(printf %02x "${1#net=}"),bridge=xenbr0']"
		shift ;;
	esac
	[ -e "$ramdisk" ] || cat /guest/guest.cpio /guest/driver.cpio /payload/guest.cpio >"$ramdisk" || return 1
	guest_start "$name" "$type" modules=none ramdisk="$ramdisk" config="$config" \
		append="lab.driver=$MODULES_FRONT/$MODULES_BACK$serves" \
		disk="format=raw,backendtype=phy,vdev=xvda,access=w,target=$disk" "$@" || return 1
	wait_for 30 driver_domain_beats "$name"
}

# driver_domain_beats NAME: is it up, so that devices can be attached?
driver_domain_beats() {
	local id beat
	id=$(xl domid "$1" 2>/dev/null) && beat=$(xenstore-read "/local/domain/$id/data/heartbeat" 2>/dev/null) &&
		[ "$beat" -gt 0 ]
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
	: >>"$LAB_STATE/logs/devmgr"
	exec {devmgr_log}< <(exec tail --pid=$$ -n 0 -F "$LAB_STATE/logs/devmgr" 2>/dev/null)
	devmgr run "$@" "${configs[@]}" </dev/null >>"$LAB_STATE/logs/devmgr" 2>&1 {devmgr_log}<&- &
	echo $! >"$LAB_STATE/devmgr.pid"
}

# devmgr_says SECONDS PATTERN: read on in what devmgr says until a line matches (a glob); leaves the
# lines in the array devmgr_said (so not with `check`). Takes no time of dom0's meanwhile.
devmgr_says() {
	local until=$((SECONDS + $1 * LAB_STRETCH)) line
	devmgr_said=()
	while ((SECONDS < until)) && read -r -t $((until - SECONDS)) -u "$devmgr_log" line; do
		devmgr_said+=("$line")
		# shellcheck disable=SC2053
		[[ $line != $2 ]] || return 0
	done
	return 1
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

# busy_start GUEST DEVICE [MS]: two sorts of load on a disk of 64 MB: fio, which verifies, over and over in
# one half, and `steady` in the other, which checks each block and notes the pauses, of MS (300) or longer.
busy_start() {
	guest_bg "$1" busy-fio "n=0; until [ -e /run/busy-stop ]; do
		n=\$((n + 1)); fio --name=v --filename=$2 --size=4M --offset=\$((n % 4 * 8))M --randseed=\$n --rw=randwrite \
			--bsrange=4k-64k --ioengine=libaio --iodepth=32 --direct=1 --verify=crc32c --verify_fatal=1 --fsync=64 \
			>/run/busy-now.fio 2>&1 || { cat /run/busy-now.fio; exit 1; }; done; echo \$n passes" &&
		guest_bg "$1" busy-steady "steady $2 --offset 32 --size 16 --threads 8 --pause ${3:-300} --seconds 86400 --until /run/busy-stop"
}

# busy_pauses GUEST: the pauses so far that nobody has asked for yet, in ms, one in a line.
busy_pauses() {
	guest_run "$1" "touch /run/busy-seen; sed -n 's/^pause.* ms=//p' /run/busy-steady.out >/run/busy-now;
		tail -n +\$((\$(wc -l </run/busy-seen) + 1)) /run/busy-now; mv /run/busy-now /run/busy-seen"
}

# busy_wrong GUEST: what the load has found wrong so far; nothing if all is well.
busy_wrong() {
	guest_run "$1" "grep -h '^failed\|^wrong' /run/busy-steady.out | tail -n 3; [ ! -e /run/busy-steady.status ] || echo steady ended
		[ ! -e /run/busy-fio.status ] || { tail -n 5 /run/busy-fio.out; echo fio ended; }"
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

# device_served GUEST vbd/NUMBER|vif/NUMBER DOMID: is the device connected through another domain than that?
device_served() {
	local back
	back=$(xenstore-read "/local/domain/$(guest_domid "$1")/device/$2/backend" 2>/dev/null) &&
		[ "${back#"/local/domain/$3/"}" = "$back" ] &&
		[ "$(xenstore-read "$back/state" 2>/dev/null)" = 4 ]
}

# recovery_start [DEVMGR-OPTION...]: guest g verifies xvdb, the disk of driver domain drv, which devmgr
# looks after.
recovery_start() {
	swap_driver back "$MODULES_BACK" || bail "no back end"
	guest_start g pv modules=ours &
	driver_domain_start drv "$(lab_disk 64)" &
	wait
	guest_alive g && driver_domain_beats drv || {
		diag "$(guest_run drv 'cat /run/driver-domain.log; xenstore-ls data; ls -l /dev/xvda; ps | tail -n 8')"
		bail "no guests"
	}
	grants_note g
	check "attach" disk_attach g /dev/xvda xvdb backend=drv
	# after that: a spare that boots meanwhile may take a slow machine longer than xl waits for a disk
	devmgr_start drv -- "$@"
	check "load" busy_start g /dev/xvdb
	# what the load leaves is more, so that a driver domain boots, and beats, in time
	xl sched-credit2 -d g -w 32
}

# recovery_kill destroyed|crashed|hung: what may happen to drv.
recovery_kill() {
	case $1 in
	destroyed) xl destroy drv ;;
	crashed) xl sysrq drv c ;;
	hung) xl pause drv ;;
	esac
}

# recovery_end: all that was wrong with the disk, then detach it.
recovery_end() {
	devmgr_stop
	check "no error, every byte right" busy_stop g
	diag "$ktap_out"
	guest_attached drv
	check "the disk is still the same" guest_run g 'readlink -f /sys/block/xvdb/device | grep vbd-51728'
	check "detach" disk_detach g xvdb
	grants_check g
}
