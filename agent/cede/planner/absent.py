"""Devices that aren't there: late, optional, or pulled out of a guest that runs with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.plan import Decision, Purpose, Refused, Satisfied, Why
from cede.planner.release import plan_way_out, refuse_vanished
from cede.planner.targets import DetachTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.planner.resolve import Target


def plan_absent(target: Target, refusal: Refused, inventory: Inventory) -> Decision:
    """Decide on an assignment that means no device: it waits, unless its guest lost the device, or is to go without.

    The persistent XML of a domain that is to start without an optional device must not name it: libvirt would refuse.
    """
    domain = target.domain or inventory.domain(target.assignment.domain)
    if domain is None or refusal.rule != "no-device":
        return refusal
    name = target.assignment.device
    gone = list(_gone(name, domain, inventory))
    for address in gone if target.assignment.optional else ():
        if domain.config_hostdev(address):
            way_out = DetachTarget.of(
                address, refusal.subject, inventory, Purpose.RELEASE,
                domains=(domain,), name=name, return_to_dom0=False,
            )  # fmt: skip
            decision = plan_way_out(way_out, clean=True)
            if decision is not None:
                return decision
    lost = next((address for address in gone if domain.live_hostdev(address)), None)
    if lost is not None:
        return refuse_vanished(lost, refusal.subject, domain)
    if not target.assignment.optional:
        return refusal
    return Satisfied(
        subject=refusal.subject,
        why=Why.ABSENT,
        reason=f"{name} is optional and isn't there: {domain.name} goes without",
    )


def _gone(name: str, domain: Domain, inventory: Inventory) -> Iterator[Address]:
    """Yield what cede gave the domain under that name, and the host no longer has."""
    for ownership in domain.owned:
        if ownership.name == name and inventory.device(ownership.address) is None:
            yield ownership.address
