"""The planner: from what is wanted and what is so, the actions that lead from one to the other.

Pure and deterministic: the same targets give the same plan. Each assignment asks its questions in one
order, from "is it the right device" to "what is missing", and the first answer that ends the matter is the plan for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.plan import Change, Decision, Plan, Refused
from cede.planner.attach import plan_assignment
from cede.planner.pauses import drain_beyond, left_alone, plan_paused, unless_held
from cede.planner.recovery import orphans, recover
from cede.planner.release import leftover, stale, takes_back
from cede.planner.targets import AttachTarget, PlanContext

if TYPE_CHECKING:
    from cede.model.pci import Address
    from cede.planner.resolve import Targets


def plan(targets: Targets, *, scheduled: bool = False) -> Plan:
    """Plan so that every target's device is attached, and nothing that this policy once gave is left.

    What the administrator paused is left as it is, what they drained is dom0's. `scheduled` tells that a timer asks and
    no person: then `on_drift` of each assignment decides whether what somebody took away is put back.
    """
    policy, inventory = targets.policy, targets.inventory
    ready = [(target, AttachTarget.of(target, targets)) for target in targets.each]
    wanted = [attach for _, attach in ready if attach is not None]
    pairs, wanted_now = {attach.pair for attach in wanted}, {a.device.address for a in wanted}
    unsure = targets.unresolved
    orphaned = orphans(inventory, pairs)
    incomplete = {u.address: u for u in inventory.unfinished if u.address not in wanted_now}
    ended = [recover(u, inventory) for u in incomplete.values() if u.device not in unsure]
    ended += orphaned.values()
    recovering = {change.address for change in ended if isinstance(change, Change)}
    left = [
        (domain, ownership)
        for domain, ownership in stale(policy, inventory, pairs, unsure)
        if ownership.address not in recovering
    ]
    detaching = {*orphaned} | {
        (ownership.address, d.uuid)
        for d, ownership in left
        if takes_back(policy, ownership, wanted_now)
    }
    active = [a for target, a in ready if a is not None and target.pause is None]
    context = PlanContext.of(active, detaching, wanted_now)
    decisions: list[Decision] = []
    attaching: set[Address] = set()
    drained: set[Address] = set()
    for target, attach in ready:
        if attach is not None and target.pause is not None:
            decisions.append(plan_paused(attach, target.pause, drained))
        elif attach is not None:
            decision = plan_assignment(attach, context, scheduled=scheduled)
            decisions.append(decision)
            if not isinstance(decision, Refused) or decision.may_pass:
                attaching.add(attach.device.address)
        elif target.pause is not None:
            decisions.append(left_alone(target.subject, target.pause))
        elif target.refusal is not None:
            decisions.append(target.refusal)
    out: list[Decision] = [
        *(decision for decision in ended if decision is not None),
        *(leftover(*one, policy, inventory, attaching) for one in left),
    ]
    out = [v for v in out if not (isinstance(v, Change) and v.address in drained)]
    handled = wanted_now | {v.address for v in out if isinstance(v, Change)}
    beyond = {decision.subject: decision for decision in drain_beyond(inventory, handled)}
    out = [*(decision for decision in out if decision.subject not in beyond), *beyond.values()]
    return Plan(decisions=(*decisions, *(unless_held(decision, inventory) for decision in out)))
