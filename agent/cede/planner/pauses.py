"""What the administrator told cede to leave alone: paused as it is, or drained, with the device back in dom0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.plan import Change, Paused, Purpose, Refused, Satisfied
from cede.planner.ownership import ownership_subject
from cede.planner.release import release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.pci import Address, Device


def pause_of(
    inventory: Inventory,
    *,
    device: str = "",
    address: Address | None = None,
    domain: Domain | None = None,
    named: str = "",
) -> Pause | None:
    """Return the pause of the device (by its name in the policy, or address) or domain; drains before pauses.

    `named` is how the policy calls the domain, for one that libvirt no longer knows.
    """
    if not inventory.pauses:
        return None
    devices = {device, "" if address is None else str(address)} - {""}
    domains = {domain.uuid} if domain is not None else {named} - {""}
    pauses = [
        pause
        for pause in inventory.pauses
        if pause.everything
        or pause.device in devices
        or pause.domain in domains
        or (domain is None and pause.domain and pause.target in domains)
    ]
    return next((pause for pause in pauses if pause.drained), next(iter(pauses), None))


def left_alone(subject: str, pause: Pause, address: Address | None = None) -> Paused:
    """Decide to leave the subject alone as long as the pause lasts."""
    at = f"{address} " if address is not None and pause.drained else ""
    return Paused(subject=subject, pause=pause, reason=f"{at}{pause}; `cede resume` ends that")


def drain(
    device: Device, name: str, subject: str, pause: Pause, inventory: Inventory
) -> Change | Paused | Refused:
    """Plan the return to dom0; nothing to do if the device is there, or another tool has it by now."""
    address = device.address
    if not _ceded(device, inventory):
        return left_alone(subject, pause, address)
    match release(address, subject, inventory, Purpose.DRAIN):
        case Change() as change:
            return replace(change, device=name, reason=str(pause))
        case Satisfied():
            return left_alone(subject, pause, address)
        case Refused() as refused:
            return refused


def _ceded(device: Device, inventory: Inventory) -> bool:
    """Whether cede has the device in a domain or on pciback, or has not seen it back in dom0 yet."""
    address = device.address
    if any(domain.unmanaged(address) for domain in inventory.domains):
        return False
    incomplete = any(unfinished.address == address for unfinished in inventory.unfinished)
    owned = any(domain.ownership_of(address) for domain in inventory.domains)
    dom0s = not (device.on_pciback or device.in_pciback_slots or device.original_state)
    return incomplete or owned or not dom0s or bool(inventory.wanting(address))


def drain_beyond(
    inventory: Inventory, handled: Collection[Address | None]
) -> Iterator[Change | Refused]:
    """Plan the return of devices without an assignment: one-offs, and devices that wait on pciback."""
    if not any(pause.drained for pause in inventory.pauses):
        return
    for device in inventory.devices:
        address = device.address
        if address in handled:
            continue
        owned = [(d, m) for d in inventory.domains for m in d.owned if m.address == address]
        waits = device.on_pciback and device.original_state is not None
        pauses = [
            pause_of(inventory, device=ownership.name, address=address, domain=domain)
            for domain, ownership in owned
        ]
        if not owned and waits and inventory.given(address) is None:
            pauses = [pause_of(inventory, address=address)]
        pause = next((p for p in pauses if p is not None and p.drained), None)
        if pause is None:
            continue
        name = owned[0][1].name if owned else ""
        subject = ownership_subject(owned[0][1], owned[0][0]) if owned else f"drain {address}"
        decision = drain(device, name, subject, pause, inventory)
        if not isinstance(decision, Paused):
            yield decision


def unless_paused(change: Change, inventory: Inventory) -> Change | Paused:
    """Return the change of what left the policy or was interrupted, unless the administrator paused it."""
    for domain in [inventory.domain(name) for name in change.domains] or [None]:
        pause = pause_of(inventory, device=change.device, address=change.address, domain=domain)
        if pause is not None and not pause.drained:
            return left_alone(change.subject, pause)
    return change
