"""The host's own: what must never be given away, and why.

A guard speaks of actual use, with the chain that led there. "It has a driver" is no reason to refuse. The only way past
a guard is an override in the policy, for that device and by the guard's name; a bridge has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.pci import HostUse
from cede.model.plan import Refused
from cede.planner.match import fits
from cede.planner.resets import reset_together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.policy import Protect

BRIDGE = "bridge"


def guards(device: Device, protect: Iterable[Protect] = ()) -> tuple[HostUse, ...]:
    """Every reason for which the host keeps the device itself; empty if it may go."""
    here = str(device.address)
    bridge = [HostUse(guard=BRIDGE, chain=(here, "a bus"))] if device.is_bridge else []
    protected = [
        HostUse(guard="protect", chain=(here, f"what {rule.place} protects: {rule.reason}"))
        for rule in protect
        if fits(rule.match, device)
    ]
    return (*bridge, *device.uses, *protected)


def protected(protect: Iterable[Protect], inventory: Inventory) -> frozenset[Address]:
    """The addresses of all devices that the policy protects."""
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
    """The refusal for a device that the host lives on, or that can't be reset without one, or None.

    `override` are the guards that the policy overrides for it; None where no policy has a say.
    """
    protect = tuple(protect)
    reasons = list(guards(device, protect))
    for sibling in reset_together(device, inventory):
        if not sibling.is_bridge:
            reasons += [
                HostUse(
                    guard="sibling",
                    chain=(
                        f"{device.address}, reset together with {use.chain[0]}, which",
                        *use.chain[1:],
                    ),
                )
                for use in guards(sibling, protect)
            ]
    past = frozenset(override or ()) - {BRIDGE}
    uses = [reason for reason in reasons if reason.guard not in past]
    if not uses:
        return None
    names = ", ".join(sorted({reason.guard for reason in uses} - {BRIDGE}))
    return Refused(
        subject=subject,
        reason="the host itself needs it: " + "; ".join(str(reason) for reason in uses),
        remedy="choose another device, or move the host off this one first"
        + (
            f" (`override: [{names}]` in the policy, if you know better)"
            if names and override is not None
            else ""
        ),
        kind=FailureKind.UNSAFE,
        rule="host-needs-it",
    )
