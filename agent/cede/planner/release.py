"""The way back: out of the guest, out of its XML, and to dom0, working."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import (
    Action,
    Change,
    ForceDetach,
    Purpose,
    Refused,
    RemoveFromConfig,
    ReturnToDom0,
    Satisfied,
    Unplug,
    Why,
)
from cede.planner.guards import refuse_guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device


def release(
    address: Address, subject: str, inventory: Inventory, purpose: Purpose = Purpose.RELEASE
) -> Change | Satisfied | Refused:
    """Plan the return of the device at `address` to dom0; a vanished one is only removed from the XML."""
    domains = inventory.wanting(address)
    decision = _refuse_unmanaged(address, subject, inventory) or plan_way_out(
        address, subject, domains, inventory, purpose
    )
    device = inventory.device(address)
    taken = _refuse_given(address, subject, domains, inventory)
    if isinstance(decision, Change) and taken is not None and device is not None:
        return replace(decision, action_required=f"{taken.remedy}: {taken.reason}")
    if decision is not None:
        return decision
    if device is None:
        return Refused(
            subject=subject,
            reason=f"this host has no device at {address}, and no domain lists one",
            remedy="`cede devices` lists the devices",
            kind=FailureKind.USAGE,
            rule="no-device",
        )
    return Satisfied(
        subject=subject,
        why=Why.DOM0_HAS_IT,
        reason=f"dom0 has {address} already ({device.driver or 'no driver bound'})",
    )


def plan_way_out(
    address: Address,
    subject: str,
    domains: Sequence[Domain],
    inventory: Inventory,
    purpose: Purpose,
    *,
    device_name: str = "",
    return_to_dom0: bool = True,
) -> Change | Refused | None:
    """The way out of `domains`, with `return_to_dom0` to dom0, or why it can't be gone; None if there is nothing to go.

    What dom0 lives on, or another guest got from xl, is not touched; its traces in the XML of a domain are. They stay
    while it can't be told who has the device, or it would be nobody's once it is let go. A guard speaks only for what
    dom0 has: on pciback the device is not dom0's, whatever it would be used for.
    """
    device = inventory.device(address)
    running = [domain.name for domain in domains if domain.live_hostdev(address)]
    if device is None and running:
        return _refuse_vanished(address, running, subject)
    if unnamed(address, inventory):
        return refuse_unnamed(address, subject)
    guarded = (
        None if device is None or device.on_pciback else refuse_guarded(device, subject, inventory)
    )
    refusal = (
        guarded
        or _refuse_given(address, subject, domains, inventory)
        or refuse_half_gone(address, subject, domains, inventory)
    )
    actions: tuple[Action, ...] = (
        *force_detach(address, inventory),
        *_unlist(address, device, domains),
    )
    if refusal is not None and (
        not actions or any(isinstance(action, Unplug | ForceDetach) for action in actions)
    ):
        return refusal
    left = {d.uuid for d in domains}
    stays = refusal or any(d.uuid not in left for d in inventory.wanting(address))
    if device is not None and return_to_dom0 and not stays:
        if _held(device):
            actions = (*actions, return_action(device))
        elif _let_go(device, inventory):
            actions = (*actions, ReturnToDom0(address=address, undriven=True))
    if not actions:
        return None
    identity = device.identity if device else None
    return Change(
        subject=subject,
        purpose=purpose,
        device=device_name,
        address=address,
        identity=identity,
        actions=actions,
    )


def force_detach(address: Address, inventory: Inventory) -> tuple[ForceDetach, ...]:
    """Return the action that detaches an interrupted attach by force, if there is one."""
    domain = inventory.interrupted_in(address)
    return () if domain is None else (ForceDetach(address=address, domain=domain.name),)


def return_action(device: Device) -> ReturnToDom0:
    """Return the action that returns the device to its original driver, as far as that is known."""
    original = device.original_state
    return ReturnToDom0(
        address=device.address,
        driver=original.driver if original else None,
        undriven=original is not None and original.driver is None,
    )


def _unlist(
    address: Address, device: Device | None, domains: Iterable[Domain]
) -> Iterator[Unplug | RemoveFromConfig]:
    for domain in domains:
        if device is not None and domain.live_hostdev(address):
            yield Unplug(address=address, domain=domain.name)
        if domain.persistent and (domain.config_hostdev(address) or domain.ownership_of(address)):
            yield RemoveFromConfig(address=address, domain=domain.name)


def _given_elsewhere(address: Address, domains: Sequence[Domain], inventory: Inventory) -> bool:
    given = inventory.given(address)
    return given is not None and not any(
        domain.domid == given.domid and domain.live_hostdev(address) for domain in domains
    )


def _held(device: Device) -> bool:
    """Whether dom0 does not have the device as before; with an original state, a return was begun and not verified."""
    held = device.on_pciback or device.in_pciback_slots or device.driver_override is not None
    return held or device.original_state is not None


def _let_go(device: Device, inventory: Inventory) -> bool:
    """Whether a return was interrupted before dom0 probed for a driver, of a device that cede never saw with one."""
    started = any(
        u.address == device.address and u.return_to_dom0 and not u.attaching
        for u in inventory.unfinished
    )
    return started and device.driver is None


def _refuse_vanished(address: Address, running: Sequence[str], subject: str) -> Refused:
    """Refuse to detach a vanished device from a running guest.

    The persistent XML keeps its note until then, or a card that comes back would be nobody's.
    """
    return Refused(
        subject=subject,
        reason=f"{address} has vanished from the host while it was in the running {', '.join(running)}",
        remedy=f"shut {running[0]} down, then try again; that removes the hostdev from the persistent XML",
        kind=FailureKind.TRY_LATER,
        rule="vanished",
    )


def _refuse_unmanaged(address: Address, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse to take out what cede did not add."""
    for domain in inventory.wanting(address):
        if domain.unmanaged(address):
            return Refused(
                subject=subject,
                reason=f"another tool put {address} into {domain.name}: the hostdev lacks cede's alias",
                remedy="take the device out with the tool that put it there (virsh detach-device, virt-manager)",
                kind=FailureKind.UNSAFE,
                rule="foreign",
            )
    return None


def _refuse_given(
    address: Address, subject: str, domains: Sequence[Domain], inventory: Inventory
) -> Refused | None:
    if inventory.interrupted_in(address):
        return None
    given = inventory.given(address)
    if unnamed(address, inventory):
        return refuse_unnamed(address, subject)
    if given is None or not _given_elsewhere(address, domains, inventory):
        return None
    return Refused(
        subject=subject,
        reason=f"{address} was given to domain {given.domid} behind libvirt's back (by xl, say)",
        remedy=f"`xl pci-detach {given.domid} {address}`, then release again",
        kind=FailureKind.UNSAFE,
        rule="elsewhere",
    )


def unnamed(address: Address, inventory: Inventory) -> bool:
    """Whether Xen says that a guest owns the device, and xenstore does not say which."""
    device = inventory.device(address)
    owned = device is not None and device.in_guest
    return owned and inventory.given(address) is None and not inventory.interrupted_in(address)


def refuse_half_gone(
    address: Address, subject: str, domains: Iterable[Domain], inventory: Inventory
) -> Refused | None:
    """Refuse a live detach of what Xen no longer has there: the detach fails, and that crashes libvirtd."""
    running = next((domain for domain in domains if domain.live_hostdev(address)), None)
    if running is None or inventory.given(address) is not None:
        return None
    return Refused(
        subject=subject,
        reason=f"libvirt lists {address} in {running.name}, but Xen has taken it out (by xl, say)",
        remedy=f"shut {running.name} down and start it, then try again",
        kind=FailureKind.FAILED,
        rule="half-gone",
    )


def refuse_unnamed(address: Address, subject: str) -> Refused:
    """Refuse a device whose guest only Xen knows: only the end of that guest frees the device."""
    return Refused(
        subject=subject,
        reason=f"Xen says that a guest owns {address}, but xenstore names none: an attach was interrupted",
        remedy="`xl debug-keys Q; xl dmesg` names the guest's id; shut that guest down, then try again",
        kind=FailureKind.UNSAFE,
        rule="owner-unknown",
    )


def detach(address: Address, subject: str, inventory: Inventory) -> Change | Satisfied | Refused:
    """Plan to take the device out of its guest; it stays on pciback, ready for another guest."""
    decision = release(address, subject, inventory, Purpose.DETACH)
    if not isinstance(decision, Change):
        return decision
    actions = tuple(action for action in decision.actions if not isinstance(action, ReturnToDom0))
    if actions:
        return replace(decision, actions=actions)
    return Satisfied(
        subject=subject, why=Why.ASSIGNABLE, reason=f"no domain has {address}, which is assignable"
    )
