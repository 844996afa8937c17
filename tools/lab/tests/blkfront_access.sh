# SPDX-License-Identifier: GPL-2.0
# The ways in which the back end gets at the data: pages that are granted once and kept, the
# guest's own pages, and pages of the driver's own, granted anew for each request.
# timeout: 400
. /payload/tests/blkfront.inc
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get g pv modules=ours || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
none=$(granted)
grants_note g
few_grants_left() {
	[ "$(granted)" -lt $((none + 50)) ]
}
how() {
	guest_dmesg g | grep -o 'xvdb: .* sectors.*' | tail -n 1 | sed 's/.*, //'
}

for param in feature_persistent=1 feature_persistent=0 "trusted=0 feature_persistent=0"; do
	check "$param: load" front_with "$param"
	check "$param: attach" disk_attach g "$disk" xvdb
	want="pages granted"
	case $param in
	trusted*) want="back end not trusted" ;;
	*=1) [ "$(back_says feature-persistent)" = 0 ] || want="persistent grants" ;;
	esac
	is "$param: $want" "$(how)" "$want"
	is "$param: the back end is told" "$(front_says feature-persistent)" "${param##*=}"
	verified "$param"
	if [ "$want" = "persistent grants" ]; then
		check "$param: pages are kept" [ "$(granted)" -gt $((none + 100)) ]
		if [ "$MODULES_BACK" = c ]; then
			echo 1 >/sys/module/xen_blkback/parameters/persistent_grant_unused_seconds
			check "$param: what is not used is given back" wait_for 60 few_grants_left
		fi
		verified "$param, again"
	fi
	check "$param: detach" disk_detach g xvdb
	grants_check g "$param: "
done

check "a disk of an untrusted back end: load" front_with feature_persistent=0
timeout 60 xl block-attach "$id" "format=raw,backendtype=phy,vdev=xvdb,access=w,untrusted,target=$disk" >/dev/null 2>&1
check "attach" wait_for 20 guest_run g '[ -b /dev/xvdb ]'
is "the toolstack says so" "$(front_says trusted)" 0
is "our pages are not shown" "$(how)" "back end not trusted"
verified "untrusted"
check "detach" disk_detach g xvdb
