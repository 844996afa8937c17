# SPDX-License-Identifier: GPL-2.0
# The kernel's own tests of network devices (tools/testing/selftests/drivers/net), on netfront in a guest. Not
# run by default: tools/lab/kselftest/collect SOURCE, then tools/lab/lab run tools/lab/kselftest/kselftest_net.sh.
# timeout: 600
#
# The guest sees dom0's root read-only, for Python, iproute2 and ethtool. Its first interface is tested; the
# second one, on the same bridge, is in a network name space of its own and stands for the remote end.
swap_driver net "$MODULES_BACK" || bail "no back end"
swap_driver back "$MODULES_BACK" || bail "no back end for the disk"
guest_start g pv modules="$MODULES_FRONT" vcpus=2 memory=512 || bail "no guest"
guest_net_driver g "$MODULES_FRONT" || bail "no front end"
check "an interface" net_attach g 60 || bail "no interface"
check "another" net_attach_only g 61
sync
root=$(losetup -r -f --show "$(findmnt -n -o SOURCE /)") || bail "dom0 has no root"
check "dom0's root" disk_attach g "$root" xvdb r
check "the tests" guest_put g /payload/tests/selftests.tar /run/selftests.tar
check "they are there" guest_run g 'modprobe ext4; until [ -d /sys/class/net/eth1 ]; do sleep 0.1; done
	mount -t ext4 -o ro /dev/xvdb /mnt && mount -t tmpfs t /mnt/run && mount -t tmpfs t /mnt/tmp && mount --bind /proc /mnt/proc &&
	mount -t sysfs s /mnt/sys && mount -t debugfs d /mnt/sys/kernel/debug && mount -t devtmpfs d /mnt/dev &&
	mkdir /mnt/run/t /mnt/run/bin && tar -C /mnt/run/t -xf /run/selftests.tar && rm /run/selftests.tar'
# dom0 has busybox's ping only
guest_run g 'printf "#!/bin/bash\nargs=(); for a; do case \$a in -W0.*) a=-W1 ;; esac; args+=(\$a); done; exec busybox ping \${args[@]}\n" >/mnt/run/bin/ping
	chmod 755 /mnt/run/bin/ping'
check "the remote end" guest_run g 'chroot /mnt sh -e -c "
	ip netns add remote; ip link set eth1 netns remote; ip -n remote addr add 10.9.0.61/24 dev eth1
	ip -n remote -6 addr add fd00::61/64 dev eth1 nodad; ip -n remote link set eth1 up; ip -n remote link set lo up
	ip -6 addr add fd00::60/64 dev eth0 nodad; busybox ping -c 1 -W 5 10.9.0.61"'
for t in ${KSELFTEST:-stats.py queues.py napi_threaded.py ping.py shaper.py ring_reconfig.py hds.py napi_id.py gro.py so_txtime.py netpoll_basic.py hw/csum.py hw/tso.py hw/irq.py}; do
	guest_run -t 120 g "chroot /mnt sh -c 'cd /run/t/tools/testing/selftests/drivers/net/$(dirname "$t") &&
		export NETIF=eth0 LOCAL_V4=10.9.0.60 REMOTE_V4=10.9.0.61 LOCAL_V6=fd00::60 REMOTE_V6=fd00::61 REMOTE_TYPE=netns REMOTE_ARGS=remote PYTHONPATH=/run/t/python PATH=/run/bin:\$PATH \
		PYTHONDONTWRITEBYTECODE=1; timeout -k 5 100 python3 ./$(basename "$t") 2>&1'" >/run/out
	diag "$t: status $?"
	sed 's/^/# /' /run/out
	passed=$(grep -c '^ok' /run/out) failed=$(grep -c '^not ok' /run/out) skipped=$(grep -ci '^ok.*skip' /run/out)
	is "$t: $((passed - skipped)) passed, $skipped skipped, failed" "$failed" 0
	guest_run g 'ip link set eth0 up; ip addr | grep -q 10.9.0.60 || ip addr add 10.9.0.60/24 dev eth0'
done
guest_run g 'ip addr flush dev eth0; ip link set eth0 down'
guest_run -t 60 g "chroot /mnt sh -c 'cd /run/t/tools/testing/selftests/net && timeout 50 sh ./netdevice.sh 2>&1'" >/run/out
is "netdevice.sh" "$(grep -c '^FAIL' /run/out)" 0
sed 's/^/# /' /run/out
