# SPDX-License-Identifier: GPL-2.0
# Results in KTAP (Documentation/dev-tools/ktap.rst), for bash in dom0 and busybox sh in guests.
KTAP_N=0
KTAP_FAILED=0
KTAP_PLAN=
KTAP_NEWLINE='
'

# plan N: how many results there will be; without it, the plan is printed at the end.
plan() {
	KTAP_PLAN=$1
	echo "1..$1"
}

ok() {
	KTAP_N=$((KTAP_N + 1))
	echo "ok $KTAP_N - $*"
}

not_ok() {
	KTAP_N=$((KTAP_N + 1))
	KTAP_FAILED=$((KTAP_FAILED + 1))
	echo "not ok $KTAP_N - $*"
	return 1
}

# skip DESCRIPTION WHY
skip() {
	KTAP_N=$((KTAP_N + 1))
	echo "ok $KTAP_N - $1 # SKIP $2"
}

# diag TEXT...: lines for whoever reads a failure.
diag() {
	ktap_text=$*
	echo "# ${ktap_text//$KTAP_NEWLINE/$KTAP_NEWLINE# }"
}

# check DESCRIPTION COMMAND...: ok when the command succeeds; its output is shown when it does not.
check() {
	ktap_what=$1
	shift
	if ktap_out=$("$@" 2>&1); then
		ok "$ktap_what"
	else
		ktap_status=$?
		echo "$ktap_out" | tail -n 40 | sed 's/^/# /'
		echo "# status $ktap_status: $*" | head -n 5
		not_ok "$ktap_what"
	fi
}

# check_fails DESCRIPTION COMMAND...: ok when the command fails.
check_fails() {
	ktap_what=$1
	shift
	if ktap_out=$("$@" 2>&1); then
		echo "$ktap_out" | tail -n 40 | sed 's/^/# /'
		not_ok "$ktap_what (it succeeded)"
	else
		ok "$ktap_what"
	fi
}

# is DESCRIPTION GOT WANTED
is() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		echo "# got    '$2'"
		echo "# wanted '$3'"
		not_ok "$1"
	fi
}

# bail TEXT: nothing further can be tried; ends the test as failed.
bail() {
	not_ok "$*"
	exit 1
}

ktap_end() {
	[ -n "$KTAP_PLAN" ] || echo "1..$KTAP_N"
}
