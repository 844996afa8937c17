# SPDX-License-Identifier: GPL-2.0
# Several hardware queues, each with a ring of its own; rings of several pages.
# timeout: 300
. /payload/tests/blkfront.inc
swap_driver back "$MODULES_BACK" && back_queues 2 || bail "no back end"
guest_start g pv modules=ours vcpus=2 || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
grants_note g

for param in max_queues=4 max_queues=1 max_ring_page_order=2 "max_queues=2 max_ring_page_order=9"; do
	check "$param: load" front_with "$param"
	check "$param: attach" disk_attach g "$disk" xvdb
	queues=$(back_says multi-queue-max-queues) order=$(back_says max-ring-page-order)
	queues=$((queues > 2 ? 2 : queues > 1 ? queues : 1))
	case $param in *order=2) order=$((order > 2 ? 2 : order)) ;; *order=9) order=$((order > 4 ? 4 : order)) ;; *) order=0 ;; esac
	case $param in max_queues=1) queues=1 ;; esac
	is "$param: hardware queues" "$(guest_run g 'ls /sys/block/xvdb/mq | wc -l')" $queues
	is "$param: requests of each" "$(guest_run g 'cat /sys/block/xvdb/mq/0/nr_tags')" $((32 << order))
	is "$param: pages of the ring" "$(front_says ring-page-order)" $order
	keys=$(xenstore-list "/local/domain/$id/device/vbd/51728" | grep -E '^(queue-|ring-ref)' | sort | tr '\n' ' ')
	if [ $queues -gt 1 ]; then
		is "$param: keys" "$keys" "queue-0 queue-1 "
		is "$param: number of queues" "$(front_says multi-queue-num-queues)" $queues
	elif [ $order = 0 ]; then
		is "$param: keys" "$keys" "ring-ref "
	else
		is "$param: keys" "$(wc -w <<<"$keys")" $((1 << order))
	fi
	check "$param: fio on both CPUs" guest_run g "$verify --name=q --size=8M --offset_increment=16M --numjobs=2 --cpus_allowed=0,1 --cpus_allowed_policy=split --rw=randwrite --bsrange=4k-128k --iodepth=$((32 << order))"
	if [ $queues -gt 1 ]; then
		check "$param: both rings have had events" guest_run g '[ "$(grep -w blkif /proc/interrupts | awk "\$2 + \$3 > 5" | wc -l)" = 2 ]'
	fi
	check "$param: detach" disk_detach g xvdb
	grants_check g "$param: "
done

guest_driver g none
check "what another driver left: attach" disk_attach_only g "$disk" xvdb
node=/local/domain/$id/device/vbd/51728
for key in multi-queue-num-queues=9 ring-page-order=3 ring-ref0=5 queue-0/ring-ref=5 queue-0/event-channel=7; do
	xenstore-write "$node/${key%=*}" "${key#*=}"
done
check "load" front_with max_queues=1
check "the disk appears" wait_for 20 guest_run g '[ -b /dev/xvdb ]'
is "nothing is left of the other" "$(xenstore-list "$node" | grep -E '^(queue-|ring-|multi)' | tr '\n' ' ')" "ring-ref "
check "the disk works" guest_run g 'dd if=/dev/xvdb of=/dev/null bs=64k count=4 iflag=direct'
check "detach" disk_detach g xvdb
guest_stop g
