"""Which pause speaks of a device or a domain, and the decision to leave alone what it speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.plan import Paused

if TYPE_CHECKING:
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.pci import Address


def left_alone(subject: str, pause: Pause, address: Address | None = None) -> Paused:
    """Decide to leave the subject alone as long as the pause lasts."""
    at = f"{address} " if address is not None and pause.drained else ""
    return Paused(subject=subject, pause=pause, reason=f"{at}{pause}; `cede resume` ends that")


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
