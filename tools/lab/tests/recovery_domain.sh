# SPDX-License-Identifier: GPL-2.0
# Our front end, a driver domain with our back end: it is destroyed, crashes and hangs under load, also
# while it boots, and devmgr starts it again: a pause, no error.
# timeout: 420
# cpus: 2
recovery_start --stuck $((10 * LAB_STRETCH))
devmgr_says 10 '*watching domain*'

# attached_again OLD: has the disk been attached to another domain than that, and is the domain there?
attached_again() {
	local back
	back=$(xenstore-read "/local/domain/$(guest_domid g)/device/vbd/51728/backend") &&
		[ "${back#"/local/domain/$1/"}" = "$back" ] && xl domid drv
}
# a virtual disk, beside which the disk stands for a moment when it changes its device
guest_run g 'modprobe brd rd_nr=1'
for how in destroyed crashed hung booting; do
	sleep 2
	if [ $how = booting ]; then
		old=$(xl domid drv)
		recovery_kill destroyed
		check "it boots, with the disk attached" wait_for 60 attached_again "$old"
		recovery_kill destroyed
	else
		recovery_kill $how
	fi
	devmgr_says 90 '*watching domain*'
	is "$how: the disk is back" $? 0 || break
	sleep 1
	pause=$(busy_pauses g | sort -n | tail -n 1)
	diag "$how: longest pause ${pause:-?} ms"
done
check "nothing keeps the directory of virtual disks" guest_run g 'rmmod brd && [ ! -e /sys/devices/virtual/block ]'
recovery_end
sed 's/^/# devmgr: /' "$LAB_STATE/logs/devmgr"
