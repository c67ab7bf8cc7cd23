"""One pass: observe, plan, execute, verify, assess. Whoever asks (the administrator, a timer, a daemon) asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from cede.errors import CedeError
from cede.executor.executor import SIDE_BY_SIDE, Executor, Progress, silence
from cede.model.plan import Change, Plan
from cede.planner.planner import plan
from cede.planner.recovery import in_place, recovered
from cede.planner.resolve import resolve_targets
from cede.services import assess
from cede.services.observe import look_again, observe_host
from cede.services.pass_report import Report
from cede.services.status import assess_pass, save_status
from cede.services.verification import check_done, check_started
from cede.state.journal import Requester

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.conditions import Condition
    from cede.model.inventory import Inventory
    from cede.model.plan import Outcome
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets


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
    return executor.execute(changes)


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
    return outcomes


def carry_out_pass(
    adapters: Adapters, targets: Targets, planned: Plan, context: RequestContext
) -> Report:
    """Make the second half of a pass over a whole policy: apply what `replan` has planned, verify and record it.

    Guests that proved nothing when they were asked last are asked again.
    """
    previous = adapters.journal.conditions(targets.policy.source)
    again = unverified(targets, previous)
    done = apply(adapters, targets, planned, context, previous, needs_recheck=again)
    save_status(adapters.journal, targets, done)
    return done


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
    checked = check_done(adapters, targets, planned, outcomes, context, needs_recheck)
    return assess_pass(
        adapters.journal, targets, planned, outcomes, checked, previous, rejected=rejected
    )


def replan(adapters: Adapters, policy: Policy, *, scheduled: bool = False) -> tuple[Targets, Plan]:
    """Observe, resolve and plan: the first half of a pass, which touches nothing."""
    targets = resolve_targets(policy, observe_host(adapters))
    return targets, plan(targets, scheduled=scheduled)


def verify_started(adapters: Adapters, policy: Policy) -> tuple[Targets, Report]:
    """Verify after guests were started, and look at the host again afterwards."""
    checked = check_started(adapters, *replan(adapters, policy))
    targets, planned = replan(adapters, policy)
    return targets, assess_pass(adapters.journal, targets, planned, checked=checked)
