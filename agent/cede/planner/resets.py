"""Reset: the rule by which libvirt refuses most attaches, known before it is asked.

libvirt resets a device before it gives it away: by FLR, else by power management, else by its bus, never on the root
bus and never with an active sibling. It decides from configuration space and from the bridges above the device, and
never asks the kernel. Source: src/util/virpci.c (virPCIDeviceReset, virPCIDeviceIsAssignable), libvirt 9.0 and 11.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.pci import Reset
from cede.model.plan import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device


def bus_mates(device: Device, inventory: Inventory) -> tuple[Device, ...]:
    """Return the other functions on its bus, which a bus reset resets too; none on a root bus, which has no reset."""
    return () if device.on_root_bus else inventory.siblings(device)


def goes_alone(device: Device) -> bool:
    """Return whether no other function goes with it, by its reset or its requester id, whatever else is there."""
    return device.resets_alone and device.requester is None


def reset_together(device: Device, inventory: Inventory) -> tuple[Device, ...]:
    """Return the other functions that go with `device`: a reset of it resets them, or they share its requester id.

    Xen maps the requester id of a conventional bridge to who gets one function behind it, and with it the memory that
    all others reach (xen/drivers/passthrough/vtd/iommu.c, DEV_TYPE_PCI).
    """
    mates = bus_mates(device, inventory) if device.reset is Reset.BUS else ()
    together = {other.address: other for other in (*mates, *inventory.sharing_requester(device))}
    return tuple(together[address] for address in sorted(together))


def groups(inventory: Inventory) -> dict[Address, tuple[Address, ...]]:
    """Return by address the functions that go together, itself among them, in order; none for what goes alone.

    They do if a reset of one resets the other, whichever of them it is, or if they share a requester id. A bridge is
    among them where such a reset would reset it.
    """
    joined: dict[Address, set[Address]] = {}
    for device in inventory.devices:
        if device.is_bridge:
            continue
        others = {other.address for other in reset_together(device, inventory)}
        if others:
            parts = [joined.get(address, {address}) for address in (device.address, *others)]
            whole = {address for part in parts for address in part}
            joined.update(dict.fromkeys(whole, whole))
    return {address: tuple(sorted(group)) for address, group in joined.items()}


def refuse_root_bus(device: Device, subject: str) -> Refused | None:
    """Refuse an endpoint without a bridge above it on a bus other than 0, whatever resets it has; None if it isn't one.

    libvirt finds no parent for it ("Failed to find parent device") and says that it "is not assignable".
    """
    if not device.on_root_bus or device.address.bus == 0:
        return None
    return Refused(
        subject=subject,
        rule="root-bus",
        kind=FailureKind.FAILED,
        reason=f"{device.address} is directly on a root bus, with no PCI bridge above it; libvirt can't pass endpoints "
        "of this root bus, only of bus 00",
        remedy="choose a device behind a bridge, or put the card into a slot behind one (`lspci -t`)",
    )


def refuse_reset_unknown(device: Device, subject: str) -> Refused | None:
    """Refuse a device of which can't be told how it resets; None if that is known."""
    if device.reset is not None or device.is_bridge:
        return None
    return Refused(
        subject=subject,
        rule="reset-unknown",
        kind=FailureKind.TRY_LATER,
        reason=f"whether libvirt can reset {device.address} can't be told: its configuration space can't be read, or "
        "not to the end of its capabilities",
        remedy="run cede as root; if it runs as root, the device does not answer: wake it (echo on > "
        f"/sys/bus/pci/devices/{device.address}/power/control), and see dom0's kernel log (dmesg)",
    )


def refuse_no_reset(device: Device, subject: str) -> Refused | None:
    """Refuse a device that libvirt can't reset; None if it can, or if that can't be told."""
    if device.reset is not Reset.NONE:
        return None
    return Refused(
        subject=subject,
        rule="no-reset",
        kind=FailureKind.FAILED,
        reason=f"{device.address} can't be reset (no FLR, no power management reset, and the root bus has no bus "
        "reset), so libvirt refuses to attach it; what only the kernel can do (acpi, device_specific) does not count",
        remedy="choose a device with a reset; `cede devices --long` names how each one resets",
    )


def refuse_sibling(
    device: Device,
    subject: str,
    inventory: Inventory,
    *,
    together: Collection[Address] = (),
    concurrent: Collection[Address] = (),
) -> Refused | None:
    """Refuse a device whose reset would reset another one in use; None if it would not.

    `together` are the addresses that the same domain has or gets. `concurrent` are those that are to be hot-plugged in
    the same pass.
    """
    active = [
        (sibling, owner)
        for sibling in reset_together(device, inventory)
        if sibling.address not in together and (owner := _owner(sibling, inventory, concurrent))
    ]
    if not active:
        return None
    names = ", ".join(f"{sibling.address} ({owner})" for sibling, owner in active)
    return Refused(
        subject=subject,
        rule="sibling-active",
        kind=FailureKind.FAILED,
        reason=f"{device.address} {_why_together(device, inventory)} {names}",
        remedy="choose another device: a bridge is among them, which no domain can have"
        if any(sibling.is_bridge for sibling, _ in active)
        else "assign all of them to the same domain (`functions: all` where they are one card)",
    )


def _why_together(device: Device, inventory: Inventory) -> str:
    if device.resets_alone and inventory.sharing_requester(device):
        return "reaches memory under the same requester id as"
    return "can only be reset with its whole bus, on which is"


def _owner(device: Device, inventory: Inventory, concurrent: Collection[Address]) -> str:
    """Return who has the device or gets it in the same pass; empty if idle on pciback."""
    given = inventory.given(device.address)
    if given is not None:
        domain = inventory.domain_by_id(given.domid)
        return f"in {domain.name if domain else f'domain {given.domid}'}"
    if not device.on_pciback:
        return f"with dom0's {device.driver}" if device.driver else "active in dom0"
    return "assigned to a guest too" if device.address in concurrent else ""
