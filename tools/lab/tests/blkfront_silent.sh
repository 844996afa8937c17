# SPDX-License-Identifier: GPL-2.0
# Our front end is unbound from a back end that is connected and does not answer, with data to be
# written back: it waits for a while, not for ever.
# timeout: 240
guest_start g pv modules=ours &
driver_domain_start drv "$(lab_disk 16)" &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
check "attach" disk_attach g /dev/xvda xvdb backend=drv
xl pause drv
check "data that waits for the back end" guest_run g 'dd if=/dev/zero of=/dev/xvdb bs=64k count=4 conv=notrunc & sleep 2; kill -0 $!'
check "unbind" guest_run -t 100 g 'echo vbd-51728 >/sys/bus/xen/drivers/blkfront/unbind'
check "the disk is gone" guest_run g 'sleep 1; [ ! -e /sys/block/xvdb ]'
check "nobody waits for it" guest_run g '! pidof dd'
xl unpause drv
check "the guest goes on" guest_run g true
