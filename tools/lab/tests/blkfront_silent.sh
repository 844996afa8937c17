# SPDX-License-Identifier: GPL-2.0
# Our front end is unbound from a back end that is connected and does not answer, with data to be
# written back: it waits for a while, not for ever.
# timeout: 200
swap_driver back ours || bail "no back end"
guest_start g pv modules=ours &
driver_domain_start drv "$(lab_disk 16)" &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
check "attach" disk_attach g /dev/xvda xvdb backend=drv
# the scan for partitions is over
sleep 2
check "the back end stands still" xl pause drv
guest_bg g dd 'exec dd if=/dev/zero of=/dev/xvdb bs=64k count=4 conv=notrunc,fsync'
sleep 2
# stacks: where those wait that have to do with the disk
stacks() {
	guest_run -t 20 g 'for p in $(pidof dd sh); do echo "$p $(grep State /proc/$p/status) $(cat /proc/$p/stack)"; done'
}
check_fails "data waits for the back end" guest_run g '[ -e /run/dd.status ]'
guest_bg g unbind 'echo vbd-51728 >/sys/bus/xen/drivers/blkfront/unbind'
sleep 5
check_fails "to unbind waits, too" guest_run -t 20 g '[ -e /run/unbind.status ]'
diag "$(stacks)"
check "not for ever" guest_wait -t 90 g unbind || diag "$(stacks)"
check "the disk is gone" guest_run -t 20 g '[ ! -e /sys/block/xvdb ]'
check_fails "whoever wrote is told" guest_wait -t 20 g dd
xl unpause drv
check "the guest goes on" guest_run -t 20 g true
