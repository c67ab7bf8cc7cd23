"""Another card in the place of the one that a running guest got: nobody takes it for that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address


def refuse_replaced(
    address: Address, subject: str, domain: Domain, inventory: Inventory
) -> Refused | None:
    """Refuse a card that stands where the one was that the running domain got; None if it is that one, as far as known.

    libvirt and xenstore go on listing the address; the kernel took the device from the guest when it was pulled out.
    """
    device, before = inventory.device(address), inventory.gave(address)
    if device is None or before is None or domain.unmanaged(address):
        return None
    same_start = (before.domain, before.domid) == (domain.name, domain.domid)
    known = before.instance is not None and device.instance is not None
    if not (same_start and known) or before.instance == device.instance:
        return None
    return Refused(
        subject=subject,
        rule="replaced",
        kind=FailureKind.TRY_LATER,
        reason=f"{address} is another card than the one that the running {domain.name} got, which was taken out of the "
        "host meanwhile, or the same one put in again",
        remedy=f"shut {domain.name} down and start it: it then gets this card",
    )
