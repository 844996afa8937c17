# SPDX-License-Identifier: GPL-2.0
# A network back end that misbehaves in every way we know; the front end gives that interface up, leaks
# nothing.
# timeout: 300
# cpus: 2
#
# `hostile netback` serves interfaces of its own to a guest with an ordinary front end, sends to them
# and looks at what comes back, and counts the guest's grants after each. eth0, served by dom0's back
# end, is innocent and has to go on.

[ "$MODULES_FRONT" = ours ] || tolerant=--tolerant

swap_driver net "$MODULES_BACK" || bail "no back end"
guest_start g pv modules=none vcpus=2 || bail "no guest"
guest_run g "$free_at_once"
guest_net_driver g "$MODULES_FRONT" || bail "no front end"
mkdir -p /run/www
dd if=/dev/urandom of=/run/www/file bs=64k count=4 2>/dev/null
sum=$(sha256sum /run/www/file | cut -d' ' -f1)
net_bridge
busybox httpd -p 8080 -h /run/www
check "innocent interface appears" net_attach g 30 || bail "no innocent interface"
guest_bg g innocent "n=0
	while [ ! -e /tmp/stop ]; do
		wget -q -O - http://10.9.0.1:8080/file | sha256sum | grep -q $sum || exit 1
		n=\$((n + 1)); sleep 2
	done; echo \$n"
hostile_addresses g
[ "$MODULES_FRONT" != ours ] || program=$(hostile_program g)
disabled() {
	guest_dmesg g | grep -c 'interface disabled'
}
ulimit -n 16384
hostile netback ${HOSTILE:-all} --guest "$(guest_domid g)" --count "${FUZZ_COUNT:-1000}" \
	--timeout $((10 * LAB_STRETCH)) $tolerant ${program:+--program "$program"} >/run/hostile.out || echo "#status $?" >>/run/hostile.out
results_of cat /run/hostile.out
if [ "$MODULES_FRONT" = ours ]; then
	is "each time with one message" "$(disabled)" "$(awk '/^# disabled/ { print $3 }' /run/hostile.out)"
fi
guest_bg g fixups 'while [ ! -e /tmp/stop ]; do for d in /sys/class/net/eth*; do
	ethtool -S ${d##*/} 2>/dev/null; done; done | grep -m 1 "rx_gso_checksum_fixup: [1-9]"'
hostile netback rx-gso-odd --guest "$(guest_domid g)" --timeout $((10 * LAB_STRETCH)) $tolerant >/run/hostile.out
guest_run g 'touch /tmp/stop'
check "checksums were to be made up for" guest_wait -t 30 g fixups
check "innocent interface has worked all the time" guest_wait -t 30 g innocent
diag "$ktap_out files were fetched"
check "innocent interface goes on" guest_run g 'ping -c 2 -W 5 -q 10.9.0.1'
is "no other interface is left" "$(guest_run g 'ls /sys/class/net | grep eth')" eth0
check "detach" net_detach g
guest_stop g
pkill -f "httpd -p 8080" || :
