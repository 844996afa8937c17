# SPDX-License-Identifier: GPL-2.0
# Guests. Each has a directory $LAB_STATE/guests/NAME; its console is its control channel (tools/agent).

# For guest_run: from now on the guest frees all pages that others have let go of each second, not ten
# of them, so that its grants can be counted.
free_at_once='for f in /sys/module/*/parameters/free_per_iteration; do echo 0 >$f; done'

# guest_start NAME pv|pvh [KEY=VALUE...]: create a guest and wait until its agent answers.
#   modules=ours|c|none  front-end driver to load (default $MODULES_FRONT)
#   memory=MB (256)  vcpus=N (1)  cpus=LIST (any; see below)  kernel=PATH  ramdisk=PATH
#   append=TEXT  more for the kernel's command line
#   disk=SPEC  a disk in xl's syntax, there from the start (may be repeated)
#   config=LINE  a line more for the xl configuration
guest_start() {
	local name=$1 type=$2 modules=$MODULES_FRONT memory=256 vcpus=1 cpus= append= disks= config=
	local kernel=/guest/vmlinux ramdisk=$LAB_STATE/guest.cpio dir=$LAB_STATE/guests/$1 word
	shift 2
	for word in "$@"; do
		case $word in
		modules=* | memory=* | vcpus=* | cpus=* | append=* | kernel=* | ramdisk=* | config=*)
			printf -v "${word%%=*}" %s "${word#*=}" ;;
		disk=*) disks+="'${word#disk=}'," ;;
		*) echo "guest_start: what is $word?" >&2; return 2 ;;
		esac
	done
	# Under emulation a PVH guest that moves between CPUs, or shares one with a PV guest, meets a triple
	# fault now and then: a test that starts one needs two ("cpus: 2").
	if [ "$LAB_CPUS" = 1 ] && [ "$type" != pv ]; then
		echo "guest_start: $type needs a test that says \"cpus: 2\"" >&2
		return 2
	fi
	case $LAB_MODE,$LAB_CPUS,$vcpus,$cpus,$type in
	fast,2,1,,pv) cpus=0 ;;
	fast,2,1,,*) cpus=1 ;;
	esac
	# one that another test has left for those after it
	if guest_alive "$name"; then
		guest_destroy "$name" || return 1
	fi
	rm -rf "$dir"
	mkdir -p "$dir"
	echo "$type" >"$dir/type"
	echo "$modules" >"$dir/modules"
	{
		echo "name='$name'"
		echo "type='$type'"
		echo "kernel='$kernel'"
		echo "ramdisk='$ramdisk'"
		echo "memory=$((memory * ${LAB_MEMORY:-1}))"
		echo "vcpus=$vcpus"
		# without it Xen emulates the TSC under QEMU, and a PVH guest is half as fast
		echo "tsc_mode='native'"
		[ -z "$cpus" ] || echo "cpus='$cpus'"
		[ -z "$disks" ] || echo "disk=[$disks]"
		echo "extra='console=hvc0 quiet loglevel=4 panic=-1 $LAB_CMDLINE lab.name=$name $append'"
		echo "on_poweroff='destroy'"
		# none reboots; what Xen calls so is a triple fault, and its registers are among the logs then
		echo "on_reboot='preserve'"
		echo "on_crash='destroy'"
		echo "$config"
	} >"$dir/cfg"
	if ! guest_boot "$name"; then
		[ -e "$dir/hung" ] || return 1
		# the kernel is stock, and no driver is loaded yet: that is emulation's doing
		echo "#lab note guest $name did not boot, which is retried" >/dev/ttyS1
		cp "$LAB_STATE/logs/guest-$name.log" "$LAB_STATE/logs/guest-$name.log.hung"
		guest_registers "$name" "$(guest_domid "$name")"
		timeout -k 5 $((60 * LAB_STRETCH)) xl destroy "$name" 2>/dev/null
		rm -f "$dir/hung"
		guest_boot "$name" || return 1
	fi
	[ "$modules" = none ] || guest_driver "$name" "$modules"
}

# Create the guest and wait for its agent; leaves the file "hung" when it takes too long.
guest_boot() {
	local name=$1 dir=$LAB_STATE/guests/$1
	timeout -k 5 $((90 * LAB_STRETCH)) xl create -q "$dir/cfg" >"$dir/create" 2>&1
	case $? in
	0) ;;
	124 | 137) touch "$dir/hung" ;;&
	*)
		cat "$dir/create" >&2
		echo "guest_start: xl create of $name failed" >&2
		return 1 ;;
	esac
	if ! guest_attached "$name" || ! guestctl ready "$name" "${LAB_GUEST_LIMIT:-60}"; then
		echo "guest_start: $name does not answer; the end of its console:" >&2
		tail -n 30 "$LAB_STATE/logs/guest-$name.log" >&2
		touch "$dir/hung"
		return 1
	fi
}

# Note the guest's number and console.
guest_attached() {
	local id tty
	id=$(xl domid "$1") || return 1
	echo "$id" >"$LAB_STATE/guests/$1/domid"
	for _ in {1..50}; do
		tty=$(xenstore-read "/local/domain/$id/console/tty" 2>/dev/null) && break
		sleep 0.1
	done
	echo "$tty" >"$LAB_STATE/guests/$1/tty"
}

# guest_get NAME pv|pvh [modules=...]: a guest shared by the tests of a boot: the one that is
# running if it is well, else a new one. It has no disks, and the front end asked for.
guest_get() {
	local name=$1 modules=$MODULES_FRONT word
	for word in "${@:3}"; do
		case $word in modules=*) modules=${word#modules=} ;; esac
	done
	if guest_alive "$name" && guest_run -t 10 "$name" true; then
		[ "$(<"$LAB_STATE/guests/$name/modules")" = "$modules" ] ||
			guest_driver "$name" "$modules" || return 1
	else
		guest_destroy "$name" 2>/dev/null
		guest_start "$@" || return 1
	fi
	: >"$LAB_STATE/guests/$name/shared"
}

guest_domid() {
	cat "$LAB_STATE/guests/$1/domid" 2>/dev/null
}

guest_alive() {
	local id
	id=$(guest_domid "$1") && [ -n "$id" ] && xenstore-exists "/local/domain/$id/domid" 2>/dev/null
}

# guest_run [-t SECONDS] NAME COMMAND: run a shell command in the guest. Prints what it prints,
# returns its status; 124 when it takes longer than the limit (60 s).
guest_run() {
	local limit=60
	if [ "$1" = -t ]; then
		limit=$2
		shift 2
	fi
	guestctl run "$1" "$limit" "$2"
}

# guest_put NAME FILE PATH: copy a file of dom0's into the guest.
guest_put() {
	guestctl put "$1" "${4:-60}" "$2" "$3"
}

# guest_bg NAME TAG COMMAND: start a command in the guest; guest_wait gives its result.
guest_bg() {
	guest_run "$1" "(sh -c $(printf %q "$3") >/run/$2.out 2>&1 </dev/null; echo \$? >/run/$2.tmp; mv /run/$2.tmp /run/$2.status) >/dev/null 2>&1 & :"
}

# guest_wait [-t SECONDS] NAME TAG: wait for what guest_bg started; its output and status.
guest_wait() {
	local limit=60
	if [ "$1" = -t ]; then
		limit=$2
		shift 2
	fi
	guest_run -t "$limit" "$1" "while [ ! -e /run/$2.status ]; do sleep 0.2; done; cat /run/$2.out; s=\$(cat /run/$2.status); rm /run/$2.*; exit \$s"
}

# guest_test NAME FILE [SECONDS]: run a test script in the guest; its results become ours.
guest_test() {
	local name=$1 line status
	{
		cat "$LAB/ktap.sh" "$2"
		echo ktap_end
	} >"$LAB_STATE/guests/$name/script"
	guest_put "$name" "$LAB_STATE/guests/$name/script" /run/test.sh || bail "cannot copy $2 to $name"
	while IFS= read -r line; do
		case $line in
		"ok "*" # SKIP "*) line=${line#* - }; skip "$name: ${line% # SKIP *}" "${line##* # SKIP }" ;;
		"ok "*) ok "$name: ${line#* - }" ;;
		"not ok "*) not_ok "$name: ${line#* - }" ;;
		1..*) ;;
		"#status "*) status=${line#* } ;;
		*) diag "$name: $line" ;;
		esac
	done < <(guest_run -t "${3:-60}" "$name" "sh /run/test.sh 2>&1"; echo; echo "#status $?")
}

# results_of COMMAND...: run a program that prints KTAP; its results become ours. One more, if it fails with
# none of them at fault.
results_of() {
	local line text failed=$KTAP_FAILED
	while read -r line; do
		text=${line#*ok * }
		text=${text#- }
		case $line in
		"ok "*"# SKIP "*) skip "${text% # SKIP*}" "${text#*# SKIP }" ;;
		"ok "*) ok "$text" ;;
		"not ok "*) not_ok "$text" ;;
		1..* | KTAP*) ;;
		"# "*) echo "$line" ;;
		"#status "*) [ "$KTAP_FAILED" != "$failed" ] || not_ok "$1 ended with ${line#?}" ;;
		*) diag "$line" ;;
		esac
	done < <("$@" || echo "#status $?")
}

# at_once LINE...: run these commands at the same time, each a line of shell; their results become ours, the
# first one's first.
at_once() {
	local line n=0 dir pids=()
	dir=$(mktemp -d)
	for line; do
		(KTAP_N=0; eval "$line") >"$dir/$n" 2>&1 &
		pids+=($!)
		n=$((n + 1))
	done
	wait "${pids[@]}"
	for ((line = 0; line < n; line++)); do
		results_of cat "$dir/$line"
	done
	rm -r "$dir"
}

# guest_save_restore NAME: save it, and restore it.
guest_save_restore() {
	local saved=$LAB_STATE/disks/saved
	check "save" timeout 120 xl save "$1" "$saved"
	check "restore" timeout 120 xl restore "$saved"
	rm -f "$saved"
	guest_attached "$1"
	check "the guest answers" guest_run -t 60 "$1" true
}

# grants_note NAME: note what the guest has granted, to whomever. grants_check NAME [PREFIX]: check that it is
# no more by now. What others let go late is ended by a timer.
grants_note() {
	hostile grants "$(guest_domid "$1")" all >"$LAB_STATE/guests/$1/grants"
}
grants_check() {
	check "$2no grant is left" wait_for 5 grants_same "$1" ||
		diag "before: $(<"$LAB_STATE/guests/$1/grants"), now: $(hostile grants "$(guest_domid "$1")" all)"
}
grants_same() {
	[ "$(hostile grants "$(guest_domid "$1")" all)" = "$(<"$LAB_STATE/guests/$1/grants")" ]
}

guest_dmesg() {
	guest_run -t 20 "$1" dmesg
}

# guest_clean NAME: does the guest's kernel have nothing to complain of? Shows what it does.
guest_clean() {
	local bad
	guest_dmesg "$1" >"$LAB_STATE/logs/$1.dmesg.tmp" || { echo "$1 does not give its dmesg"; return 1; }
	mv "$LAB_STATE/logs/$1.dmesg.tmp" "$LAB_STATE/logs/$1.dmesg"
	bad=$(dmesg_bad "$LAB_STATE/logs/$1.dmesg") || return 0
	echo "$bad"
	return 1
}

# dmesg_bad FILE: print the lines that no healthy kernel writes; succeeds when there are any.
dmesg_bad() {
	grep -qE "$DMESG_BAD" "$1" || return 1
	grep -E -A12 "$DMESG_BAD" "$1" | { [ -n "${EXPECT_DMESG:-}" ] && grep -vE "$EXPECT_DMESG" || cat; } |
		grep -E -A12 "$DMESG_BAD"
}
DMESG_BAD='BUG:|WARNING:|Oops|general protection|rcu: INFO|refcount_t|INFO: task .* blocked|possible (recursive|circular)|Call Trace|kernel BUG|Bad page|bad page|panicked|unable to handle|xen:grant_table: WARNING|leaked|still in use!'

# guest_stop NAME: look at its dmesg, then end it. guest_destroy NAME: end it at once.
guest_stop() {
	local status=0
	guest_clean "$1" || status=1
	guest_run -t 20 "$1" sync
	guest_destroy "$1" || status=1
	return $status
}

guest_destroy() {
	local id
	id=$(guest_domid "$1")
	if [ -n "$id" ]; then
		[ "$(cat "$LAB_STATE/guests/$1/type")" = pv ] || guest_registers "$1" "$id"
		timeout -k 5 $((60 * LAB_STRETCH)) xl destroy "$id" 2>/dev/null
		wait_for 20 guest_gone "$id" || return 1
	fi
	rm -rf "${LAB_STATE:?}/guests/$1"
}

# A guest that has met a triple fault leaves its registers among the logs.
guest_registers() {
	local file=$LAB_STATE/logs/registers-$1
	xl list "$2" 2>/dev/null | grep -q '[r-][b-][p-]s' || return 0
	for ctx in /usr/lib/xen-*/bin/xenctx; do
		"$ctx" -a "$2" 0 >"$file" 2>&1
	done
	diag "guest $1 has shut down by itself: $(head -n 1 "$file"); see registers-$1 among the logs"
}

guest_gone() {
	! xenstore-exists "/local/domain/$1" 2>/dev/null
}

# guest_shutdown NAME: as `xl shutdown`, and wait until it is gone.
guest_shutdown() {
	local id
	id=$(guest_domid "$1")
	timeout -k 5 $((30 * LAB_STRETCH)) xl shutdown "$id" >/dev/null && wait_for 60 guest_gone "$id" || return 1
	rm -rf "${LAB_STATE:?}/guests/$1"
}

# domain_gone DOMID: Xen has nothing left of that domain, not even pages that somebody maps.
domain_gone() {
	! xl list | awk -v id="$1" '$2 == id { found = 1 } END { exit !found }'
}
