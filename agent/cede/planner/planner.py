"""The planner: from what is wanted and what is so, the actions that lead from one to the other.

Pure and deterministic: the same targets give the same plan. Each assignment asks its questions in one
order, from "is it the right device" to "what is missing", and the first answer that ends the matter is the plan for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cede.model.plan import Change, Decision, Plan, Refused, Satisfied, Why
from cede.planner.attach import AttachTarget, attach
from cede.planner.guards import refuse_guarded
from cede.planner.match import refuse_twice
from cede.planner.ownership import leftover, refuse_elsewhere, stale
from cede.planner.pauses import drain, drain_beyond, left_alone, unless_paused
from cede.planner.recovery import orphans, recover, refuse_held

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.pci import Address
    from cede.planner.resolve import Targets


def plan(targets: Targets, *, scheduled: bool = False) -> Plan:
    """What to do so that every target's device is attached, and nothing that this policy once gave is left.

    What the administrator paused is left as it is, what they drained is dom0's. `scheduled` tells that a timer asks and
    no person: then `on_drift` of each assignment decides whether what somebody took away is put back.
    """
    policy, inventory = targets.policy, targets.inventory
    decisions: list[Decision] = []
    ready_targets: list[AttachTarget] = []
    paused: dict[int, Pause] = {}
    for target in targets.each:
        device, domain, pause = target.device, target.domain, target.pause
        if device is not None and domain is not None:
            ready = AttachTarget(
                subject=target.subject,
                assignment=target.assignment,
                device=device,
                domain=domain,
                policy=policy,
                inventory=inventory,
            )
            ready_targets.append(ready)
            if pause is not None:
                paused[len(ready_targets) - 1] = pause
        elif pause is not None:
            decisions.append(left_alone(target.subject, pause))
        elif target.refusal is not None:
            decisions.append(target.refusal)
    unsure = targets.unresolved
    wanted_now = {ready.device.address for ready in ready_targets}
    incomplete = {u.address: u for u in inventory.unfinished if u.address not in wanted_now}
    pairs = {ready.pair for ready in ready_targets}
    orphaned = orphans(inventory, pairs)
    ended = [recover(u, inventory) for u in incomplete.values() if u.device not in unsure]
    ended += orphaned.values()
    cut_off = {change.address for change in ended if isinstance(change, Change)}
    left = [
        (domain, ownership)
        for domain, ownership in stale(policy, inventory, pairs, unsure)
        if ownership.address not in cut_off
    ]
    detaching = {*orphaned} | {
        (ownership.address, d.uuid) for d, ownership in left if ownership.policy == policy.source
    }
    plan_context = PlanContext.of(
        ready for number, ready in enumerate(ready_targets) if number not in paused
    )
    attaching: set[Address] = set()
    drained: set[Address] = set()
    for number, ready in enumerate(ready_targets):
        if number in paused:
            decision = _rest(ready, paused[number], drained)
            decisions.append(decision)
            continue
        decision = plan_assignment(ready, plan_context, detaching, scheduled=scheduled)
        decisions.append(decision)
        if not isinstance(decision, Refused) or decision.may_pass:
            attaching.add(ready.device.address)
    out: list[Decision] = [
        *(decision for decision in ended if decision is not None),
        *(leftover(*one, policy, inventory, attaching) for one in left),
    ]
    out = [v for v in out if not (isinstance(v, Change) and v.address in drained)]
    handled = wanted_now | {v.address for v in out if isinstance(v, Change)}
    beyond = {decision.subject: decision for decision in drain_beyond(inventory, handled)}
    out = [*(decision for decision in out if decision.subject not in beyond), *beyond.values()]
    return Plan(decisions=(*decisions, *(_unless_held(decision, inventory) for decision in out)))


def _rest(target: AttachTarget, pause: Pause, drained: set[Address]) -> Decision:
    """Leave it, or take it back to dom0: once, however many domains it is assigned to."""
    address = target.device.address
    if not pause.drained or address in drained:
        return left_alone(target.subject, pause, address)
    others = [d for d in target.inventory.wanting(address) if d.uuid != target.domain.uuid]
    if others and not target.live and not target.config and not pause.everything and pause.domain:
        return left_alone(target.subject, pause, address)  # its alternative has it
    decision = drain(
        target.device, target.assignment.device, target.subject, pause, target.inventory
    )
    if isinstance(decision, Change):
        drained.add(address)
    return _unless_held(decision, target.inventory)


def _unless_held(decision: Decision, inventory: Inventory) -> Decision:
    if not isinstance(decision, Change) or decision.address is None:
        return decision
    return refuse_held(decision.address, decision.subject, inventory) or unless_paused(
        decision, inventory
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What all targets together ask for.

    `twice` are the addresses that several devices turned out to be, or that one domain is to have twice; `plugged`
    those to be hot-plugged now; `next_start` those that a domain, by UUID, may get at its next start.
    """

    twice: frozenset[Address]
    plugged: frozenset[Address]
    next_start: Mapping[str, frozenset[Address]]

    @classmethod
    def of(cls, targets: Iterable[AttachTarget]) -> Self:
        """the context of `targets`."""
        names: dict[Address, set[str]] = {}
        pairs: Counter[tuple[Address, str]] = Counter()
        next_start: dict[str, set[Address]] = {}
        plugged: set[Address] = set()
        for target in targets:
            address = target.device.address
            names.setdefault(address, set()).add(target.assignment.device)
            pairs[target.pair] += 1
            if target.plugging:
                plugged.add(address)
            elif target.for_next_start and not _elsewhere(target):
                next_start.setdefault(target.domain.uuid, set()).add(address)
        twice = {pair[0] for pair, times in pairs.items() if times > 1}
        twice |= {address for address, several in names.items() if len(several) > 1}
        return cls(
            twice=frozenset(twice),
            plugged=frozenset(plugged),
            next_start={uuid: frozenset(addresses) for uuid, addresses in next_start.items()},
        )


def plan_assignment(
    target: AttachTarget,
    plan_context: PlanContext,
    detaching: Collection[tuple[Address, str]] = (),
    *,
    scheduled: bool = False,
) -> Decision:
    """What is to be done about one target among the `plan_context` of all.

    `leaving` are the (address, domain UUID) pairs that are cleaned up in the same pass.
    """
    policy, inventory = target.policy, target.inventory
    if target.device.address in plan_context.twice:
        return refuse_twice(target.assignment.device, target.device.address, target.subject)
    described = policy.device(target.assignment.device)
    override = described.override if described else ()
    return (
        refuse_held(target.device.address, target.subject, inventory)
        or refuse_guarded(target.device, target.subject, inventory, policy.protect, override)
        or _alternative(target)
        or _elsewhere(target, detaching)
        or attach(
            target,
            next_start=plan_context.next_start.get(target.domain.uuid, ()),
            concurrent=plan_context.plugged,
            scheduled=scheduled,
        )
    )


def _elsewhere(
    target: AttachTarget, detaching: Collection[tuple[Address, str]] = ()
) -> Refused | None:
    return refuse_elsewhere(
        target.device, target.domain, target.subject, target.inventory, detaching
    )


def _alternative(target: AttachTarget) -> Satisfied | None:
    """Of several domains declared as alternatives, one has the device: who has it, else the first that runs."""
    assignment = target.policy.assignments_of(target.assignment.device)
    group = [domain for w in assignment if (domain := target.inventory.domain(w.domain))]
    if len(group) < 2:  # noqa: PLR2004 - one alone is no alternative
        return None
    address = target.device.address
    having = [d for d in group if d.live_hostdev(address)] or [
        d for d in group if d.config_hostdev(address)
    ]
    chosen = (having or [d for d in group if d.running] or group)[0]
    if chosen.uuid == target.domain.uuid:
        return None
    return Satisfied(
        subject=target.subject,
        why=Why.ALTERNATIVE_HAS_IT,
        reason=f"its alternative {chosen.name} has {address}, or comes first",
    )
