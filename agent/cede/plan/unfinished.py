"""What was begun and never ended, because cede was killed there: finished or undone from what is seen now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import Exit
from cede.model import OWN_ALIAS
from cede.plan.release import way_out
from cede.plan.steps import AddToConfig, Refusal, Work

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cede.address import Address
    from cede.model import Inventory, Unfinished


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
