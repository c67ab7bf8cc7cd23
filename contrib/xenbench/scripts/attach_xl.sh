#!/bin/bash
# attach_xl.sh DOMAIN ADDRESS [DRIVER]: the same by xl, until the domain ends: xl has no persistent XML to ask for.
. "${0%/*}/common.sh"
domain=$1 address=$2

domid=$(xl domid "$domain")
xl pci-assignable-add "$address"
has_driver "$address" pciback || die "dom0's driver of $address is not pciback"
xl pci-attach "$domain" "$address"
[[ $(xl pci-list "$domain") == *"$address"* ]] || die "$domain lacks $address"
check_host "$address"
terminal=console
is_hvm && terminal=serial/0
check_guest "$address" "$(xenstore-read "/local/domain/$domid/$terminal/tty")"
