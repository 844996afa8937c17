# SPDX-License-Identifier: GPL-2.0
# A secure discard goes all the way: from a guest to a driver domain's back end, and from there to a disk
# that erases. There is no such device here but one of ours: `hostile back` serves it to the driver domain.
# timeout: 180
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get g pv &
driver_domain_start drv "$(lab_disk 16)" modules=none &
wait
guest_alive g && driver_domain_beats drv || bail "no guests"
export id=$(guest_domid g)
# pass DISK COMMAND: give the driver domain's DISK to the guest, and run COMMAND there.
cat >"$LAB_DIR/pass" <<-'EOF2'
	. /payload/dom0/lib.sh
	guest_run drv "i=0; until [ -b /dev/$1 ]; do sleep 0.1; i=\$((i + 1)); [ \$i -lt 100 ] || exit 1; done" &&
		disk_attach g "/dev/$1" xvdb backend=drv || exit 1
	echo "secure: $(xenstore-read "/local/domain/$(guest_domid drv)/backend/vbd/$id/51728/discard-secure")"
	guest_run g "${2//$1/xvdb}"
	status=$?
	disk_detach g xvdb && exit $status
EOF2
poke="bash $LAB_DIR/pass @ 'dd if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct' >>$LAB_DIR/passed 2>&1"
results_of hostile back discard-secure --guest "$(guest_domid drv)" --timeout $((40 * LAB_STRETCH)) --poke "$poke"
is "what the back end offers" "$(grep -h secure "$LAB_DIR/passed" | tr '\n' ' ')" "secure: 1 secure: 1 secure: 0 "
guest_stop drv
