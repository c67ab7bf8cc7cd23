#!/bin/bash
# attach_plain_virsh.sh DOMAIN ADDRESS [DRIVER]: gives the device to the running domain for good by virsh, and looks at both XMLs.
. "${0%/*}/common.sh"
domain=$1 address=$2

virsh nodedev-detach "$(node_device "$address")"
write_hostdev "$address"
virsh attach-device "$domain" "$hostdev" --live --config
in_xml "$domain" "$address" || die "the running $domain lacks $address"
in_xml "$domain" "$address" --inactive || die "the persistent XML of $domain lacks $address"
