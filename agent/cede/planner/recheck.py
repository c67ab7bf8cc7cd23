"""What a plan rests on, asked again of the host as it is at the moment of an action that can't be taken back.

Between a plan and its actions a disk can be mounted, and other people can give devices away: then the action is
refused, and the host has to be planned anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import (
    AddToConfig,
    BindToPciback,
    ForceDetach,
    HotPlug,
    PutBack,
    RemoveFromConfig,
    RestartDomain,
    ReturnToDom0,
    SetVirtualFunctions,
    Unplug,
)
from cede.model.pci import PCIBACK, Reset
from cede.model.plan import Refused
from cede.planner.function_refusals import refuse_functions_in_use
from cede.planner.guards import refuse_disks_unknown, refuse_guarded
from cede.planner.half_gone import refuse_half_gone
from cede.planner.quarantine import refuse_quarantined
from cede.planner.release import refuse_unreadable
from cede.planner.resets import refuse_sibling
from cede.planner.restarts import refuse_start
from cede.planner.silence import refuse_silent

if TYPE_CHECKING:
    from cede.model.actions import Action
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.model.plan import Change

RECHECKED = (
    BindToPciback, HotPlug, PutBack, AddToConfig, Unplug, ForceDetach, RemoveFromConfig, RestartDomain,
    ReturnToDom0, SetVirtualFunctions,
)  # fmt: skip
_AGAIN = "plan again"


def recheck(
    change: Change, action: Action, now: Inventory, *, tried: bool, is_rollback: bool
) -> Refused | None:
    """Return why the action is not to be done any more; None if all is as it was decided on.

    `now` is the host at this moment; `tried` tells that this very action was tried before for the same change, so that
    what is half done is its own.
    """
    match action:
        case BindToPciback():
            return (
                _unreadable(change, action.address, now)
                or _used(change, action.address, now)
                or _disks_unknown(change, action.address, now)
            )
        case HotPlug():
            return (
                _unreadable(change, action.address, now)
                or _quarantined(change, action.address, now)
                or _taken(change, action, now, tried=tried)
                or _used(change, action.address, now)
                or _active_sibling(change, action, now)
                or _silent(change, action.domain, now)
            )
        case PutBack():
            return (
                _unreadable(change, action.address, now)
                or _foreign(change, action, now)
                or _silent(change, action.domain, now)
                or (None if tried else _half_gone(change, action, now))
            )
        case AddToConfig():
            return (
                _unreadable(change, action.address, now)
                or _reserved(change, action, now)
                or _given_outside(change, action, now)
            )
        case Unplug():
            return (
                _unreadable(change, action.address, now)
                or _foreign(change, action, now)
                or _silent(change, action.domain, now)
            )
        case ForceDetach():
            return _silent(change, action.domain, now)
        case RemoveFromConfig() if not is_rollback:
            return _unreadable(change, action.address, now) or _running(change, action, now)
        case ReturnToDom0():
            return (
                _unreadable(change, action.address, now)
                or _wanted(change, action.address, now, is_rollback=is_rollback)
                or _used_again(change, action.address, now, tried=tried)
            )
        case RestartDomain() | SetVirtualFunctions():
            return _of_no_hostdev(change, action, now)
        case _:
            return None


def _of_no_hostdev(
    change: Change, action: RestartDomain | SetVirtualFunctions, now: Inventory
) -> Refused | None:
    if isinstance(action, RestartDomain):
        return _cant_restart(change, action, now)
    device = now.device(action.address)
    if device is None or action.count == action.were:
        return None
    return refuse_functions_in_use(device, change.subject, now)


def _cant_restart(change: Change, action: RestartDomain, now: Inventory) -> Refused | None:
    """The start would not bring what the restart is for, or would fail; a guest that is off is started all the same."""
    domain = now.domain(action.domain)
    if domain is None or domain.unreadable:
        return None if domain is None else refuse_unreadable(domain, change.subject)
    if not domain.running:
        return None
    lacking = [str(at) for at in action.addresses if domain.config_hostdev(at) is None]
    if lacking:
        return Refused(
            subject=change.subject,
            rule="not-prepared",
            kind=FailureKind.TRY_LATER,
            reason=f"the persistent XML of {domain.name} lacks {', '.join(lacking)}, for which it is to be restarted",
            remedy=_AGAIN,
        )
    return refuse_start(domain, change.subject, now)


def _unreadable(change: Change, address: Address, now: Inventory) -> Refused | None:
    """A domain of the change can't be read by now, or one that may have the device; at boot it is nobody's yet."""
    own = (d for d in now.unreadable if d.name in change.domains)
    holder = now.unreadable_holder(address) if change.domains else None
    domain = next(own, holder)
    return None if domain is None else refuse_unreadable(domain, change.subject)


def _quarantined(change: Change, address: Address, now: Inventory) -> Refused | None:
    device = now.device(address)
    return None if device is None else refuse_quarantined(device, change.subject, now)


def _disks_unknown(change: Change, address: Address, now: Inventory) -> Refused | None:
    device = now.device(address)
    return None if device is None else refuse_disks_unknown(device, change.subject, now)


def _used(change: Change, address: Address, now: Inventory) -> Refused | None:
    """The host needs it, or what is reset with it, by now; what is on pciback is not dom0's."""
    device = now.device(address)
    if device is None:
        return None  # the device itself is checked on its own
    return refuse_guarded(device, change.subject, now, override=change.override)


def _active_sibling(change: Change, action: HotPlug, now: Inventory) -> Refused | None:
    """One of its bus is in use, or one with its requester id, unless the latter is in the same domain."""
    device, domain = now.device(action.address), now.domain(action.domain)
    if device is None:
        return None
    live = frozenset(hostdev.address for hostdev in domain.live) if domain else frozenset()
    together = () if device.reset is Reset.BUS else live
    return refuse_sibling(device, change.subject, now, together=together)


def _used_again(change: Change, address: Address, now: Inventory, *, tried: bool) -> Refused | None:
    """Dom0's driver has it already, by hand: a return would take it from there once more, to lift the quarantine.

    What a try before this one has brought home, free of pciback, is not taken any more.
    """
    device = now.device(address)
    if device is None or device.driver in {None, PCIBACK}:
        return None
    held = device.in_pciback_slots or device.driver_override == PCIBACK
    return _used(change, address, now) if held or not tried else None


def _reserved(change: Change, action: HotPlug | AddToConfig, now: Inventory) -> Refused | None:
    """Another domain has it, or is to have it at its next start."""
    others = (d for d in now.wanting(action.address) if d.name != action.domain)
    other = next(others, None)
    if other is None:
        return None
    return _elsewhere(change, f"{action.address} is in the XML of {other.name} by now")


def _taken(change: Change, action: HotPlug, now: Inventory, *, tried: bool) -> Refused | None:
    """Somebody else has given it away, or reserved it, meanwhile."""
    address, target = action.address, now.domain(action.domain)
    reserved = _reserved(change, action, now)
    if reserved is not None:
        return reserved
    if target is not None and target.live_hostdev(address):
        return _foreign(change, action, now)
    given, device = now.given(address), now.device(address)
    own = tried and target is not None and (given is None or given.domid == target.domid)
    idle = device is None or not device.on_pciback or device.in_guest is False
    if own or (given is None and idle):
        return None
    return _given_away(change, address, now)


def _given_outside(change: Change, action: AddToConfig, now: Inventory) -> Refused | None:
    """Xen gives it to a guest, and not to this one by libvirt."""
    address, target, given = action.address, now.domain(action.domain), now.given(action.address)
    listed = target is not None and target.live_hostdev(address) is not None
    if given is None or (listed and target is not None and given.domid == target.domid):
        return None
    return _given_away(change, address, now)


def _given_away(change: Change, address: Address, now: Inventory) -> Refused:
    given = now.given(address)
    holder = now.domain_by_id(given.domid) if given else None
    name = holder.name if holder else f"domain {given.domid}" if given else "a guest"
    return _elsewhere(change, f"{address} was given to {name} behind libvirt's back meanwhile")


def _silent(change: Change, name: str, now: Inventory) -> Refused | None:
    """Its guest can't answer by now; of one that has ended nothing is asked."""
    domain = now.domain(name)
    return None if domain is None else refuse_silent(domain, change.subject)


def _half_gone(change: Change, action: PutBack, now: Inventory) -> Refused | None:
    """What Xen had taken out, and libvirt lists, is so no more, or can't be put back any more."""
    domain = now.domain(action.domain)
    if domain is None or domain.live_hostdev(action.address) is None or now.given(action.address):
        return Refused(
            subject=change.subject,
            rule="half-gone",
            kind=FailureKind.TRY_LATER,
            reason=f"{action.address} and {action.domain} are no longer as they were when the plan was made",
            remedy=_AGAIN,
        )
    return refuse_half_gone(action.address, change.subject, now)


def _foreign(change: Change, action: HotPlug | PutBack | Unplug, now: Inventory) -> Refused | None:
    """Another tool's hostdev stands where cede's was, or where none was."""
    domain: Domain | None = now.domain(action.domain)
    if domain is None or not domain.unmanaged(action.address):
        return None
    return Refused(
        subject=change.subject,
        rule="foreign",
        kind=FailureKind.UNSAFE,
        reason=f"another tool has put {action.address} into {domain.name} meanwhile",
        remedy=_AGAIN,
    )


def _running(change: Change, action: RemoveFromConfig, now: Inventory) -> Refused | None:
    """A domain that was off when the plan was made runs with the device by now."""
    domain = now.domain(action.domain)
    vanished = change.identity is None  # the running domain keeps it in any case
    if vanished or domain is None or not domain.live_hostdev(action.address):
        return None
    return Refused(
        subject=change.subject,
        rule="attached-meanwhile",
        kind=FailureKind.TRY_LATER,
        reason=f"the running {domain.name} has {action.address}, and did not have it when the plan was made",
        remedy=_AGAIN,
    )


def _wanted(
    change: Change, address: Address, now: Inventory, *, is_rollback: bool
) -> Refused | None:
    """Dom0 would take what a guest has, or what another one is to have at its next start."""
    given = now.given(address)
    if given is not None:
        return _elsewhere(change, f"{address} was given to domain {given.domid} meanwhile")
    for domain in now.wanting(address):
        reserved = domain.name not in change.domains and not is_rollback
        if domain.live_hostdev(address) or reserved:
            return _elsewhere(change, f"{address} is in the XML of {domain.name} by now")
    return None


def _elsewhere(change: Change, reason: str) -> Refused:
    return Refused(
        subject=change.subject,
        rule="elsewhere",
        kind=FailureKind.UNSAFE,
        reason=reason,
        remedy=_AGAIN,
    )
