#!/bin/bash
# attach_virsh.sh DOMAIN ADDRESS [DRIVER]: gives the device to the running domain for good by virsh, and asks dom0, libvirt, xenstore and
# the guest whether it is there, as a careful administrator would.
. "${0%/*}/common.sh"
domain=$1 address=$2

[[ $(virsh domstate "$domain") == running ]] || die "$domain does not run"
virsh nodedev-detach "$(node_device "$address")"
has_driver "$address" pciback || die "dom0's driver of $address is not pciback"
write_hostdev "$address"
virsh attach-device "$domain" "$hostdev" --live --config
in_xml "$domain" "$address" || die "the running $domain lacks $address"
in_xml "$domain" "$address" --inactive || die "the persistent XML of $domain lacks $address"
domid=$(virsh domid "$domain")
check_host "$address"
check_guest "$address" "$(virsh ttyconsole "$domain")"
