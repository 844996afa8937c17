# SPDX-License-Identifier: GPL-2.0
# The program behind a tap is killed, or replaced, FAULT_COUNT times (20) as FAULT_HOW says (hold,
# passthrough, upgrade), while the guest verifies its disk. A line for each, with times in ms.
# timeout: 1200

swap_driver back ours || bail "no back end"
driver_load blktap || bail "no taps"
guest_start g pv modules=ours vcpus=2 || bail "no guest"
id=$(guest_domid g)
disk=$(lab_disk 64)
check "attach" disk_attach g "$disk" xvdb || exit 1
# by the guest's pages; with a copy in the window; as the disk
chains=(noop fault:corrupt=1,p=0 "raw:$disk")
how=${FAULT_HOW:-hold} policy=hold
# as the disk, there is nothing to go to
[ $how != passthrough ] || { policy=passthrough; chains=(noop fault:corrupt=1,p=0); }
check "a tap" tapctl attach --policy $policy g xvdb noop || exit 1
check "load" busy_start g /dev/xvdb 20
sleep 3

# pid: that of the program.
pid() { cat "/run/blktap/$id-51728.pid"; }

# longest: the longest pause since the last call; 0 if there was none.
longest() { busy_pauses g | sort -n | tail -n 1 | grep . || echo 0; }

for ((n = 1; n <= ${FAULT_COUNT:-20}; n++)); do
	chain=${chains[n % ${#chains[@]}]}
	quiet=$(longest)
	start=${EPOCHREALTIME/./}
	case $how in
	hold)
		kill -9 "$(pid)"
		reason=$(tapctl attach g xvdb "$chain" 2>&1) ;;
	passthrough)
		kill -9 "$(pid)" ;;
	upgrade)
		reason=$(tapctl upgrade g xvdb "$chain" 2>&1) ;;
	esac
	status=$?
	command=$(((${EPOCHREALTIME/./} - start) / 1000))
	sleep 0.5
	pause=$(longest)
	wrong=$(busy_wrong g) || wrong="the guest does not answer"
	if [ $status = 0 ] && [ -z "$wrong" ]; then
		echo "fault $n pause=$pause command=$command quiet=$quiet chain=${chain%%:*}"
	else
		echo "fault $n failed: chain=$chain: $reason; ${wrong//$'\n'/; }"
		not_ok "fault $n"
		sed 's/^/# /' <<<"$(tail -n 5 "/run/blktap/$id-51728.log")"
		[ -z "$wrong" ] || break
	fi
	if [ $how = passthrough ] && ! reason=$(tapctl attach --policy $policy g xvdb "$chain" 2>&1); then
		not_ok "fault $n: $reason"
	fi
	# half of them at once after the last
	[ $((n % 2)) = 0 ] || sleep 1
done
check "no error, every byte right" busy_stop g
diag "$ktap_out"
check "take the tap away" tapctl detach g xvdb
check "detach" disk_detach g xvdb
check "dmesg of the guest" guest_clean g
check "rmmod" driver_unload blktap
