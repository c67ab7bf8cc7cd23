#!/bin/bash
# give_back.sh DOMAIN ADDRESS DRIVER [DOMAIN ADDRESS DRIVER]...: returns each device to dom0's driver, however it was given, and
# whatever was cut off; a device that is back already is left alone. An empty DRIVER: the device had none.
. "${0%/*}/common.sh"

give_back() {
    local domain=$1 address=$2 driver=$3
    if ! in_xml "$domain" "$address" && ! in_xml "$domain" "$address" --inactive &&
        has_driver "$address" "$driver"; then
        return 0
    fi
    # cede first, which has noted what it did; what virsh gave, it would leave alone
    if ! in_xml "$domain" "$address" || [[ $(virsh dumpxml "$domain") == *ua-cede-* ]]; then
        cede release "$address" >/dev/null 2>&1 || true
    fi
    write_hostdev "$address"
    domid=$(virsh domid "$domain")
    if in_xml "$domain" "$address"; then
        until_so connected "$address" || die "$domain has not connected to $address: shut it down, and try again"
        virsh detach-device "$domain" "$hostdev" --live || true
    fi
    if in_xml "$domain" "$address" --inactive; then virsh detach-device "$domain" "$hostdev" --config; fi
    if [[ $(xl pci-list "$domain") == *"$address"* ]]; then xl pci-detach "$domain" "$address"; fi
    until_so gone "$address" || true # what still holds the device is told by its driver in the end
    if has_driver "$address" pciback; then
        xl pci-assignable-remove "$address" || true # it never was in a guest, then
        virsh nodedev-reattach "$(node_device "$address")" || true
    fi
    if ! has_driver "$address" "$driver"; then
        echo >"$sys/bus/pci/devices/$address/driver_override"
        echo "$address" >"$sys"/bus/pci/drivers_probe
    fi
    until_so has_driver "$address" "$driver"
}

failed=0
while (($#)); do
    (give_back "$1" "$2" "$3") || {
        printf 'give_back.sh: %s is not back at %s in dom0\n' "$2" "${3:-no driver}" >&2
        failed=1
    }
    shift 3
done
exit $failed
