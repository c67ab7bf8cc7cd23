"""Pause, drain and resume: what the administrator takes out of cede's hands, and gives back to it.

A drain and a resume are planned first, which touches nothing, and done as planned after the administrator has agreed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cede.errors import UsageError
from cede.model.journal_state import Pause, Quarantined
from cede.model.pci import Address
from cede.model.plan import Change, Refused, filter_plan
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.services.observe import observe_host
from cede.services.one_off import known_address
from cede.services.pass_report import Report
from cede.services.quarantine import lifted, to_lift
from cede.services.reconcile import carry_out
from cede.services.status import assess_pass, save_status
from cede.services.verification import check_done

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory
    from cede.model.pci import Device
    from cede.model.plan import Outcome, Plan
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.services.reconcile import RequestContext
    from cede.verifier.checklist import AssignmentChecks


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenancePlan:
    """What a drain or a resume would do.

    `pauses` are those that it makes or ends, `lifted` the quarantines that it lifts. `whole` is the plan of the whole
    policy, which the status is recorded with; `plan` is the part of it that is done now. `unassigned` are the changes
    that no resume puts back.
    """

    pauses: tuple[Pause, ...]
    targets: Targets
    whole: Plan
    plan: Plan
    unassigned: tuple[Change, ...] = ()
    lifted: tuple[Quarantined, ...] = ()


def pause(
    adapters: Adapters,
    policy: Policy,
    name: str,
    context: RequestContext,
    *,
    reason: str = "",
    seconds: float | None = None,
) -> Pause:
    """Leave a domain or a device as it is, for `seconds` or until it is resumed; returns the pause as recorded.

    `name` is a domain's name or UUID, a device's name in the policy, or an address. Raises UsageError for any other.
    """
    named = find_named(name, policy, observe_host(adapters))
    return adapters.journal.pause(
        replace(named, requester=context.requester.user, reason=reason), seconds=seconds
    )


def plan_drain(
    adapters: Adapters, policy: Policy, name: str, context: RequestContext, *, reason: str = ""
) -> MaintenancePlan:
    """Plan the way back to dom0 of what cede gave to the domain or device `name`; of everything if it is empty.

    Raises UsageError if there is neither a domain nor a device of that name.
    """
    inventory = observe_host(adapters)
    named = find_named(name, policy, inventory) if name else Pause()
    drained = replace(named, drained=True, requester=context.requester.user, reason=reason)
    ahead = _with_pause(inventory, replace(drained, since=adapters.journal.time))
    targets = resolve_targets(policy, ahead)
    whole = plan(targets)
    subjects = targets.affected([drained])
    assigned = {target.subject for target in targets.each}
    beyond = {refusal.subject for refusal in whole.refusals if refusal.subject not in assigned}
    part = filter_plan(whole, subjects | beyond, drained=True)
    return MaintenancePlan(
        pauses=(drained,),
        targets=targets,
        whole=whole,
        plan=part,
        unassigned=tuple(
            change for change in part.changes if change.subject not in subjects and change.domains
        ),
    )


def drain(adapters: Adapters, planned: MaintenancePlan, context: RequestContext) -> Report:
    """Record the drain, then carry it out; a pass that comes later goes on with one that was interrupted."""
    for drained in planned.pauses:
        adapters.journal.pause(drained)
    outcomes = carry_out(adapters, planned.targets.inventory, planned.plan, context)
    return _recorded(adapters, planned, outcomes, ())


def plan_resume(
    adapters: Adapters, policy: Policy, name: str, *, host_alone: bool = False
) -> MaintenancePlan:
    """Plan what is put back once the pauses and drains of `name` have ended; of all of them if it is empty.

    With `host_alone` only the drain of the whole host ends, and what was paused or drained by name stays so. The
    quarantine of a card is lifted where `name` is the card's.
    Raises UsageError if `name` itself is neither paused nor drained nor quarantined.
    """
    inventory = observe_host(adapters)
    lifting = _lifted(name, policy, inventory) if name else ()
    inventory = lifted(inventory, lifting)
    ended = _ended(name, policy, inventory, or_nothing=bool(lifting))
    if host_alone:
        ended = tuple(pause for pause in ended if pause.everything and pause.drained)
    left = tuple(pause for pause in inventory.pauses if pause not in ended)
    targets = resolve_targets(policy, replace(inventory, pauses=left))
    whole = plan(targets, scheduled=True)
    return MaintenancePlan(
        pauses=ended,
        targets=targets,
        whole=whole,
        plan=filter_plan(whole, targets.affected((*ended, *_as_pauses(lifting)))),
        lifted=lifting,
    )


def _lifted(name: str, policy: Policy, inventory: Inventory) -> tuple[Quarantined, ...]:
    """Return the quarantines of what `name` means, as ones that are lifted; none if none of that is quarantined."""
    described = policy.device(name)
    found: Iterable[Device | None] = ()
    try:
        found = (inventory.device(Address.parse(name)),)
    except ValueError:
        if described is not None:
            resolved = resolve_targets(policy, inventory).functions(described, f"resume {name}")
            found = () if isinstance(resolved, Refused) else resolved
    lifting = (to_lift(device, inventory) for device in found if device is not None)
    return tuple(one for one in lifting if one is not None)


def _as_pauses(quarantined: Iterable[Quarantined]) -> Iterator[Pause]:
    """What speaks of the same devices."""
    return (Pause(target=str(one.address), device=str(one.address)) for one in quarantined)


def resume(adapters: Adapters, planned: MaintenancePlan, context: RequestContext) -> Report:
    """End the pauses, then put back what they kept back, and verify it."""
    adapters.journal.resume(planned.pauses)
    for quarantined in planned.lifted:
        adapters.journal.quarantine(quarantined)
    targets = planned.targets
    outcomes = carry_out(adapters, targets.inventory, planned.plan, context)
    checked = check_done(adapters, targets, planned.plan, outcomes, context)
    return _recorded(adapters, planned, outcomes, checked)


def _recorded(
    adapters: Adapters,
    planned: MaintenancePlan,
    outcomes: Sequence[Outcome],
    checked: Sequence[AssignmentChecks],
) -> Report:
    """Assess and record the whole policy; return the part of it that was done."""
    targets = planned.targets
    done = assess_pass(adapters.journal, targets, planned.whole, outcomes, checked)
    save_status(adapters.journal, targets, done)
    return done.only(planned.plan)


def find_named(name: str, policy: Policy, inventory: Inventory) -> Pause:
    """Return a pause of what `name` means: a domain (by name or UUID), a device of the policy, or an address.

    Raises UsageError if `name` is none of them, or both a domain and a device.
    """
    try:
        address = Address.parse(name)
    except ValueError:
        address = None
    if address is not None:
        return Pause(target=name, device=str(known_address(address, inventory)))
    domain, device = inventory.domain(name), policy.device(name)
    if domain is not None and device is not None:
        raise UsageError(
            f"{name!r} is both a domain and a device of the policy",
            name="ambiguous-target",
            remedy=f"name the domain by its UUID ({domain.uuid}), or the device by its address",
        )
    if domain is not None:
        return Pause(target=domain.name, domain=domain.uuid)
    if device is None:
        known = ", ".join(described.name for described in policy.devices) or "none"
        raise UsageError(
            f"{name!r} is neither a domain, nor a PCI address, nor a device of the policy, which has: {known}",
            name="no-such-target",
            remedy="`virsh list --all` lists domains, `cede devices` devices",
        )
    return Pause(target=name, device=name)


def _ended(
    name: str, policy: Policy, inventory: Inventory, *, or_nothing: bool = False
) -> tuple[Pause, ...]:
    """Return the pauses that `name` ends, by whichever name the paused domain or device was paused.

    Raises UsageError if there is none, unless that is no mistake.
    """
    if not name:
        return inventory.pauses
    names = {name}
    try:
        names.add(str(Address.parse(name)))
    except ValueError:
        domain = inventory.domain(name)
        names |= {domain.uuid, domain.name} if domain is not None else set()
    described = policy.device(name)
    if described is not None and described.match.address is not None:
        names.add(str(described.match.address))
    names |= {
        device.name
        for device in policy.devices
        if device.match.address is not None and str(device.match.address) in names
    }
    pauses = tuple(
        pause
        for pause in inventory.pauses
        if not pause.everything and names & {pause.target, pause.device, pause.domain}
    )
    if not pauses and not or_nothing:
        there = "; ".join(
            f"{pause.target or 'everything'} is {pause}" for pause in inventory.pauses
        )
        raise UsageError(
            f"{name} itself is neither paused nor drained nor quarantined",
            name="not-paused",
            remedy=f"`cede resume` without a name ends all of these: {there}" if there else "",
        )
    return pauses


def _with_pause(inventory: Inventory, pause: Pause) -> Inventory:
    others = (
        one
        for one in inventory.pauses
        if (one.domain, one.device, one.drained) != (pause.domain, pause.device, pause.drained)
    )
    return replace(inventory, pauses=(pause, *others))
