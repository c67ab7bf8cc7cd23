"""Reset: the rule by which libvirt refuses most attaches, known before it is asked.

libvirt resets a device before it gives it away: by FLR, else by power management, else by its bus, never on the root
bus and never with an active sibling. Source: src/util/virpci.c (virPCIDeviceReset), libvirt 9.0 and 11.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device

_ALONE = frozenset({"flr", "af_flr", "pm", "device_specific", "acpi"})


def resets_alone(device: Device) -> bool:
    """Return whether a reset of the device leaves its siblings alone."""
    return bool(_ALONE.intersection(device.reset_methods))


def bus_mates(device: Device, inventory: Inventory) -> tuple[Device, ...]:
    """Return the other functions on its bus, which a bus reset resets too; none on the root bus, which has no reset."""
    return () if device.address.bus == 0 else inventory.siblings(device)


def goes_alone(device: Device) -> bool:
    """Return whether no other function goes with it, by its reset or its requester id, whatever else is there."""
    return resets_alone(device) and device.requester is None


def reset_together(device: Device, inventory: Inventory) -> tuple[Device, ...]:
    """Return the other functions that go with `device`: a reset of it resets them, or they share its requester id.

    Xen maps the requester id of a conventional bridge to who gets one function behind it, and with it the memory that
    all others reach (xen/drivers/passthrough/vtd/iommu.c, DEV_TYPE_PCI).
    """
    mates = () if resets_alone(device) else bus_mates(device, inventory)
    together = {other.address: other for other in (*mates, *inventory.sharing_requester(device))}
    return tuple(together[address] for address in sorted(together))


def refuse_sibling(
    device: Device,
    subject: str,
    inventory: Inventory,
    *,
    together: Collection[Address] = (),
    concurrent: Collection[Address] = (),
) -> Refused | None:
    """Refuse a device whose reset would reset another one in use; None if it would not.

    `together` are the addresses that go into the domain at once with it: none at a hot-plug; only a start can take
    several functions of one bus. `concurrent` are those that are to be hot-plugged in the same pass.
    """
    active = [
        f"{sibling.address} ({owner})"
        for sibling in reset_together(device, inventory)
        if sibling.address not in together and (owner := _owner(sibling, inventory, concurrent))
    ]
    if not active:
        return None
    return Refused(
        subject=subject,
        rule="sibling-active",
        kind=FailureKind.FAILED,
        reason=f"{device.address} {_why_together(device, inventory)} {', '.join(active)}",
        remedy="assign all of them to the same domain with `when: next-start`, and restart the domain",
    )


def _why_together(device: Device, inventory: Inventory) -> str:
    if resets_alone(device) and inventory.sharing_requester(device):
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
