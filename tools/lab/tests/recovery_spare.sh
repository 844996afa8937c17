# SPDX-License-Identifier: GPL-2.0
# The same with a spare that is booted: it takes over at once.
# timeout: 420
# cpus: 2
recovery_start --stuck $((10 * LAB_STRETCH)) --spare
for how in destroyed crashed hung; do
	devmgr_says 60 '*spare:*ready*'
	is "$how: a spare is ready" $? 0 || break
	sleep 1
	recovery_kill $how
	devmgr_says 90 '*watching domain*'
	is "$how: the disk is back" $? 0 || break
	case "${devmgr_said[*]}" in *"the spare, is up"*) ok "$how: it was the spare" ;; *) not_ok "$how: it was the spare" ;; esac
	sleep 1
	pause=$(busy_pauses g | sort -n | tail -n 1)
	diag "$how: longest pause ${pause:-?} ms"
done
recovery_end
sed 's/^/# devmgr: /' "$LAB_STATE/logs/devmgr"
