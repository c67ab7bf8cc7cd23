"""Whose is it: what cede put into a domain it may change; what another tool put there it reports and leaves alone.

A hostdev is cede's by its user alias or by the note in the domain's metadata. Everything else is foreign: it counts as
a reservation, and only `adopt: true` takes it over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.domain import Ownership
from cede.model.plan import Change, Purpose, Refused, Satisfied, Why
from cede.planner.release import plan_way_out

if TYPE_CHECKING:
    from collections.abc import Collection

    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice, Inventory
    from cede.model.pci import Address
    from cede.model.policy import Policy
    from cede.planner.attach_target import AttachTarget


def refuse_elsewhere(
    target: AttachTarget, detaching: Collection[tuple[Address, str]] = ()
) -> Refused | None:
    """Another domain has or reserves the device: Xen's word first, then libvirt's.

    `detaching` are the (address, domain UUID) pairs that are cleaned up in the same pass, so that the next will do.
    """
    inventory, domain, subject = target.inventory, target.domain, target.subject
    address, given = target.device.address, target.inventory.given(target.device.address)
    wanting = inventory.wanting(address)
    others = [d for d in wanting if d.uuid != domain.uuid]
    names = ", ".join(d.name for d in others)
    cut_off = inventory.interrupted_in(address) is not None
    if (
        given is not None
        and not cut_off
        and not any(d.domid == given.domid and d.live_hostdev(address) for d in wanting)
    ):
        return _refuse_given(given, domain, subject, inventory)
    if others and all((address, d.uuid) in detaching for d in others):
        return Refused(
            subject=subject,
            reason=f"{address} is still in {names}, for which it is no longer assigned",
            remedy=f"apply again after the device has left that domain, or `cede release {address}`",
            kind=FailureKind.TRY_LATER,
            rule="elsewhere",
        )
    if others:
        return Refused(
            subject=subject,
            reason=f"{address} is in {names}"
            if given and given.domid != domain.domid
            else f"{address} is in the XML of {names}",
            remedy=f"take the device out of {names} with the tool that put it there, or correct the policy"
            if any(d.unmanaged(address) for d in others)
            else f"`cede release {address}` first, or correct the policy",
            kind=FailureKind.UNSAFE,
            rule="elsewhere",
        )
    return None


def _refuse_given(
    given: BackendDevice, domain: Domain, subject: str, inventory: Inventory
) -> Refused:
    """Refuse a device that Xen gave to a guest and libvirt does not list: an attach would reset a device in use."""
    holder = inventory.domain_by_id(given.domid)
    again = "then apply again" if given.domid == domain.domid else "or correct the policy"
    return Refused(
        subject=subject,
        reason=f"{given.address} was put into {holder.name} behind libvirt's back (by xl, say)"
        if holder
        else f"{given.address} is in the domain with id {given.domid}, unknown to libvirt",
        remedy=f"`xl pci-detach {holder.name if holder else given.domid} {given.address}`, {again}",
        kind=FailureKind.UNSAFE,
        rule="elsewhere",
    )


def refuse_unmanaged(target: AttachTarget) -> Satisfied | Refused | None:
    """Decide on an unmanaged hostdev in the assigned domain itself."""
    address, name, subject = target.device.address, target.domain.name, target.subject
    if not target.unmanaged or target.assignment.adopt:
        return None
    if target.live is not None and target.config is not None:
        return Satisfied(
            subject=subject,
            why=Why.IN_PLACE,
            reason=f"{address} is in {name} already; another tool put it there, and cede leaves it alone",
        )
    return Refused(
        subject=subject,
        reason=f"another tool put {address} into {name}, running or persistent only",
        remedy="set `adopt: true` in the assignment to take the hostdev over, or delete the assignment",
        kind=FailureKind.UNSAFE,
        rule="foreign",
    )


def stale(
    policy: Policy,
    inventory: Inventory,
    keep: Collection[tuple[Address, str]],
    unsure: Collection[str],
) -> list[tuple[Domain, Ownership]]:
    """Return what cede gave, for this policy or another, that this policy does not assign there.

    `keep` are the (address, domain UUID) pairs that it wants now; `unsure` the devices that can't be told at the
    moment, whose marks are therefore left alone.
    """
    return [
        (domain, ownership)
        for domain in sorted(inventory.domains, key=lambda d: d.name)
        for ownership in domain.owned
        if (ownership.address, domain.uuid) not in keep
        and (ownership.name not in unsure or ownership.policy != policy.source)
    ]


def ownership_subject(ownership: Ownership, domain: Domain) -> str:
    """How a device that cede put into the domain is called in plans; a name that is there twice with its address."""
    twice = sum(other.name == ownership.name for other in domain.owned) > 1
    at = f" ({ownership.address})" if twice else ""
    return f"{ownership.name}{at} in {domain.name}"


def leftover(
    domain: Domain,
    ownership: Ownership,
    policy: Policy,
    inventory: Inventory,
    attaching: Collection[Address],
) -> Change | Satisfied | Refused:
    """Take the device out and return it to dom0 if this policy gave it; leave those of other policies alone.

    What is `attaching` to another domain stays on pciback.
    """
    subject = ownership_subject(ownership, domain)
    if not ownership.policy or ownership.policy != policy.source:
        whose = ownership.policy or "no policy that is known"
        return Satisfied(
            subject=subject,
            why=Why.OTHER_POLICY,
            reason=f"{ownership.address} was given for {whose}",
        )
    purpose = Purpose.HAND_OVER if ownership.address in attaching else Purpose.RELEASE
    return plan_way_out(
        ownership.address, subject, (domain,), inventory, purpose,
        device_name=ownership.name, return_to_dom0=purpose is Purpose.RELEASE,
    ) or Satisfied(
        subject=subject,
        why=Why.NOTHING_LEFT,
        reason=f"only ownership metadata is left in the transient {domain.name}",
    )  # fmt: skip
