# SPDX-License-Identifier: GPL-2.0
# A tap in a domain of its own: its disk comes by our front end, goes on by our back end, and between the
# two is a program. In a PV domain and in a PVH one.
# timeout: 300
# cpus: 2
swap_driver back ours || bail "no back end"
disk=$(lab_disk 64)
guest_get g pv &
# the program, beside what a driver domain has
mkdir -p "$LAB_STATE/tapdom/lab/bin" && cp "$(command -v blktap)" "$LAB_STATE/tapdom/lab/bin/"
tap_cpio() { (cd "$LAB_STATE/tapdom" && find lab | busybox cpio -o -H newc) >"$LAB_STATE/tap.cpio" 2>/dev/null; }
tap_cpio || bail "no cpio"
wait
id=$(guest_domid g) || bail "no guest"
verify() { guest_run -t 120 g "fio --name=v --filename=/dev/xvdb --size=8M --rw=randrw --bsrange=4k-128k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null"; }

# serve CHAIN: in the background of the domain, until the guest can use it.
serve() {
	guest_run -t 60 tapdom "blktap run --domain $id --device xvdb '$1' >/run/tap.out 2>/run/tap.log </dev/null &
		echo \$! >/run/tap.pid
		i=0; until grep -q ready /run/tap.out; do i=\$((i + 1)); [ \$i -lt 200 ] || exit 1; sleep 0.1; done" ||
		{ guest_run tapdom 'cat /run/tap.log; dmesg | tail -n 20'; return 1; }
}

for type in pv pvh; do
	cat /guest/guest.cpio /guest/driver.cpio /payload/guest.cpio "$LAB_STATE/tap.cpio" >"$LAB_STATE/tapdom.cpio"
	driver_domain_start tapdom "$disk" $([ $type = pv ] || echo pvh) ramdisk="$LAB_STATE/tapdom.cpio" || bail "$type: no domain"
	rm "$LAB_STATE/tapdom.cpio"
	check "$type: its module" guest_run tapdom 'insmod /lab/modules/blktap.ko'
	check "$type: attach" disk_attach g /dev/xvda xvdb backend=tapdom || break
	check "$type: a filter by the guest's pages" serve noop
	check "... fio verify" verify
	guest_run tapdom 'kill -9 $(cat /run/tap.pid)'
	check "$type: killed; a filter with a copy of the data takes over" serve fault:corrupt=1,p=0
	check "... fio verify" verify
	check "... mkfs and fsck" guest_run g 'mkfs.ext4 -q -F /dev/xvdb && e2fsck -fn /dev/xvdb >/dev/null 2>&1'
	guest_bg g load 'fio --name=v --filename=/dev/xvdb --size=16M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --output-format=terse >/dev/null'
	for chain in noop raw:/dev/xvda noop; do
		sleep 0.5
		guest_run tapdom 'kill -9 $(cat /run/tap.pid)'
		check "$type: killed under load; $chain takes over" serve $chain
	done
	check "... and the load has not noticed" guest_wait -t 120 g load
	check "$type: the program ends" guest_run tapdom 'kill $(cat /run/tap.pid)'
	check "$type: detach" disk_detach g xvdb
	check "$type: rmmod" guest_run tapdom 'rmmod blktap'
	check "$type: dmesg of the domain" guest_clean tapdom
	check "$type: the domain ends" guest_destroy tapdom
done
