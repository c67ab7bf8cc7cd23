#!/bin/bash
# release_xl.sh DOMAIN ADDRESS DRIVER: undoes attach_xl.sh.
. "${0%/*}/common.sh"
domain=$1 address=$2 driver=$3

xl pci-detach "$domain" "$address"
xl pci-assignable-remove -r "$address"
until_so has_driver "$address" "$driver" || die "dom0's driver of $address is not $driver"
