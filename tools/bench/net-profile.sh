# SPDX-License-Identifier: GPL-2.0
# For bench --net --profile; see profile.sh.
# timeout: 5000
. /payload/tests/block.inc
. /payload/tests/net.inc

bench_symbols
net_all net_marked
ok "profiled"
