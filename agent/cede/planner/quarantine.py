"""Quarantine: a card that is broken goes to no guest, until the administrator says that it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.inventory import Inventory
    from cede.model.pci import Device

OFF_THE_BUS = "its configuration space reads as all ones: the device answers no more"


def fault_of(device: Device, inventory: Inventory) -> str:
    """Return what is seen of a fault now, empty if nothing is, or the administrator knows of it and let it pass."""
    if device.off_the_bus:
        return OFF_THE_BUS
    known = inventory.quarantine(device)
    if not device.aer_errors or (known is not None and known.errors == device.aer_errors):
        return ""
    return f"it made uncorrectable errors on the bus (AER): {', '.join(device.aer_errors)}"


def is_quarantined(device: Device, inventory: Inventory) -> bool:
    """Tell whether the card may go to no guest."""
    known = inventory.quarantine(device)
    return bool((known is not None and not known.lifted) or fault_of(device, inventory))


def refuse_quarantined(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse to give a broken card to a guest; None if nothing is known against it.

    What has just been seen may pass, as in the middle of a reset; what is still so after the pass is written down.
    """
    known, seen = inventory.quarantine(device), fault_of(device, inventory)
    recorded = known is not None and not known.lifted
    if known is not None and recorded:
        reason = f"{device.address} is quarantined since {known.since}: {known.reason}"
    elif seen:
        reason = f"{device.address} is quarantined: {seen}"
    else:
        return None
    return Refused(
        subject=subject,
        rule="device-quarantined",
        kind=FailureKind.FAILED if recorded else FailureKind.TRY_LATER,
        reason=reason,
        remedy=f"power the card off and on, or replace it; `cede resume {device.address}` lifts the quarantine",
    )
