# SPDX-License-Identifier: GPL-2.0
# Both ends ours: the back end is unbound and bound, and its module loaded anew, under load: a pause,
# no error.
# timeout: 400
swap_driver back ours || bail "no back end"
guest_get g pv modules=ours || bail "no guest"
id=$(guest_domid g)
grants_note g
check "attach" disk_attach g "$(lab_disk 64)" xvdb
check "load" busy_start g /dev/xvdb
dev=vbd-$id-51728
drivers=/sys/bus/xen-backend/drivers/rust-blkback

connected() {
	[ -e "/sys/bus/xen-backend/devices/$dev/driver" ] &&
		[ "$(xenstore-read "/local/domain/0/backend/vbd/$id/51728/state")" = 4 ]
}
for how in unbind unbind reload unbind reload; do
	sleep 1
	echo "$dev" >$drivers/unbind
	# long enough to be seen as a pause
	sleep 0.5
	case $how in
	unbind) echo "$dev" >$drivers/bind ;;
	reload) driver_unload blkback && driver_load blkback ;;
	esac
	check "$how: connected again" wait_for 20 connected
	sleep 0.5
	pause=$(busy_pauses g | sort -n | tail -n 1)
	check "$how: ... after a pause of ${pause:-0} ms" test "${pause:-0}" -gt 300
done
check "no error, every byte right" busy_stop g
diag "$ktap_out"
check "detach" disk_detach g xvdb
grants_check g
