"""Why a device can't have the virtual functions that the policy wants, or can't have them now.

Source: drivers/pci/pci-sysfs.c (sriov_numvfs_store), drivers/pci/iov.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.inventory import Inventory
    from cede.model.pci import Device
    from cede.model.policy import WantedFunctions
    from cede.model.virtual_functions import VirtualFunctions

IN_USE = "virtual-functions-in-use"
# PCI Code and ID Assignment Specification, base class and subclass; InfiniBand has GUIDs, and no MACs and VLANs
_NETWORK, _INFINIBAND = "02", "0207"


def is_network(device: Device) -> bool:
    """Return whether it is an Ethernet card, whose virtual functions are set up by its interface."""
    kind = device.identity.class_code
    return kind.startswith(_NETWORK) and not kind.startswith(_INFINIBAND)


def refuse_incapable(device: Device, subject: str) -> Refused:
    """Refuse what can have no virtual functions at all."""
    return Refused(
        subject=subject,
        rule="no-virtual-functions",
        kind=FailureKind.USAGE,
        reason=f"{device.address} can't have virtual functions: it has no SR-IOV capability, or the kernel no support",
        remedy="take `virtual_functions` out of the policy, or see whether the firmware has SR-IOV switched off",
    )


def refuse_wanted(
    wanted: WantedFunctions,
    found: VirtualFunctions,
    device: Device,
    subject: str,
    inventory: Inventory,
) -> Refused | None:
    """Refuse what this device, which has `found`, can't have, or can't have now; None if it can."""
    address = device.address
    if wanted.count > found.total:
        return Refused(
            subject=subject,
            rule="too-many-virtual-functions",
            kind=FailureKind.USAGE,
            reason=f"{address} can have {found.total} virtual functions, not {wanted.count} ({wanted.place})",
            remedy=f"set `count` to at most {found.total}",
        )
    if device.on_pciback or device.in_guest or inventory.given(address) is not None:
        return Refused(
            subject=subject,
            rule="physical-function-away",
            kind=FailureKind.UNSAFE,
            reason=f"{address} is for a guest itself, and so its virtual functions are not dom0's to make",
            remedy=f"`cede release {address}` first",
        )
    if any(begun.return_to_dom0 for begun in inventory.unfinished_at(address)):
        return Refused(
            subject=subject,
            rule="physical-function-returning",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} is on its way back to dom0",
            remedy="apply again once it is back",
        )
    if device.driver is None:
        return Refused(
            subject=subject,
            rule="physical-function-undriven",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} has no driver in dom0 yet, which is what makes virtual functions",
            remedy="load its driver, then apply again",
        )
    if wanted.count == 0:
        return None
    return _refuse_settings(wanted, found, device, subject, inventory)


def _refuse_settings(
    wanted: WantedFunctions,
    found: VirtualFunctions,
    device: Device,
    subject: str,
    inventory: Inventory,
) -> Refused | None:
    address = device.address
    if not is_network(device):
        said = [*(["mac"] if wanted.macs else []), *wanted.settings.said]
        return (
            Refused(
                subject=subject,
                rule="no-network-function",
                kind=FailureKind.USAGE,
                reason=f"{address} is no Ethernet card, so its virtual functions have no {', '.join(said)}",
                remedy="leave only `count` in `virtual_functions`",
            )
            if said
            else None
        )
    if not device.interfaces:
        return Refused(
            subject=subject,
            rule="no-interface",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} has no network interface in dom0 (yet), by which virtual functions are set up",
            remedy="see what its driver says (dmesg); an interface in another network namespace must come back first",
        )
    if not wanted.macs and not inventory.seed:
        return Refused(
            subject=subject,
            rule="no-machine-id",
            kind=FailureKind.FAILED,
            reason="this host has no /etc/machine-id, of which MACs of its own could be made",
            remedy="`systemd-machine-id-setup`, or list the MACs as `mac` in the policy",
        )
    if found.count and len(found.settings) != found.count:
        return Refused(
            subject=subject,
            rule="virtual-functions-untold",
            kind=FailureKind.FAILED,
            reason=f"the driver of {address} doesn't tell how its {found.count} virtual functions are set up",
            remedy="a driver that was loaded anew while one was in use may have forgotten them (igb does): release "
            "them, then restart dom0",
        )
    return None


def refuse_functions_in_use(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse to change how many virtual functions the device has while one is in use; what can't be told is in use."""
    for virtual in inventory.having("physical_function", device.address):
        why, way_out = _use(virtual, inventory)
        if why:
            return Refused(
                subject=subject,
                rule=IN_USE,
                kind=FailureKind.UNSAFE,
                reason=f"another number of virtual functions takes all away first, and {virtual.address} {why}",
                remedy=way_out,
            )
    return None


def _use(virtual: Device, inventory: Inventory) -> tuple[str, str]:
    """Return how a virtual function is in use, and the way out; both empty if it isn't."""
    address = virtual.address
    release = f"`cede release {address}` first, or leave `count` as it is"
    given, wanting = inventory.given(address), inventory.wanting(address)
    unreadable = inventory.unreadable_holder(address)
    if given is not None:
        holder = inventory.domain_by_id(given.domid)
        return f"is in {holder.name if holder else f'domain {given.domid}'}", release
    if wanting:
        return f"is in the XML of {', '.join(domain.name for domain in wanting)}", release
    if unreadable is not None:
        return (
            f"may be in {unreadable.name}, whose XML can't be read",
            f"correct the XML of {unreadable.name} first",
        )
    if virtual.in_guest:
        return "is in a guest", release
    if virtual.on_pciback:
        return "is on pciback for a guest", release
    if virtual.uses:
        return (
            f"is used by dom0: {virtual.uses[0]}",
            f"move the host off {address} first, or leave `count` as it is",
        )
    return "", ""
