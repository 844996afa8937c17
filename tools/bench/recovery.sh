# SPDX-License-Identifier: GPL-2.0
# A driver domain is ended over and over (RECOVERY_COUNT times, 20; RECOVERY_HOW) under load; each time
# devmgr (RECOVERY_OPTIONS) has another one take its place. A line for each, with times in ms.
# timeout: 3600

# seconds TEXT WORDS: the seconds that follow the words in the text, in ms; nothing if it has not got them.
seconds() {
	[[ $1 =~ $2\ ([0-9]+)\.([0-9]{3})\ s ]] && echo $((10#${BASH_REMATCH[1]}${BASH_REMATCH[2]}))
}

# stamp LINE: the time at which devmgr said so, in ms since 1970.
stamp() {
	date -d "${1%% *}" +%s%3N
}

# recovery N: one of them; prints its line. What was wrong is in $wrong.
recovery() {
	local start end line said pause key words value noticed='' how=${RECOVERY_HOW:-destroyed}
	start=${EPOCHREALTIME/./}
	recovery_kill "$how" || { wrong="the domain could not be $how"; return 1; }
	end=${EPOCHREALTIME/./}
	devmgr_says 90 '*watching domain*' || { wrong="devmgr says: ${devmgr_said[*]: -1}"; return 1; }
	said=${devmgr_said[*]}
	[[ $said = *' is back'* ]] || { wrong="devmgr says: $said"; return 1; }
	for line in "${devmgr_said[@]}"; do
		[[ $line != *'; it served'* ]] || noticed=$(($(stamp "$line") - start / 1000))
	done
	sleep 0.5
	pause=$(busy_pauses g | sort -n | tail -n 1)
	wrong=$(busy_wrong g) || wrong="the guest does not answer"
	[ -z "$wrong" ] || return 1
	[ -n "$pause" ] || { wrong="no pause was seen"; return 1; }
	line="recovery $1 pause=$pause command=$(((end - start) / 1000)) noticed=$noticed"
	while read -r key words; do
		value=$(seconds "$said" "$words") && line+=" $key=$value"
	done <<-END
		gone destroyed in
		create created in
		boot booted in
		disks disks in
		attach again in
	END
	echo "$line"
}

# ready: wait until the next one may follow: with a spare, until that is there.
ready() {
	local line
	[[ " $RECOVERY_OPTIONS " = *' --spare '* ]] || return 0
	devmgr_says 120 '*spare:*ready*' || { wrong="no spare: ${devmgr_said[*]: -1}"; return 1; }
	for line in "${devmgr_said[@]}"; do
		[[ $line != *'created in'* ]] || spare_create=$(seconds "$line" 'created in')
		[[ $line != *'booted in'* ]] || echo "spare create=$spare_create boot=$(seconds "$line" 'booted in')"
	done
}

# start, again after what went wrong: all that is needed.
start() {
	# shellcheck disable=SC2086
	recovery_start $RECOVERY_OPTIONS
	devmgr_says 10 '*watching domain*'
	sleep 3
	busy_pauses g >/dev/null
}

start
for ((n = 1; n <= ${RECOVERY_COUNT:-20}; n++)); do
	ready || { echo "recovery $n failed: $wrong"; continue; }
	# half of them while the domain has work, half at once after the last
	[ $((n % 2)) = 0 ] || sleep 2
	recovery "$n" && continue
	echo "recovery $n failed: ${wrong//$'\n'/; }"
	not_ok "recovery $n"
	sed 's/^/# devmgr: /' <<<"$(tail -n 20 "$LAB_STATE/logs/devmgr")"
	if [ -n "$(busy_wrong g)" ] || ! wait_for 60 driver_domain_beats drv; then
		devmgr_stop
		guest_destroy g
		xl destroy drv 2>/dev/null
		xl destroy drv.spare 2>/dev/null
		start
	fi
done
recovery_end
check "dmesg of the guest" guest_clean g
