"""Whether dom0's disks that guests live on can be told: a controller that may have one of them is not given away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Device

DISKS_UNKNOWN = "guest-disks-unknown"
_STORAGE = "01"  # PCI Code and ID Assignment Specification, base class: mass storage


def refuse_disks_unknown(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse a storage controller of dom0's while it can't be told which disks some domain lives on.

    What is on pciback has no disk in dom0, and what cede had taken before had none when it was taken.
    """
    if not device.identity.class_code.startswith(_STORAGE):
        return None
    domain = next((d for d in inventory.domains if d.disks_unknown), None)
    if domain is None or device.on_pciback or device.taken_before:
        return None
    return Refused(
        subject=subject,
        rule=DISKS_UNKNOWN,
        kind=FailureKind.TRY_LATER,
        reason=f"a disk of {domain.name} may be on {device.address}: {domain.disks_unknown}",
        remedy=disks_remedy(domain),
    )


def disks_remedy(domain: Domain) -> str:
    """Return what the administrator can do about a domain whose disks can't be told."""
    if domain.unreadable:
        return f"correct the XML of {domain.name} (`virsh edit {domain.name}`), then apply again"
    pools = dict.fromkeys(volume.partition("/")[0] for volume in domain.unknown_volumes)
    return (
        f"once libvirt runs, start the storage pool (`virsh pool-start {next(iter(pools))}`), then apply again; if the "
        f"pool or its volume is gone for good, take the disk out of {domain.name} (`virsh edit {domain.name}`)"
    )
