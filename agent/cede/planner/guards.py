"""Guards: what the host itself uses must never be given away.

A guard means actual use, with the chain that leads there; a bound driver alone is no reason to refuse. Only an override
in the policy passes a guard, for one device and by the guard's name; a bridge can't be overridden. While it can't be
told which of dom0's disks guests live on, a controller that may have one of them is kept too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.pci import UNTOLD, HostUse
from cede.model.plan import Refused
from cede.planner.match import fits
from cede.planner.resets import reset_together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.policy import Protect

BRIDGE = "bridge"
DISKS_UNKNOWN = "guest-disks-unknown"
_STORAGE = "01"  # PCI Code and ID Assignment Specification, base class: mass storage


def guards(device: Device, protect: Iterable[Protect] = ()) -> tuple[HostUse, ...]:
    """Return every reason why the host keeps the device itself; empty if there is none."""
    here = str(device.address)
    bridge = [HostUse(guard=BRIDGE, chain=(here, "a bus"))] if device.is_bridge else []
    protected = [
        HostUse(guard="protect", chain=(here, f"what {rule.place} protects: {rule.reason}"))
        for rule in protect
        if fits(rule.match, device)
    ]
    return (*bridge, *device.uses, *protected)


def _virtual_functions(device: Device, inventory: Inventory) -> list[HostUse]:
    """Return why the virtual functions keep a device that they end with; what dom0 uses of them is a use of it too.

    Source: drivers/pci/iov.c (pci_disable_sriov, which a driver calls when it lets go of its device).
    """
    here = str(device.address)
    return [
        HostUse(
            guard="virtual-function",
            chain=(here, f"the virtual function {virtual.address}, which {owner}"),
        )
        for virtual in inventory.having("physical_function", device.address)
        if (owner := _taken(virtual, inventory))
    ]


def _taken(device: Device, inventory: Inventory) -> str:
    """Return what is so of a device that isn't dom0's alone; empty if it is."""
    given = inventory.given(device.address)
    if given is not None:
        domain = inventory.domain_by_id(given.domid)
        return f"{domain.name if domain else f'domain {given.domid}'} has"
    if device.in_guest:
        return "a guest has"
    return "is on pciback for a guest" if device.on_pciback else ""


def protected(protect: Iterable[Protect], inventory: Inventory) -> frozenset[Address]:
    """Return the addresses of all devices that the policy protects."""
    return frozenset(
        device.address
        for rule in protect
        for device in inventory.devices
        if fits(rule.match, device)
    )


def refuse_guarded(
    device: Device,
    subject: str,
    inventory: Inventory,
    protect: Iterable[Protect] = (),
    override: Iterable[str] | None = None,
) -> Refused | None:
    """Refuse a device that the host uses, or that can't be reset without such a device; None if neither.

    `override` are the guards that the policy overrides for it; None where no policy has a say.
    """
    protect = tuple(protect)
    reasons = [*guards(device, protect), *_virtual_functions(device, inventory)]
    how = "with the same requester id as" if device.resets_alone else "reset together with"
    for sibling in reset_together(device, inventory):
        if not sibling.is_bridge:
            reasons += [
                HostUse(
                    guard="sibling",
                    chain=(
                        f"{device.address}, {how} {use.chain[0]}, which",
                        *use.chain[1:],
                    ),
                )
                for use in (*guards(sibling, protect), *_virtual_functions(sibling, inventory))
            ]
    past = frozenset(override or ()) - {BRIDGE, UNTOLD}
    uses = [reason for reason in reasons if reason.guard not in past]
    if not uses:
        return None
    names = ", ".join(sorted({reason.guard for reason in uses} - {BRIDGE, UNTOLD}))
    return Refused(
        subject=subject,
        reason="the host itself uses the device: " + "; ".join(str(reason) for reason in uses),
        remedy="choose another device, or move the host off this device first"
        + (
            f" (`override: [{names}]` in the policy, if you know better)"
            if names and override is not None
            else ""
        ),
        kind=FailureKind.UNSAFE,
        rule="host-needs-it",
    )


def refuse_disks_unknown(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse a storage controller of dom0's while it can't be told which disks some domain lives on.

    What is on pciback has no disk in dom0, and what cede had taken before had none when it was taken.
    """
    if not device.identity.class_code.startswith(_STORAGE):
        return None
    domain = inventory.disks_unknown
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
