"""The planner: from what is wanted and what is so, the actions that lead from one to the other.

Pure and deterministic: the same targets give the same plan. Each assignment asks its questions in one
order, from "is it the right device" to "what is missing", and the first answer that ends the matter is the plan for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cede.model.plan import Change, Decision, Plan, Refused
from cede.planner.absent import plan_absent
from cede.planner.attach import plan_assignment
from cede.planner.groups import Member, keep_together
from cede.planner.paused import left_alone
from cede.planner.pauses import drain_beyond, plan_paused, unless_held
from cede.planner.recovery import orphans, recover
from cede.planner.release import (
    leftover,
    ownership_subject,
    refuse_unreadable,
    stale,
    takes_back,
)
from cede.planner.restarts import NONE, Restarts, plan_interrupted, plan_restarts
from cede.planner.targets import AttachTarget, PlanContext
from cede.planner.walls import walled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cede.model.domain import Domain, Ownership
    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.planner.resolve import Target, Targets

_CLEAN_UP = "clean-up"


def plan(targets: Targets, *, scheduled: bool = False, restarts: Restarts = NONE) -> Plan:
    """Plan so that every target's device is attached, and nothing that this policy once gave is left.

    What the administrator paused is left as it is, what they drained is dom0's. `scheduled` tells that a timer asks and
    no person: then `on_drift` of each assignment decides whether what somebody took away is put back. `restarts` says
    which domains may be restarted for what only a start can give them; they come last.
    """
    inventory = targets.inventory
    ready = [(target, AttachTarget.of(target, targets)) for target in targets.each]
    wanted = [attach for _, attach in ready if attach is not None]
    pairs, wanted_now = {attach.pair for attach in wanted}, {a.device.address for a in wanted}
    leaving = _leaving(targets, pairs, wanted_now)
    active = [a for target, a in ready if a is not None and target.pause is None]
    context = PlanContext.of(active, leaving.detaching, wanted_now)
    decided: list[tuple[Target, Decision]] = []
    attaching: set[Address] = set()
    drained: set[Address] = set()
    for target, attach in ready:
        if attach is not None and target.pause is not None:
            paused = partial(plan_paused, attach, target.pause, drained)
            decided.append((target, walled(target.subject, paused)))
        elif attach is not None:
            asked = partial(plan_assignment, attach, context, scheduled=scheduled)
            decided.append((target, walled(target.subject, asked)))
        elif target.pause is not None:
            decided.append((target, left_alone(target.subject, target.pause)))
        elif target.refusal is not None:
            absent = partial(plan_absent, target, target.refusal, inventory)
            decided.append((target, walled(target.subject, absent)))
    decisions = keep_together([_member(*one) for one in decided], inventory)
    for (target, _), decision in zip(decided, decisions, strict=True):
        refused = isinstance(decision, Refused) and not decision.may_pass
        if target.device is not None and target.pause is None and not refused:
            attaching.add(target.device.address)
    out = [
        decision
        for decision in _ways_out(leaving, targets, attaching)
        if not (isinstance(decision, Change) and decision.address in drained)
    ]
    physical = (unless_held(one.decision, inventory) for one in targets.physical.values())
    last = zip((target for target, _ in decided), decisions, strict=True)
    return Plan(
        decisions=(
            *physical,
            *decisions,
            *_with_drained(out, inventory, wanted_now),
            *plan_interrupted(inventory),
            *plan_restarts(last, inventory, restarts),
        ),
        cards=targets.cards,
    )


def _member(target: Target, decision: Decision) -> Member:
    return Member(
        decision=decision,
        address=target.device.address if target.device else None,
        owner=(target.assigned_as, target.assignment.place),
        domain=target.domain.uuid if target.domain else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaving:
    """What is to leave where no assignment wants it: of interrupted changes what ends them, and cede's notes."""

    ended: tuple[Decision, ...]
    left: tuple[tuple[Domain, Ownership], ...]
    detaching: frozenset[tuple[Address, str]]


def _leaving(
    targets: Targets, pairs: Collection[tuple[Address, str]], wanted: Collection[Address]
) -> _Leaving:
    policy, inventory, unsure = targets.policy, targets.inventory, targets.unresolved
    incomplete = {u.address: u for u in inventory.unfinished if u.address not in wanted}
    recovered = [
        walled(u.subject, partial(recover, u, inventory))
        for u in incomplete.values()
        if u.device not in unsure
    ]
    ended: list[Decision] = [decision for decision in recovered if decision is not None]
    orphaned = walled(_CLEAN_UP, partial(orphans, inventory, pairs))
    abandoned = walled(_CLEAN_UP, partial(stale, policy, inventory, pairs, unsure))
    ended += [orphaned] if isinstance(orphaned, Refused) else orphaned.values()
    ended += [abandoned] if isinstance(abandoned, Refused) else []
    recovering = {change.address for change in ended if isinstance(change, Change)}
    left = tuple(
        (domain, ownership)
        for domain, ownership in ([] if isinstance(abandoned, Refused) else abandoned)
        if ownership.address not in recovering
    )
    taken = {
        (ownership.address, domain.uuid)
        for domain, ownership in left
        if takes_back(policy, ownership, wanted)
    }
    moved = set() if isinstance(orphaned, Refused) else set(orphaned)
    return _Leaving(ended=tuple(ended), left=left, detaching=frozenset(moved | taken))


def _ways_out(
    leaving: _Leaving, targets: Targets, attaching: Collection[Address]
) -> Iterator[Decision]:
    yield from leaving.ended
    left = []
    for domain, ownership in leaving.left:
        subject = ownership_subject(ownership, domain)
        out = partial(leftover, domain, ownership, targets.policy, targets.inventory, attaching)
        left.append(
            Member(
                decision=walled(subject, out), address=ownership.address,
                owner=(ownership.name, ownership.policy, domain.uuid), domain=domain.uuid,
            )
        )  # fmt: skip
    yield from keep_together(left, targets.inventory)
    for domain in targets.inventory.unreadable:
        yield refuse_unreadable(domain, f"domain {domain.name}")


def _with_drained(
    out: Collection[Decision], inventory: Inventory, wanted: Collection[Address]
) -> Iterator[Decision]:
    handled = {*wanted, *(v.address for v in out if isinstance(v, Change))}
    drained = walled(_CLEAN_UP, lambda: list(drain_beyond(inventory, handled)))
    beyond = {v.subject: v for v in ([drained] if isinstance(drained, Refused) else drained)}
    for decision in (*(v for v in out if v.subject not in beyond), *beyond.values()):
        yield walled(decision.subject, partial(unless_held, decision, inventory))
