"""Devices that libvirt lists in a running domain and that Xen has taken out: `xl pci-detach` does that.

libvirt's live detach would fail, and libvirtd use freed memory. Once Xen gives the device to the domain again, the
detach works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import PutBack
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address


def half_gone_in(address: Address, inventory: Inventory) -> Domain | None:
    """Return the running domain in which libvirt lists what Xen gives to nobody, or None."""
    if inventory.given(address) is not None:
        return None
    domains = (d for d in inventory.wanting(address) if d.running and d.live_hostdev(address))
    return next(domains, None)


def put_back(domain: Domain, address: Address) -> PutBack:
    """Return the action that has Xen give it to the domain again, as libvirt lists it there."""
    hostdev = domain.live_hostdev(address)
    permissive = hostdev is not None and not hostdev.write_filtering
    return PutBack(address=address, domain=domain.name, permissive=permissive)


def refuse_half_gone(address: Address, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse what is half gone and can't be put back, with what keeps it; None if it isn't half gone, or can."""
    domain = half_gone_in(address, inventory)
    if domain is None:
        return None
    obstacle = _obstacle(address, inventory, domain)
    if not obstacle:
        return None
    return Refused(
        subject=subject,
        rule="half-gone",
        kind=FailureKind.FAILED,
        reason=f"libvirt lists {address} in {domain.name}, but Xen has taken it out (by xl, say), and Xen can't be had "
        f"to put it back: {obstacle}",
        remedy=f"shut {domain.name} down and start it, then try again",
    )


def _obstacle(address: Address, inventory: Inventory, domain: Domain) -> str:
    """Why Xen can't give it to the domain again; empty if it can."""
    device = inventory.device(address)
    others = [d.name for d in inventory.wanting(address) if d.uuid != domain.uuid]
    if device is None:
        return "the device has vanished"
    if others:
        return f"it is in the XML of {', '.join(others)} too"
    if not device.on_pciback:
        return f"the device is bound to {device.driver or 'no driver'}, not to pciback"
    if device.in_guest is None:
        return "whether a guest owns the device can't be told"
    return "a guest owns the device" if device.in_guest else ""
