"""One pass: observe, plan, execute, verify, assess. Whoever asks (the administrator, a timer, a daemon) asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING

from cede.errors import CedeError, WorldMovedError
from cede.executor.executor import SIDE_BY_SIDE, Executor, Progress, silence
from cede.model.actions import RestartDomain
from cede.model.plan import Change, Outcome, Plan, Purpose, filter_plan
from cede.planner.function_refusals import IN_USE
from cede.planner.planner import plan
from cede.planner.recovery import in_place, recovered
from cede.planner.resolve import resolve_targets
from cede.planner.restarts import NONE, Restarts
from cede.planner.virtual_functions import FUNCTIONS_FIRST
from cede.services import assess
from cede.services.observe import look_again, observe_host
from cede.services.pass_report import Report
from cede.services.quarantine import quarantine_broken
from cede.services.status import assess_pass, save_status
from cede.services.verification import check_done, check_started
from cede.state.journal import Requester

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.conditions import Condition
    from cede.model.inventory import Inventory
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.util.clock import Clock
    from cede.verifier.checklist import AssignmentChecks


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """On whose behalf a pass runs, who is told of its progress, and what stops it after the present action.

    `alive` is called while assignments are verified, which takes its time without progress. At most
    `side_by_side` groups of changes that don't touch each other are executed at once.
    """

    requester: Requester = field(default_factory=Requester)
    progress: Progress = silence
    stop: Event = field(default_factory=Event)
    alive: Callable[[], None] = lambda: None
    side_by_side: int = SIDE_BY_SIDE


def execute(
    adapters: Adapters, inventory: Inventory, changes: Sequence[Change], context: RequestContext
) -> tuple[Outcome, ...]:
    """Execute the changes on behalf of the context's requester; one that fails does not keep the others back.

    Raises PermanentError if the journal can't be written: nothing has been changed then.
    """
    adapters.journal.trim()
    if adapters.journal.rebuilt:
        adapters.journal.record_found(in_place(inventory), context.requester)
    executor = Executor(
        adapters,
        lambda action: look_again(adapters, action),
        context.requester,
        context.progress,
        context.stop,
        context.side_by_side,
    )
    return _in_order(inventory, changes, executor.execute)


def carry_out(
    adapters: Adapters, inventory: Inventory, planned: Plan, context: RequestContext
) -> tuple[Outcome, ...]:
    """Execute every change of the plan, and end in the journal what an earlier cede left unfinished and is done by now.

    Raises PermanentError if the journal can't be written: nothing has been changed then.
    """
    outcomes = execute(adapters, inventory, planned.changes, context)
    worked_on = {change.address for change in planned.changes}
    for incomplete in inventory.unfinished:
        if incomplete.address not in worked_on and recovered(incomplete, inventory):
            adapters.journal.mark_complete(incomplete.address)
    for restarting in inventory.restarting:
        domain = inventory.domain(restarting.domain)
        if domain is None or domain.running:
            adapters.journal.mark_restarted(restarting.domain)
    quarantine_broken(adapters, inventory, outcomes)
    return outcomes


def _in_order(
    inventory: Inventory,
    changes: Sequence[Change],
    take: Callable[[Sequence[Change]], tuple[Outcome, ...]],
) -> tuple[Outcome, ...]:
    """Physical functions come first, and virtual ones of which they could not set up all are not given away."""
    first = [change for change in changes if change.purpose is Purpose.VIRTUAL_FUNCTIONS]
    if not first:
        return take(changes)
    outcomes = {one.change: one for one in take(first)}
    failed = {one.change.address: one for one in outcomes.values() if one.error is not None}
    rest = []
    for change in changes:
        device = inventory.device(change.address) if change.address is not None else None
        physical = failed.get(device.physical_function) if device is not None else None
        if change in outcomes:
            continue
        if change.attaching and physical is not None:
            outcomes[change] = Outcome(change=change, error=_not_set_up(physical))
        else:
            rest.append(change)
    outcomes |= {one.change: one for one in take(rest)}
    return tuple(outcomes[change] for change in changes)


def _not_set_up(physical: Outcome) -> WorldMovedError:
    return WorldMovedError(
        f"{physical.change.subject} failed first, and what isn't set up is not given away",
        name="virtual-functions-not-set-up",
        remedy="see what is said of that",
    )


def carry_out_pass(
    adapters: Adapters, targets: Targets, planned: Plan, context: RequestContext
) -> Report:
    """Make the second half of a pass over a whole policy: apply what `replan` has planned, verify and record it.

    Guests that proved nothing when they were asked last are asked again.
    """
    previous = adapters.journal.conditions(targets.policy.source)
    again = unverified(targets, previous)
    outcomes = carry_out(adapters, targets.inventory, planned, context)
    targets, checked = _checked(adapters, targets, planned, outcomes, context, again)
    waited = _waited(planned, outcomes)
    if waited and not context.stop.is_set():
        targets, anew = replan(adapters, targets.policy)
        more = filter_plan(anew, waited)
        made = carry_out(adapters, targets.inventory, more, context)
        outcomes = (*outcomes, *made)
        checked = (
            *(one for one in checked if one.subject not in more.by_subject),
            *check_done(adapters, targets, more, made, context, again),
        )
        known = more.by_subject
        decisions = tuple(known.get(d.subject, d) for d in planned.decisions)
        planned = replace(planned, decisions=decisions)
    done = assess_pass(adapters.journal, targets, planned, outcomes, checked, previous)
    save_status(adapters.journal, targets, done)
    return done


def _waited(planned: Plan, outcomes: Iterable[Outcome]) -> frozenset[str]:
    """Return the subjects that waited for others of this pass: for functions to be made, or no longer to be used."""
    done = [outcome.change for outcome in outcomes if outcome.error is None]
    made = any(change.purpose is Purpose.VIRTUAL_FUNCTIONS for change in done)
    freed = any(change.detaching for change in done)
    return frozenset(
        refused.subject
        for refused in planned.refusals
        if (made and refused.rule == FUNCTIONS_FIRST) or (freed and refused.rule == IN_USE)
    )


def unverified(targets: Targets, previous: Iterable[Condition]) -> frozenset[str]:
    """Return the subjects whose guests proved nothing when they were asked last, by the conditions of that pass."""
    domids = {
        target.assigned_as: target.domain.domid
        for target in targets.each
        if target.domain is not None
    }
    return assess.needs_recheck(previous, domids)


def apply(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    context: RequestContext,
    previous: Sequence[Condition] | None = None,
    *,
    needs_recheck: Collection[str] = (),
    rejected: CedeError | None = None,
) -> Report:
    """Carry out `planned`, verify it, and assess what came of it; see `check_done` and `assess_pass`."""
    outcomes = carry_out(adapters, targets.inventory, planned, context)
    targets, checked = _checked(adapters, targets, planned, outcomes, context, needs_recheck)
    return assess_pass(
        adapters.journal, targets, planned, outcomes, checked, previous, rejected=rejected
    )


def _checked(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    outcomes: Sequence[Outcome],
    context: RequestContext,
    needs_recheck: Collection[str],
) -> tuple[Targets, tuple[AssignmentChecks, ...]]:
    """Verify what was done; after a restart of domains also return the targets as they are then."""
    restarted = frozenset(
        name for done in outcomes if done.did(RestartDomain) for name in done.change.domains
    )
    if restarted:
        targets = targets.seen_in(observe_host(adapters))
    checked = check_done(adapters, targets, planned, outcomes, context, needs_recheck, restarted)
    return targets, checked


def replan(
    adapters: Adapters, policy: Policy, *, scheduled: bool = False, restarts: Restarts = NONE
) -> tuple[Targets, Plan]:
    """Observe, resolve and plan: the first half of a pass, which touches nothing."""
    targets = resolve_targets(policy, observe_host(adapters))
    return targets, plan(targets, scheduled=scheduled, restarts=restarts)


def scheduled_restarts(policy: Policy, clock: Clock) -> Restarts:
    """Return which domains a scheduled pass may restart now, by dom0's own time."""
    now = clock.now().astimezone()
    return Restarts(permitted=policy.restarts_at(now.weekday(), now.hour * 60 + now.minute))


def verify_started(adapters: Adapters, policy: Policy) -> tuple[Targets, Report]:
    """Verify after guests were started, and look at the host again afterwards."""
    checked = check_started(adapters, *replan(adapters, policy))
    targets, planned = replan(adapters, policy)
    return targets, assess_pass(adapters.journal, targets, planned, checked=checked)
