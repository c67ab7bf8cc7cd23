#!/bin/bash
# release_virsh.sh DOMAIN ADDRESS DRIVER: takes the device out of the domain and returns it to dom0's driver, working.
. "${0%/*}/common.sh"
domain=$1 address=$2 driver=$3

write_hostdev "$address"
domid=$(virsh domid "$domain")
# taken from a guest that is still connecting to it, its memory is gone under the guest's driver, and the guest stumbles
until_so connected "$address" || die "$domain has not connected to $address"
virsh detach-device "$domain" "$hostdev" --live --config
until_so gone "$address" || die "$domain has not let go of $address"
# without this the device stays in Xen's quarantine: bound, and dead
xl pci-assignable-remove "$address"
virsh nodedev-reattach "$(node_device "$address")"
until_so has_driver "$address" "$driver" || die "dom0's driver of $address is not $driver"
