"""What the administrator told cede to leave alone: paused as it is, or drained, with the device back in dom0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.plan import Change, NoOp, Refusal
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
    """What a person said of the device (by its name in the policy, or address) or domain; the farthest-going word.

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


def left_alone(subject: str, pause: Pause, address: Address | None = None) -> NoOp:
    """Nothing is done about the subject as long as that holds."""
    at = f"{address} " if address is not None and pause.drained else ""
    return NoOp(
        subject=subject,
        reason=f"{at}{pause}; `cede resume` ends that",
        paused=True,
        drained=pause.drained,
    )


def drain(
    device: Device, subject: str, pause: Pause, inventory: Inventory
) -> Change | NoOp | Refusal:
    """The way back to dom0 of what cede has given away; nothing to do if it is there, or with another tool by now."""
    address = device.address
    if not _ceded(device, inventory):
        return left_alone(subject, pause, address)
    decision = release(address, subject, inventory)
    if isinstance(decision, NoOp):
        return left_alone(subject, pause, address)
    return (
        replace(decision, reason=str(pause), drained=True)
        if isinstance(decision, Change)
        else decision
    )


def _ceded(device: Device, inventory: Inventory) -> bool:
    """Whether cede has it in a domain or on pciback, or hasn't yet seen it back in dom0."""
    address = device.address
    if any(domain.unmanaged(address) for domain in inventory.domains):
        return False
    incomplete = any(unfinished.address == address for unfinished in inventory.unfinished)
    owned = any(domain.ownership_of(address) for domain in inventory.domains)
    dom0s = not (device.on_pciback or device.in_pciback_slots or device.original_state)
    return incomplete or owned or not dom0s or bool(inventory.wanting(address))


def drain_beyond(
    inventory: Inventory, handled: Collection[Address | None]
) -> Iterator[Change | Refusal]:
    """The way back of what no assignment speaks of: one-offs, and devices that wait on pciback for one."""
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
        subject = f"{owned[0][1].name} in {owned[0][0].name}" if owned else f"drain {address}"
        decision = drain(device, subject, pause, inventory)
        if not isinstance(decision, NoOp):
            yield decision


def unless_paused(
    decision: Change | NoOp | Refusal, inventory: Inventory
) -> Change | NoOp | Refusal:
    """A way out of what left the policy or was cut off, unless the administrator said to leave it as it is."""
    if not isinstance(decision, Change):
        return decision
    names = [inventory.domain(name) for name in decision.domains] or [None]
    device = decision.subject.partition(" ")[0]
    for domain in names:
        pause = pause_of(inventory, device=device, address=decision.address, domain=domain)
        if pause is not None and not pause.drained:
            return left_alone(decision.subject, pause)
    return decision
