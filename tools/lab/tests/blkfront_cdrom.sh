# SPDX-License-Identifier: GPL-2.0
# What a disk, and a CD-ROM drive, answer to ioctls; the drive is one at both ends.
# timeout: 120
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get pv1 pv || bail "no guest"
id=$(guest_domid pv1)
disk=$(lab_disk 64)
info() {
	xenstore-read "/local/domain/0/backend/vbd/$id/$1/info"
}
answers() {
	guest_run pv1 "diskctl /dev/$1" | tr '\n' ',' | tr -d '\r'
}

check "attach" disk_attach pv1 "$disk" xvdb
# 131072 sectors in cylinders of 255 * 63; ENOTTY or EINVAL is no difference to a program
is "a disk has a geometry, and is no drive" "$(answers xvdb)" \
	"geometry 255 63 8,multisession 0 0,capability error 22,eject error 22,"
is "info" "$(info 51728)" 0
check "detach" disk_detach pv1 xvdb

check "attach a CD-ROM drive" timeout -k 5 $((60 * LAB_STRETCH)) xl block-attach "$id" \
	"format=raw,backendtype=phy,vdev=xvdc,access=r,devtype=cdrom,target=$disk"
is "the toolstack says so" "$(xenstore-read "/local/domain/$id/device/vbd/51744/device-type")" cdrom
check "it appears" wait_for 10 guest_run pv1 '[ -b /dev/xvdc ]'
is "info: a CD-ROM, read-only" "$(info 51744)" 5
is "a drive answers" "$(answers xvdc)" "geometry 255 63 8,multisession 0 0,capability,eject error 22,"
is "read-only" "$(guest_run pv1 'cat /sys/block/xvdc/ro')" 1
check "detach" disk_detach pv1 xvdc
