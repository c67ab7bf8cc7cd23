"""Recovery: finish or roll back what was interrupted, and what a failed change has done so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import (
    Action,
    AddToConfig,
    BindToPciback,
    DontLoadAtBoot,
    HotPlug,
    LoadAtBoot,
    RemoveFromConfig,
    ReturnToDom0,
    SetVirtualFunctions,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.model.domain import own_alias
from cede.model.plan import Change, Purpose, Refused
from cede.planner.release import plan_way_out
from cede.planner.targets import DetachTarget

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Unfinished
    from cede.model.pci import Address


_UNFINISHED = ", unfinished"


def recover(
    incomplete: Unfinished, inventory: Inventory, purpose: Purpose = Purpose.RECOVER
) -> Change | Refused | None:
    """Plan the way out for an interrupted attach or release; None if nothing is left to do.

    The note in the domain's XML is what an attach writes last: with it the attach was complete, and is a matter for
    the policy that it names.
    """
    address = incomplete.address
    if _complete(incomplete, inventory):
        return None
    domains = (d for d in inventory.wanting(address) if not d.unmanaged(address))
    twice = sum(other.subject == incomplete.subject for other in inventory.unfinished) > 1
    before = incomplete.subject.removesuffix(_UNFINISHED)  # a recovery can be left unfinished too
    subject = f"{before}{f' ({address})' if twice else ''}{_UNFINISHED}"
    target = DetachTarget.of(
        address, subject, inventory, purpose,
        domains=domains, name=incomplete.device, return_to_dom0=incomplete.return_to_dom0,
    )  # fmt: skip
    return plan_way_out(target)


def _complete(incomplete: Unfinished, inventory: Inventory) -> bool:
    """Whether its note says so, and Xen and libvirt agree: the note may be from before a guest that didn't let go.

    What was to go neither into a domain nor out of one, nor back to dom0, is a card whose virtual functions were made
    or set up: the next plan looks at them as they are.
    """
    if not (incomplete.attaching or incomplete.domain or incomplete.return_to_dom0):
        return True
    if not incomplete.attaching or inventory.interrupted_in(incomplete.address):
        return False
    return any(
        domain.ownership_of(incomplete.address) and not domain.unmanaged(incomplete.address)
        for domain in inventory.wanting(incomplete.address)
    )


def orphans(
    inventory: Inventory, wanted: Collection[tuple[Address, str]]
) -> dict[tuple[Address, str], Change | Refused]:
    """Plan the way out for what an interrupted attach has put into a domain, and that is wanted in another one now.

    By (address, domain UUID), as `wanted` says what the policy wants. It stays on pciback for the other domain.
    """
    found: dict[tuple[Address, str], Change | Refused] = {}
    for incomplete in inventory.unfinished:
        address, domain = incomplete.address, inventory.domain(incomplete.domain)
        if domain is None or domain.ownership_of(address) or domain.unmanaged(address):
            continue
        pair = (address, domain.uuid)
        listed = domain.live_hostdev(address) or domain.config_hostdev(address)
        if listed and pair not in wanted and any(address == at for at, _ in wanted):
            kept_bound = replace(incomplete, return_to_dom0=False)
            out = recover(kept_bound, inventory, Purpose.HAND_OVER)
            if out is not None:
                found[pair] = out
    return found


def recovered(incomplete: Unfinished, inventory: Inventory) -> bool:
    """Return whether nothing of the change is left, also after a vanished device is back."""
    present = inventory.device(incomplete.address) is not None
    return _complete(incomplete, inventory) or (present and recover(incomplete, inventory) is None)


def refuse_held(address: Address, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse a device on which a call hangs."""
    held = next((h for h in inventory.held if h.address == address), None)
    if held is None:
        return None
    since = f" (since {held.since})" if held.since else ""
    return Refused(
        subject=subject,
        reason=f"{address} is left alone: {held.reason}{since}",
        remedy=f"see dom0's kernel log (dmesg); `cede release {address}` tries again all the same",
        kind=FailureKind.FAILED,
        rule="held",
    )


def in_place(inventory: Inventory) -> Iterator[Change]:
    """Yield what cede has in guests by the ownership metadata in their XML, for a rebuilt journal."""
    for domain in inventory.domains:
        for ownership in domain.owned:
            device = inventory.device(ownership.address)
            yield Change(
                subject=f"{ownership.name} -> {domain.name}",
                purpose=Purpose.ATTACH,
                device=ownership.name,
                address=ownership.address,
                identity=device.identity if device else None,
                actions=(
                    AddToConfig(
                        address=ownership.address,
                        domain=domain.name,
                        alias=own_alias(ownership.name, ownership.address),
                        policy=ownership.policy,
                    ),
                ),
            )


def rollback_actions(taken: Iterable[Action]) -> tuple[Action, ...]:
    """Return the actions that undo those `taken`, the last one first.

    What is harmless stays: a loaded module, a mark on a hostdev that was adopted. A way out is never taken back.
    """
    return tuple(
        back for action in reversed(tuple(taken)) if (back := _inverse(action)) is not None
    )


def _inverse(action: Action) -> Action | None:
    match action:
        case LoadAtBoot():
            return DontLoadAtBoot()
        case BindToPciback():
            return ReturnToDom0(
                address=action.address,
                driver=action.driver,
                undriven=action.driver is None,
                unrestored=action.unrestored,
            )
        case HotPlug():
            return Unplug(address=action.address, domain=action.domain)
        case AddToConfig():
            return RemoveFromConfig(address=action.address, domain=action.domain)
        case SwitchOn():
            return SwitchOff(
                domain=action.domain, features=action.features, were_off=action.were_off
            )
        case SetVirtualFunctions():
            return replace(
                action,
                count=action.were,
                were=action.count,
                probed=action.were_probed,
                were_probed=action.probed,
            )
        case _:
            return None
