# SPDX-License-Identifier: GPL-2.0
# The main job, shown: disks, and a network, served by our back ends to running guests with our front ends.
# timeout: 150
DISK_SCRIPT=block

# step DESCRIPTION COMMAND...: one result with its time; the first failure ends the demonstration.
step() {
	local what=$1 from=${EPOCHREALTIME/./} status ms
	shift
	output=$("$@" 2>&1)
	status=$?
	ms=$(((${EPOCHREALTIME/./} - from) / 1000))
	what=$(printf '%5d.%d s  %s' $((ms / 1000)) $((ms % 1000 / 100)) "$what")
	if [ $status != 0 ]; then
		sed 's/^/# /' <<<"$output"
		not_ok "$what"
		exit 1
	fi
	ok "$what"
}

# both COMMAND...: run it for the PV guest and for the PVH guest at the same time, @ being the guest
# and %disk its disk.
both() {
	local p q
	"${@//@/pv}" &
	p=$!
	"${@//@/pvh}" &
	q=$!
	wait $p && wait $q
}

in_guests() {
	both guest_run -t 90 @ "$1"
}

attach() {
	disk_attach "$1" "$(<"$LAB_DIR/disk-$1")" xvdb
}

start_guests() {
	both guest_start @ @ modules=none
}

load_front() {
	both guest_driver @ "$1"
}

load_net_front() {
	both guest_net_driver @ "$1"
}

attach_net_to() {
	case $1 in
	pv) net_attach pv 11 ;;
	pvh) net_attach pvh 12 ;;
	esac
}

attach_net() {
	net_bridge && both attach_net_to @
}

# The PVH guest fetches what the PV guest has; says how fast.
transfer() {
	local from=${EPOCHREALTIME/./} ms
	guest_run pvh "wget -q -O /dev/null http://10.9.0.11:8080/$1" || return 1
	ms=$(((${EPOCHREALTIME/./} - from) / 1000))
	echo "$2 MB in $ms ms: $(($2 * 8000 / ms)) Mb/s" >"$LAB_DIR/transfer"
}

driver_names() {
	local g
	for g in pv pvh; do
		echo "$g: front end $(guest_run $g 'basename "$(readlink /sys/bus/xen/devices/vbd-51728/driver)"')," \
			"back end $(basename "$(readlink "/sys/bus/xen-backend/devices/vbd-$(guest_domid $g)-51728/driver")")"
	done
}

clean_dom0() {
	dmesg | awk -v mark="lab: test $LAB_TEST begins" 'on; index($0, mark) { on = 1 }' >"$LAB_DIR/dmesg.demo"
	! dmesg_bad "$LAB_DIR/dmesg.demo"
}

no_grants() {
	local g
	for g in pv pvh; do
		[ "$(grants_in_use "$(guest_domid $g)")" = "$(<"$LAB_DIR/grants-$g")" ] || return 1
	done
}

step "dom0 loads the back end ($MODULES_BACK)" swap_driver back "$MODULES_BACK"
step "a PV and a PVH guest of the same stock kernel boot" start_guests
for g in pv pvh; do
	lab_disk 64 >"$LAB_DIR/disk-$g"
	grants_in_use "$(guest_domid $g)" >"$LAB_DIR/grants-$g"
done
step "both guests load the front end ($MODULES_FRONT)" load_front "$MODULES_FRONT"
step "xl block-attach gives each running guest a disk" both attach @
driver_names | sed 's/^/#          /'
step "mkfs.ext4" in_guests 'mkfs.ext4 -q /dev/xvdb 60000 && modprobe ext4'
step "files are written" in_guests 'mount /dev/xvdb /mnt && for i in 1 2 3 4 5 6 7 8; do
	dd if=/dev/urandom of=/mnt/file$i bs=64k count=$i 2>/dev/null || exit 1; done &&
	(cd /mnt && sha256sum file*) >/run/sums && cp /run/sums /mnt/sums && umount /mnt'
step "read again, and the checksums compared" in_guests 'echo 3 >/proc/sys/vm/drop_caches; mount /dev/xvdb /mnt &&
	cd /mnt && sha256sum -c sums && cmp sums /run/sums && cd / && umount /mnt'
step "fio with verify on the disk's end" in_guests 'fio --name=v --filename=/dev/xvdb --offset=60M --size=2M \
	--rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --output-format=terse'
step "xl block-detach" both disk_detach @ xvdb
step "xl block-attach again" both attach @
step "the data is still there" in_guests 'e2fsck -fn /dev/xvdb && mount /dev/xvdb /mnt &&
	cd /mnt && sha256sum -c sums && cmp sums /run/sums && cd / && umount /mnt'
step "xl block-detach, and no grant is left mapped" eval 'both disk_detach @ xvdb && no_grants'
step "dom0 loads the network back end, the guests the front end" eval \
	'swap_driver net "$MODULES_BACK" && load_net_front "$MODULES_FRONT"'
step "xl network-attach puts both guests on a bridge" attach_net
step "one guest pings the other" guest_run pvh 'ping -c 3 -i 0.2 -W 5 -q 10.9.0.11'
sed -n 's/^round-trip/#          round-trip/p' <<<"$output"
guest_run pv 'head -c 32000000 /dev/zero >/run/zeroes; head -c 4000000 /dev/urandom >/run/file
	cd /run && busybox httpd -p 8080'
step "a TCP transfer" transfer zeroes 32
sed 's/^/#          /' "$LAB_DIR/transfer"
step "a file is fetched, and compared" eval 'guest_run pvh "wget -q -O /run/file http://10.9.0.11:8080/file" &&
	[ "$(guest_run pvh "sha256sum /run/file")" = "$(guest_run pv "sha256sum /run/file")" ]'
step "xl network-detach" both net_detach @
step "the guests unload the front ends" eval 'load_net_front none && load_front none'
step "dom0 unloads the back ends" eval 'swap_driver back none && swap_driver net none'
step "dmesg of both guests: no BUG, warning, oops, leak" both guest_clean @
step "dmesg of dom0: no BUG, warning, oops, leak" clean_dom0
