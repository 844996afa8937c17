# SPDX-License-Identifier: GPL-2.0
# What a test in dom0 may call. The functions are in:
#   ktap.sh    results: plan, ok, not_ok, skip, check, check_fails, is, diag, bail
#   guest.sh   guests: guest_start, guest_get, guest_run, guest_put, guest_dmesg, guest_stop, ...
#   disk.sh    disks: lab_disk, disk_attach, disk_detach
#   net.sh     interfaces: net_attach, net_detach, net_attach_only, hostile_addresses
#   domain.sh  driver domains: driver_domain_start, devmgr_start, devmgr_stop
#   driver.sh  drivers: driver_load, driver_unload, swap_driver, guest_driver, grants_in_use
# Time limits are for a quiet machine; where the boot was slow, all are stretched (LAB_STRETCH).
LAB=${LAB:-/payload/dom0}
LAB_STATE=${LAB_STATE:-/run/lab}
LAB_STRETCH=$(cat "$LAB_STATE/stretch" 2>/dev/null || echo 1)
export LAB LAB_STATE LAB_STRETCH
. /payload/lab.env
. "$LAB/ktap.sh"
. "$LAB/guest.sh"
. "$LAB/disk.sh"
. "$LAB/net.sh"
. "$LAB/driver.sh"
. "$LAB/domain.sh"

# wait_for SECONDS COMMAND...: run the command until it succeeds, at most that long.
wait_for() {
	local until=$((SECONDS + $1 * LAB_STRETCH)) && shift
	until "$@"; do
		((SECONDS < until)) || return 1
		sleep 0.2
	done
}
