# SPDX-License-Identifier: GPL-2.0
# For bench --net --profile; see profile.sh.
# timeout: 5000
. /payload/tests/block.inc
. /payload/tests/net.inc

bench_symbols
check "servers" net_serve
check "guest" guest_start bench pv cpus=1 modules=none || bail "no guest"
for pair in $BENCH_PAIRS; do
	net_jobs "$pair" net_marked
done
ok "profiled"
