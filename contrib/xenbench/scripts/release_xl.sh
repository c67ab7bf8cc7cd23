#!/bin/bash
# release_xl.sh DOMAIN ADDRESS DRIVER: undoes attach_xl.sh.
. "${0%/*}/common.sh"
domain=$1 address=$2 driver=$3

domid=$(xl domid "$domain")
until_so connected "$address" || die "$domain has not connected to $address"
xl pci-detach "$domain" "$address"
until_so gone "$address" || die "$domain has not let go of $address"
xl pci-assignable-remove -r "$address"
until_so has_driver "$address" "$driver" || die "dom0's driver of $address is not $driver"
