"""Quarantine broken cards: what is still wrong with one after a pass is written down, and lifted by a person."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import CedeError
from cede.model.actions import ForceDetach, HotPlug, ReturnToDom0, Unplug
from cede.model.journal_state import Quarantined
from cede.planner.quarantine import OFF_THE_BUS, fault_of
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.plan import Outcome

_RESETTING = (
    HotPlug,
    Unplug,
    ForceDetach,
    ReturnToDom0,
)  # each has libvirt or Xen reset the device
_BACK_SECONDS = 2.0  # an FLR takes 100 ms, a bus reset one second (PCIe 5.0, 6.6.1)


def quarantine_broken(
    adapters: Adapters, inventory: Inventory, outcomes: Sequence[Outcome]
) -> tuple[Quarantined, ...]:
    """Look once more at each card of cede's that was seen broken or has just been reset; return what is quarantined.

    Bridges and what dom0 alone has are no matter. What can't be written down is among the journal's warnings.
    """
    reset = {
        tried.action.address
        for outcome in outcomes
        for tried in outcome.tried
        if isinstance(tried.action, _RESETTING)
    }
    found = []
    for device in inventory.devices:
        known = inventory.quarantine(device)
        if known is not None and not known.lifted:
            continue
        ceded = device.on_pciback or inventory.given(device.address) is not None
        if device.address in reset or (ceded and fault_of(device, inventory)):
            broken = _look(adapters, device.address, inventory, was_reset=device.address in reset)
            if broken is not None:
                found.append(broken)
    try:
        return tuple(adapters.journal.quarantine(broken) for broken in found)
    except CedeError as unwritten:
        adapters.journal.warnings.append(unwritten.message)
        return ()


def _look(
    adapters: Adapters, address: Address, inventory: Inventory, *, was_reset: bool
) -> Quarantined | None:
    """Look at the card for as long as a reset may take; None if nothing is wrong with it, or it has gone."""
    seen: list[Device] = []

    def answers() -> bool:
        seen[:] = [device for device in [adapters.sysfs.device(address)] if device is not None]
        return not any(device.off_the_bus for device in seen)

    try:
        wait_until(answers, _BACK_SECONDS, adapters.clock)
    except CedeError:
        return None  # what can't be told is no fault
    for device in seen:
        reason = fault_of(device, inventory)
        if reason:
            came_back = not (was_reset and reason == OFF_THE_BUS)
            return Quarantined(
                address=address,
                reason=reason if came_back else f"it did not come back from a reset: {reason}",
                instance=device.instance,
                errors=device.aer_errors,
            )
    return None


def lifted(inventory: Inventory, quarantined: Sequence[Quarantined]) -> Inventory:
    """Return the host as it is once these quarantines are lifted: the errors that are known by now are let pass."""
    addresses = {one.address for one in quarantined}
    others = tuple(one for one in inventory.quarantined if one.address not in addresses)
    return replace(inventory, quarantined=(*others, *quarantined))


def to_lift(device: Device, inventory: Inventory) -> Quarantined | None:
    """Return the quarantine of a card as one that is lifted, or None if it is in none."""
    known, seen = inventory.quarantine(device), fault_of(device, inventory)
    if not seen and (known is None or known.lifted):
        return None
    before = known or Quarantined(address=device.address, reason=seen, instance=device.instance)
    return replace(before, errors=device.aer_errors, lifted=True)
