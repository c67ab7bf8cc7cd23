# What the scripts share; each begins with `. "${0%/*}/common.sh"`.
set -euo pipefail

uri=${LIBVIRT_DEFAULT_URI:-xen:///system}
sys=${XENBENCH_SYS:-/sys}
seconds=60 # the longest that anything is waited for

virsh() { command virsh -q -c "$uri" "$@"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# until_so COMMAND...: asks again until the command succeeds
until_so() {
    local end=$((SECONDS + seconds))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# libvirt's name of the device at an address
node_device() {
    local name=${1//:/_}
    echo "pci_${name/./_}"
}

# what dom0's kernel has bound the device to; nothing if there is no driver
driver() {
    local link
    link=$(readlink "$sys/bus/pci/devices/$1/driver") || return 0
    echo "${link##*/}"
}

has_driver() { [[ $(driver "$1") == "$2" ]]; }

# the address as libvirt writes it in a hostdev
source_address() {
    local segment bus slot function
    IFS=:. read -r segment bus slot function <<<"$1"
    echo "<address domain='0x$segment' bus='0x$bus' slot='0x$slot' function='0x$function'/>"
}

# writes the hostdev to a file, whose name is in $hostdev
write_hostdev() {
    hostdev=$(mktemp)
    trap 'rm -f "$hostdev"' EXIT
    echo "<hostdev mode='subsystem' type='pci' managed='no'><driver name='xen'/><source>$(source_address "$1")</source></hostdev>" >"$hostdev"
}

# in_xml DOMAIN ADDRESS [--inactive]: whether the running or the persistent XML has the device
in_xml() { [[ $(virsh dumpxml "$1" "${@:3}") == *"$(source_address "$2")"* ]]; }

# Sets $number to the device's number in xenstore's backend of the domain $domid.
find_backend() {
    local line
    nodes=$(xenstore-ls -f "/local/domain/0/backend/pci/$domid/0" 2>/dev/null) || return 1
    while IFS= read -r line; do
        [[ $line == */dev-*" = \"$1\"" ]] || continue
        line=${line##*/dev-}
        number=${line%% *}
        return 0
    done <<<"$nodes"
    return 1
}

node() {
    local value=${nodes#*"/0/$1 = \""}
    [[ $value != "$nodes" ]] && echo "${value%%\"*}"
}

is_hvm() { xenstore-exists "/local/domain/$domid/hvmloader"; }

# connected ADDRESS: Xen's backend has the device, and both it and the guest are connected; that of an HVM guest stays at
# Initialised. The guest's end comes last, when its driver has started.
connected() {
    find_backend "$1" || return 1
    local state
    state=$(node state)
    if is_hvm; then [[ $state == [34] ]]; else
        [[ $state == 4 && $(xenstore-read "/local/domain/$domid/device/pci/0/state" 2>/dev/null) == 4 ]]
    fi
}

# gone ADDRESS: Xen's backend has the device no more; detach-device may end before the guest has let go
gone() { ! find_backend "$1"; }

# where the guest has the device, as its lspci takes it
guest_slot() {
    local at
    if is_hvm; then
        at=$((16#$(node "vdevfn-$number")))
        printf '%02x.%x\n' $((at >> 3)) $((at & 7))
    else
        at=$(node "vdev-$number")
        printf '%s.%x\n' "${at%.*}" $((16#${at##*.}))
    fi
}

# open_console TERMINAL: the console's other end, as descriptor 3
open_console() {
    exec 3<>"$1"
    stty -F "$1" raw -echo
}

# ask_guest COMMAND: waits for a shell's prompt on the console, types the command, prints what comes until its end
ask_guest() {
    local mark="end-$RANDOM$RANDOM" line
    printf '\r' >&3
    read -r -t "$seconds" -d '#' -u 3 || die "the guest's console shows no prompt of a root shell"
    printf '%s; echo ""%s\r' "$1" "$mark" >&3
    while IFS= read -r -t "$seconds" -u 3 line; do
        line=${line%$'\r'}
        [[ $line == "$mark" ]] && return 0
        printf '%s\n' "$line"
    done
    die "the guest did not end \`$1\`"
}

# guest_drives ADDRESS: whether the guest shows the device where Xen put it, the same one, and with a driver
guest_drives() {
    local shown vendor device
    read -r vendor <"$sys/bus/pci/devices/$1/vendor"
    read -r device <"$sys/bus/pci/devices/$1/device"
    shown=$(ask_guest "lspci -nnk -s $(guest_slot)")
    [[ $shown == *"[${vendor#0x}:${device#0x}]"* && $shown == *"Kernel driver in use:"* ]]
}

# check_host ADDRESS: dom0's driver and xenstore say that the device is given
check_host() {
    has_driver "$1" pciback || die "dom0's driver of $1 is not pciback"
    until_so connected "$1" || die "Xen's backend of $1 is not connected"
}

# check_guest ADDRESS TERMINAL: the guest says so, at its console
check_guest() {
    open_console "$2"
    until_so guest_drives "$1" || die "the guest does not drive $1"
}
