# SPDX-License-Identifier: GPL-2.0
# The foundation's own tests (xenbus/selftest.rs), in dom0.
# timeout: 60
driver_load rust_xenbus
insmod /payload/modules/xenbus_selftest.ko
status=$?
dmesg | awk '/lab: test xenbus_selftest begins/ { n = 0 } { line[n++] = $0 }
	END { for (i = 0; i < n; i++) if (sub(/.*xenbus_selftest: /, "", line[i])) print line[i] }'
KTAP_PLAN=done
[ $status = 0 ] && rmmod xenbus_selftest
