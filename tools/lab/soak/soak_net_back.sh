# SPDX-License-Identifier: GPL-2.0
# A back end exchanges packets with a guest, some mutated, until $SOAK_COUNT (100000) are sent.
# timeout: 3600
#
# SOAK_SECONDS=N ends it after that time, with whatever count.
# Not among the tests that run by default: SOAK_COUNT=1000000 tools/lab/lab run soak/soak_net_back.sh
# Each interface ends with a message that no front end may put up with; then the next one comes. The
# grants are counted after each, and an innocent interface is tried in the end.

count=${SOAK_COUNT:-100000} seed=${SOAK_SEED:-1}

swap_driver net ours || bail "no back end"
guest_start g pv modules=none vcpus=2 || bail "no guest"
guest_run g "$free_at_once"
guest_net_driver g ours && net_attach g 30 || bail "no innocent interface"
hostile_addresses g
ulimit -n 16384
results_of hostile netback fuzz --guest "$(guest_domid g)" --count "$count" --seed "$seed" \
	--seconds "${SOAK_SECONDS:-3000}" --timeout $((10 * LAB_STRETCH))
guest_run g 'touch /tmp/stop'
check "innocent interface" guest_run g 'ping -c 2 -W 5 -q 10.9.0.1'
guest_stop g
