"""What the administrator told cede to leave alone: paused as it is, or drained, with the device back in dom0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.plan import Change, Decision, Paused, Purpose, Refused, Satisfied
from cede.planner.paused import left_alone, pause_of
from cede.planner.recovery import refuse_held
from cede.planner.release import ownership_subject, release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.pci import Address, Device
    from cede.planner.targets import AttachTarget


def plan_paused(target: AttachTarget, pause: Pause, drained: set[Address]) -> Decision:
    """Leave the device alone, or plan its return to dom0: once, however many domains it is assigned to."""
    address = target.device.address
    if not pause.drained or address in drained:
        return left_alone(target.subject, pause, address)
    if (
        target.others
        and not target.live
        and not target.config
        and not pause.everything
        and pause.domain
    ):
        return left_alone(target.subject, pause, address)  # its alternative has it
    name, inventory = target.assignment.device, target.inventory
    decision = drain(target.device, name, target.subject, pause, inventory)
    if isinstance(decision, Change):
        drained.add(address)
    return unless_held(decision, inventory)


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
    wanting = inventory.wanting(address)
    if any(domain.unmanaged(address) for domain in wanting):
        return False
    dom0s = not (device.on_pciback or device.in_pciback_slots or device.original_state)
    traces = wanting or inventory.owned_at(address) or inventory.unfinished_at(address)
    return bool(traces) or not dom0s


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
        owned = inventory.owned_at(address)
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


def unless_held(decision: Decision, inventory: Inventory) -> Decision:
    """Return the decision, unless it changes a paused device or one on which a call hangs."""
    if not isinstance(decision, Change) or decision.address is None:
        return decision
    refusal = refuse_held(decision.address, decision.subject, inventory)
    if refusal is not None:
        return refusal
    for domain in [inventory.domain(name) for name in decision.domains] or [None]:
        pause = pause_of(inventory, device=decision.device, address=decision.address, domain=domain)
        if pause is not None and not pause.drained:
            return left_alone(decision.subject, pause)
    return decision
