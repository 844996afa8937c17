# SPDX-License-Identifier: GPL-2.0
# Installed as `make install` does it, our drivers win over the C ones; taken back, the C ones return.
# timeout: 60
[ -e /payload/modules/blkback.ko ] || { skip "our modules" "not built"; exit; }
updates=/lib/modules/$(uname -r)/updates
swap_driver back none
swap_driver net none

# loads MODULE_OR_ALIAS: which of the two back ends, or front ends, that brings.
loads() {
	modprobe "$1"
	for m in {blk,net}{back,front} xen_{blk,net}{back,front}; do
		[ ! -d "/sys/module/$m" ] || echo "$m"
	done | xargs
	driver_unload {blk,net}{back,front} xen_{blk,net}{back,front} rust_xenbus
}

is "before: the alias brings the C back end" "$(loads xen-backend:vbd)" xen_blkback
mkdir -p "$updates" /etc/modprobe.d
cp /payload/modules/{rust_xenbus,blkfront,blkback,netfront,netback}.ko "$updates"
cp /payload/xen-rust.conf /etc/modprobe.d/
depmod
is "the back end's alias brings ours alone" "$(loads xen-backend:vbd)" blkback
is "and so does the C driver's name" "$(loads xen-blkback)" blkback
is "the front end's alias brings ours alone" "$(loads xen:vbd)" blkfront
is "and so does the C driver's name" "$(loads xen-blkfront)" blkfront
is "the alias of a network back end brings ours alone" "$(loads xen-backend:vif)" netback
is "and that of a front end" "$(loads xen:vif)" netfront
rm "$updates"/blkback.ko
depmod
is "where ours is missing, the C driver's name brings it" "$(loads xen-blkback)" xen_blkback
is "and so does the alias" "$(loads xen-backend:vbd)" xen_blkback
rm -r "$updates" /etc/modprobe.d/xen-rust.conf
depmod
is "taken back: the alias brings the C back end" "$(loads xen-backend:vbd)" xen_blkback
