# SPDX-License-Identifier: GPL-2.0
# Disks.

# lab_disk MB: a new empty disk of that size: prints the path of a loop device (memory behind it).
lab_disk() {
	local file
	file=$(mktemp "$LAB_STATE/disks/XXXXXX") && truncate -s "${1}M" "$file" && losetup -f --show "$file"
}

# lab_disk_free DEVICE: give it back.
lab_disk_free() {
	local file
	file=$(losetup -nO BACK-FILE "$1") || return 1
	losetup -d "$1" && rm -f "$file"
}

# disk_attach GUEST DEVICE VDEV [w|r] [backend=NAME]: xl block-attach to a running guest; waits until
# the guest has it. With backend=, DEVICE is one of that driver domain. In dom0 the hotplug script is a
# quick one of the lab's; DISK_SCRIPT=block is Xen's own.
disk_attach() {
	disk_attach_only "$@" || return 1
	guest_run -t 40 "$1" "i=0; until [ \"\$(cat /sys/block/$3/size 2>/dev/null || echo 0)\" -gt 0 ] && [ -b /dev/$3 ]; do
		i=\$((i + 1)); [ \$i -lt $((200 * LAB_STRETCH)) ] || exit 1; sleep 0.1; done" || {
		echo "disk_attach: $3 does not appear in $1" >&2
		disk_state "$1" "$3" >&2
		return 1
	}
}

# disk_attach_only: the same without the wait.
disk_attach_only() {
	local access=w backend="script=${DISK_SCRIPT:-$LAB/block-quick}," word
	for word in "${@:4}"; do
		case $word in
		backend=*) backend="$word," ;;
		*) access=$word ;;
		esac
	done
	timeout -k 5 $((60 * LAB_STRETCH)) xl block-attach "$(guest_domid "$1")" "format=raw,backendtype=phy,vdev=$3,access=$access,${backend}target=$2"
}

# disk_detach GUEST VDEV [force]: xl block-detach; waits until the guest and dom0 have let go.
disk_detach() {
	local id dev back
	id=$(guest_domid "$1")
	dev=$(disk_id "$id" "$2") || { echo "disk_detach: $1 has no $2" >&2; return 1; }
	back=$(xenstore-read "/local/domain/$id/device/vbd/$dev/backend" 2>/dev/null)
	timeout -k 5 $((60 * LAB_STRETCH)) xl block-detach ${3:+--force} "$id" "$dev" || return 1
	wait_for 20 disk_gone "$id" "$dev" "$back" || { disk_state "$1" "$2" >&2; return 1; }
}

# disk_gone DOMID NUMBER [PATH]: has the back end (dom0's, or that at PATH) gone from the store?
disk_gone() {
	! xenstore-exists "${3:-/local/domain/0/backend/vbd/$1/$2}" 2>/dev/null
}

# disk_id DOMID VDEV: the number of a disk (xvda is 51712).
disk_id() {
	local n back
	case $2 in
	xvd[a-p])
		printf -v n %d "'${2#xvd}"
		n=$((51712 + 16 * (n - 97)))
		echo $n
		xenstore-exists "/local/domain/$1/device/vbd/$n" || xenstore-exists "/local/domain/0/backend/vbd/$1/$n"
		return ;;
	esac
	for n in $(xenstore-list "/local/domain/$1/device/vbd" 2>/dev/null); do
		back=$(xenstore-read "/local/domain/$1/device/vbd/$n/backend" 2>/dev/null)
		if [ "$(xenstore-read "$back/dev" 2>/dev/null)" = "$2" ]; then
			echo "$n"
			return
		fi
	done
	for n in $(xenstore-list "/local/domain/0/backend/vbd/$1" 2>/dev/null); do
		if [ "$(xenstore-read "/local/domain/0/backend/vbd/$1/$n/dev")" = "$2" ]; then
			echo "$n"
			return
		fi
	done
	return 1
}

# disk_state GUEST VDEV: what the store says of a disk.
disk_state() {
	local id dev
	id=$(guest_domid "$1")
	dev=$(disk_id "$id" "$2") || { echo "$1 has no $2 in the store"; return; }
	xenstore-ls "$(xenstore-read "/local/domain/$id/device/vbd/$dev/backend" 2>/dev/null ||
		echo "/local/domain/0/backend/vbd/$id/$dev")" | sed 's/^/back:  /'
	xenstore-ls "/local/domain/$id/device/vbd/$dev" | sed 's/^/front: /'
}
