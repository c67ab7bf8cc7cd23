"""Recovery: finish or roll back what was interrupted, and what a failed change has done so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import Exit
from cede.model.domain import OWN_ALIAS
from cede.model.plan import (
    AddToConfig,
    DontLoadAtBoot,
    GiveBack,
    HotPlug,
    LoadAtBoot,
    Refusal,
    RemoveFromConfig,
    Seize,
    Step,
    SwitchOff,
    SwitchOn,
    Unplug,
    Work,
)
from cede.planner.release import way_out

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Unfinished
    from cede.model.pci import Address


def settle(begun: Unfinished, inventory: Inventory) -> Work | Refusal | None:
    """The way out for what was left on the way in, or not quite out; None if nothing is left to do.

    The note in the domain's XML is what an attach writes last: with it the attach was complete, and is a matter for
    the policy that it names.
    """
    address = begun.address
    if _complete(begun, inventory):
        return None
    domains = tuple(d for d in inventory.wanting(address) if not d.foreign(address))
    subject = f"{begun.subject}, begun and cut off"
    return way_out(address, subject, domains, inventory, back=begun.back)


def _complete(begun: Unfinished, inventory: Inventory) -> bool:
    """Whether its note says so, and Xen and libvirt agree: the note may be from before a guest that didn't let go."""
    if not begun.inward or inventory.cut_off(begun.address):
        return False
    return any(
        domain.mark(begun.address) and not domain.foreign(begun.address)
        for domain in inventory.wanting(begun.address)
    )


def strays(
    inventory: Inventory, wanted: Collection[tuple[Address, str]]
) -> dict[tuple[Address, str], Work | Refusal]:
    """The way out for what an attach that was cut off has put into a domain, and that is wanted in another one now.

    By (address, domain UUID), as `wanted` says what the policy wants. It stays on pciback for the other domain.
    """
    found: dict[tuple[Address, str], Work | Refusal] = {}
    for begun in inventory.unfinished:
        address, domain = begun.address, inventory.domain(begun.domain)
        if domain is None or domain.mark(address) or domain.foreign(address):
            continue
        pair = (address, domain.uuid)
        listed = domain.live_hostdev(address) or domain.config_hostdev(address)
        if listed and pair not in wanted and any(address == at for at, _ in wanted):
            out = settle(replace(begun, back=False), inventory)
            if out is not None:
                found[pair] = replace(out, onward=True) if isinstance(out, Work) else out
    return found


def ended(begun: Unfinished, inventory: Inventory) -> bool:
    """Whether nothing of it is left: neither now, nor once a device that has vanished is back."""
    if _complete(begun, inventory):
        return True
    return inventory.device(begun.address) is not None and settle(begun, inventory) is None


def refuse_held(address: Address, subject: str, inventory: Inventory) -> Refusal | None:
    """The refusal for a device on which something hangs."""
    held = next((h for h in inventory.held if h.address == address), None)
    if held is None:
        return None
    since = f" (since {held.since})" if held.since else ""
    return Refusal(
        subject=subject,
        reason=f"{address} is left alone: {held.reason}{since}",
        remedy=f"see dom0's kernel log (dmesg); `cede release {address}` tries it again all the same",
        exit=Exit.FAILED,
        name="held",
    )


def in_place(inventory: Inventory) -> Iterator[Work]:
    """What cede has in guests by the notes in their XML, for a journal that lost its own."""
    for domain in inventory.domains:
        for mark in domain.noted:
            device = inventory.device(mark.address)
            yield Work(
                subject=f"{mark.name} -> {domain.name}",
                address=mark.address,
                identity=device.identity if device else None,
                steps=(
                    AddToConfig(
                        address=mark.address,
                        domain=domain.name,
                        alias=OWN_ALIAS + mark.name,
                        policy=mark.policy,
                    ),
                ),
            )


def undo(taken: Iterable[Step]) -> tuple[Step, ...]:
    """The steps that take back those `taken`, the last one first.

    What is harmless stays: a loaded module, a mark on a hostdev that was adopted. A way out is never taken back.
    """
    return tuple(back for step in reversed(tuple(taken)) if (back := _back(step)) is not None)


def _back(step: Step) -> Step | None:
    match step:
        case LoadAtBoot():
            return DontLoadAtBoot()
        case Seize():
            return GiveBack(address=step.address, driver=step.driver, undriven=step.driver is None)
        case HotPlug():
            return Unplug(address=step.address, domain=step.domain)
        case AddToConfig():
            return RemoveFromConfig(address=step.address, domain=step.domain)
        case SwitchOn():
            return SwitchOff(domain=step.domain, features=step.features)
        case _:
            return None
