# SPDX-License-Identifier: GPL-2.0
# Large requests are one request of the ring each; what the back end takes, and we want, decides.
# What is discarded is given back.
# timeout: 300
. /payload/tests/blkfront.inc
swap_driver back "$MODULES_BACK" || bail "no back end"
guest_get g pv modules=ours || bail "no guest"
disk=$(lab_disk 64)

for most in 32 64 256 20 11; do
	check "$most: load" front_with max_indirect_segments=$most
	check "$most: attach" disk_attach g "$disk" xvdb
	segments=$(back_says feature-max-indirect-segments)
	segments=$((segments > most ? most : segments))
	segments=$((segments > 11 ? segments : 11))
	is "$most: segments" "$(queue max_segments)" $segments
	is "$most: size in KB" "$(queue max_hw_sectors_kb)" $((segments * 4))
	before=$(requests)
	check "$most: read" guest_run g "dd if=/dev/xvdb of=/dev/null bs=$((segments * 4))k count=8 iflag=direct"
	check "$most: write" guest_run g "dd if=/dev/zero of=/dev/xvdb bs=$((segments * 4))k count=8 oflag=direct"
	# The loop device itself takes 128 segments.
	[ $most = 256 ] || is "$most: each was one request" $(($(requests) - before)) 16
	[ $most = 64 ] || verified "$most segments"
	check "$most: detach" disk_detach g xvdb
done

check "attach" disk_attach g "$disk" xvdb
if [ "$(back_says feature-discard)" = 1 ]; then
	file=$(losetup -nO BACK-FILE "$disk")
	check "write" guest_run g 'dd if=/dev/urandom of=/dev/xvdb bs=1M count=32 oflag=direct 2>/dev/null'
	before=$(stat -c %b "$file")
	check "discard" guest_run g 'blkdiscard -o 4M -l 16M /dev/xvdb'
	check "the blocks are free" [ $((before - $(stat -c %b "$file"))) -ge 32768 ]
	is "they are zeroes" "$(guest_run g 'dd if=/dev/xvdb bs=1M skip=4 count=16 iflag=direct 2>/dev/null | tr -d "\0" | wc -c')" 0
	is "granularity" "$(queue discard_granularity)" "$(back_says discard-granularity)"
	[ "$(back_says discard-secure)" = 1 ] || check_fails "nothing is erased by a discard" guest_run g 'blkdiscard -s -o 0 -l 1M /dev/xvdb'
else
	skip "discard" "the back end has none"
fi
check "detach" disk_detach g xvdb
is "parameters" "$(guest_run g 'cd /sys/module/blkfront/parameters && grep . * | tr "\n" " "')" \
	"feature_persistent:Y max_indirect_segments:11 max_queues:4 max_ring_page_order:0 trusted:Y "
