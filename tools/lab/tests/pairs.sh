# SPDX-License-Identifier: GPL-2.0
# Our drivers with each other and with the C ones at the other end, in a PV and in a PVH guest: a disk is
# attached to the running guest, written, detached, attached again; the data is still there.
# timeout: 240
# cpus: 2
DISK_SCRIPT=block

# drivers GUEST: the drivers that its disk has at the two ends.
drivers() {
	guest_run "$1" 'basename "$(readlink /sys/bus/xen/devices/vbd-51728/driver)"'
	basename "$(readlink "/sys/bus/xen-backend/devices/vbd-$(guest_domid "$1")-51728/driver")"
}

# verify GUEST TEXT DRIVERS: a disk's whole use.
verify() {
	local g=$1 t=$2 disk
	disk=$(lab_disk 64)
	check "$t: attach" disk_attach "$g" "$disk" xvdb
	is "$t: the drivers are these" "$(echo $(drivers "$g"))" "$3"
	check "$t: mkfs.ext4" guest_run "$g" 'mkfs.ext4 -q /dev/xvdb 40000'
	check "$t: write files" guest_run "$g" 'modprobe ext4; mount /dev/xvdb /mnt && dd if=/dev/urandom of=/mnt/a bs=1M count=8 2>/dev/null &&
		sha256sum /mnt/a >/run/sum && cp /run/sum /mnt/sum && umount /mnt'
	check "$t: fio with verify" guest_run "$g" 'fio --name=v --filename=/dev/xvdb --offset=48M --size=4M --rw=randwrite --bsrange=512-128k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse'
	check "$t: detach" disk_detach "$g" xvdb
	is "$t: the disk is gone" "$(guest_run "$g" 'ls /sys/block | grep xvdb')" ""
	check "$t: attach again" disk_attach "$g" "$disk" xvdb r
	check "$t: the data is still there" guest_run "$g" 'mount -o ro,noload /dev/xvdb /mnt && cmp /run/sum /mnt/sum && sha256sum -c /mnt/sum; s=$?; umount /mnt; exit $s'
	check_fails "$t: a read-only disk is not written" guest_run "$g" 'dd if=/dev/zero of=/dev/xvdb count=1'
	check "$t: detach again" disk_detach "$g" xvdb
	lab_disk_free "$disk"
}

pair() {	# GUEST FRONT BACK
	check "$1: front end: $2" guest_driver $1 $2
	verify $1 "$1, $2/$3" "${front_name[$2]} ${back_name[$3]}"
}

(guest_get pv pv modules=none) & (guest_get pvh pvh modules=none) & wait
guest_alive pv && guest_alive pvh || bail "a guest does not start"
declare -A front_name=([ours]=blkfront [c]=vbd) back_name=([ours]=rust-blkback [c]=vbd)
for back in ours c; do
	check "back end: $back" swap_driver back $back
	for front in ours c; do
		[ $front/$back = c/c ] || at_once "pair pv $front $back" "pair pvh $front $back"
	done
done
