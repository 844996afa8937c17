# SPDX-License-Identifier: GPL-2.0
# A guest is saved and restored while its disk is busy: our front end connects anew and sends again
# what was in flight.
# timeout: 300
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get g pv modules=ours || bail "no guest"
disk=$(lab_disk 64)
grants_note g
check "attach" disk_attach g "$disk" xvdb
guest_bg g load 'fio --name=v --filename=/dev/xvdb --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --size=32M --iodepth=32 --verify=crc32c --verify_fatal=1 --fsync=64 --output-format=terse'
sleep 2
guest_save_restore g
check "fio has gone on, and finds its data" guest_wait -t 120 g load
check "detach" disk_detach g xvdb
grants_check g
