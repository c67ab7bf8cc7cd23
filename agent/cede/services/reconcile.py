"""One pass: observe, plan, execute, verify, assess. Whoever asks (the administrator, a timer, a daemon) asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, assert_never

from cede.errors import CedeError, StopRequestedError
from cede.executor.executor import SIDE_BY_SIDE, Executor, Progress, silence
from cede.model.actions import LoadPciback
from cede.model.conditions import with_times
from cede.model.plan import Change, Deferred, Drifted, Paused, Plan, Refused, Satisfied, Why
from cede.model.policy import When
from cede.planner.planner import plan
from cede.planner.recovery import in_place, recovered
from cede.planner.resolve import resolve_targets
from cede.services import assess
from cede.services.host_conditions import host_conditions
from cede.services.observe import look_again, observe_host
from cede.services.pass_report import Report
from cede.services.restart import BOOT_SECONDS
from cede.services.status import save_status
from cede.state.journal import Requester
from cede.util.clock import CALL_SECONDS
from cede.util.faults import unexpected
from cede.util.retry import retry_transient
from cede.verifier.checklist import (
    AssignmentChecks,
    CheckResult,
    Witness,
    alternative_result,
    refused_result,
    unverified_result,
)
from cede.verifier.verify import of_host, verify

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.conditions import Condition
    from cede.model.inventory import Inventory
    from cede.model.plan import Decision, Outcome
    from cede.model.policy import Policy
    from cede.planner.resolve import Target, Targets

CONNECT_SECONDS = 10.0


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
    save_pass(adapters, targets, done)
    return done


def unverified(targets: Targets, previous: Iterable[Condition]) -> frozenset[str]:
    """Return the subjects whose guests proved nothing when they were asked last, by the conditions of that pass."""
    domids = {
        target.subject: target.domain.domid for target in targets.each if target.domain is not None
    }
    return assess.needs_recheck(previous, domids)


def apply(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    context: RequestContext,
    previous: Iterable[Condition] = (),
    *,
    needs_recheck: Collection[str] = (),
    rejected: CedeError | None = None,
) -> Report:
    """Carry out `planned`, verify it, and assess what came of it; `previous` are the conditions of the last pass.

    `rejected` is why the policy's files are not followed as they are now.
    """
    outcomes = carry_out(adapters, targets.inventory, planned, context)
    checked = check_done(adapters, targets, planned, outcomes, context, needs_recheck)
    return assess_pass(adapters, targets, planned, outcomes, checked, previous, rejected)


def assess_pass(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    outcomes: Sequence[Outcome],
    checked: Iterable[AssignmentChecks],
    previous: Iterable[Condition],
    rejected: CedeError | None = None,
) -> Report:
    """Return the report of a pass, assessed, with the conditions of the host; the parameters are those of `apply`."""
    inventory, at, before = targets.inventory, adapters.journal.time, tuple(previous)
    done = Report.of(planned, outcomes, checked, targets=targets.each, previous=before, at=at)
    host = host_conditions(
        policy=rejected,
        journal=adapters.journal.warnings,
        unreadable=[domain.name for domain in inventory.unreadable],
        pciback=inventory.pciback_loaded or any(outcome.did(LoadPciback) for outcome in outcomes),
        pauses=inventory.pauses,
    )
    return replace(done, host=with_times(before, host, at))


def check_done(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    outcomes: Sequence[Outcome],
    context: RequestContext,
    needs_recheck: Collection[str] = (),
) -> tuple[AssignmentChecks, ...]:
    """Verify what was done in the guests, and what needed nothing from the outside.

    Of what needed nothing, the guests of those that are `needs_recheck` are asked too, and a guest that is still
    connecting to its device, as after its start, is waited for a moment.
    """
    ended = {outcome.change.subject: outcome for outcome in outcomes}
    decisions = planned.by_subject
    checked = []
    for target in (target for target in targets.each if target.subject in decisions):
        subject = target.subject
        context.alive()
        stopped = context.stop.is_set()
        again = subject in needs_recheck and target.attached
        match assess.to_ask(decisions[subject], ended.get(subject), again=again, stopped=stopped):
            case Witness.GUEST:
                checked.append(_check_inside(adapters, target, alive=context.alive))
            case Witness.HOST:
                checks = _check_outside(target, targets.inventory)
                if not checks.verified and target.attached and not stopped:
                    checks = _check_inside(
                        adapters, target, timeout=CONNECT_SECONDS, alive=context.alive
                    )
                checked.append(checks)
    return tuple(checked)


def status(adapters: Adapters, targets: Targets, planned: Plan) -> Report:
    """Compare desired and actual for every assignment, as far as dom0 shows without asking a guest; write nothing."""
    previous = adapters.journal.conditions(targets.policy.source)
    return assess_pass(adapters, targets, planned, (), _seen(targets, planned), previous)


def _seen(targets: Targets, planned: Plan) -> tuple[AssignmentChecks, ...]:
    decisions = planned.by_subject
    return tuple(
        _expected(target, decisions[target.subject], targets.inventory) for target in targets.each
    )


def _expected(target: Target, decision: Decision, inventory: Inventory) -> AssignmentChecks:
    match decision:
        case Refused(reason=reason):
            findings = (refused_result(reason),)
            return AssignmentChecks(subject=target.subject, findings=findings)
        case Satisfied(why=Why.ALTERNATIVE_HAS_IT, reason=reason):
            findings = (alternative_result(reason),)
            return AssignmentChecks(subject=target.subject, findings=findings)
        case Change() | Satisfied() | Deferred() | Drifted() | Paused():
            return _check_outside(target, inventory)
        case _:
            assert_never(decision)


def verify_all(adapters: Adapters, targets: Targets, planned: Plan) -> Report:
    """Do the same, and ask every guest whose device looks right from outside."""
    decisions = planned.by_subject
    checked = [
        _check_inside(adapters, target)
        if checks.verified and target.attached and not isinstance(decisions[target.subject], Paused)
        else checks
        for target, checks in zip(targets.each, _seen(targets, planned), strict=True)
    ]
    previous = adapters.journal.conditions(targets.policy.source)
    return assess_pass(adapters, targets, planned, (), checked, previous)


def verify_started(adapters: Adapters, policy: Policy) -> tuple[Targets, Report]:
    """Do the same after guests were started, which are given the time for it and asked whatever they look like yet.

    The host is looked at again afterwards.
    """
    targets, planned = replan(adapters, policy)
    checked = [
        _check_inside(adapters, target, timeout=BOOT_SECONDS) if target.attached else checks
        for target, checks in zip(targets.each, _seen(targets, planned), strict=True)
    ]
    targets, planned = replan(adapters, policy)
    previous = adapters.journal.conditions(policy.source)
    return targets, assess_pass(adapters, targets, planned, (), checked, previous)


def _check_inside(
    adapters: Adapters,
    target: Target,
    *,
    timeout: float | None = None,
    alive: Callable[[], None] = lambda: None,
) -> AssignmentChecks:
    assignment, device, domain = target.assignment, target.device, target.domain
    try:
        if device is None or domain is None or assignment.when is When.NEXT_START:
            return _check_outside(
                target, retry_transient(lambda: observe_host(adapters), adapters.clock)
            )
        how = assignment.verification
        findings = retry_transient(
            lambda: adapters.timeouts.call(
                f"verifying {target.subject}",
                lambda: verify(adapters, device.address, domain, how, timeout=timeout),
                seconds=CALL_SECONDS + 2 * (timeout or how.timeout),
                waiting=alive,
            ),
            adapters.clock,
        )
    except StopRequestedError:
        raise
    except CedeError as unanswered:  # the report of what was done must not be lost over this
        findings = (unverified_result("dom0", unanswered.message),)
    except Exception as fault:  # noqa: BLE001 - whatever one guest makes of cede, the others are served
        why = unexpected(fault, f"verifying {target.subject}")
        findings = (unverified_result("dom0", why.message),)
    return AssignmentChecks(subject=target.subject, findings=findings)


def _check_outside(target: Target, inventory: Inventory) -> AssignmentChecks:
    """The findings on the target's device and domain as `inventory` has them, which may be a later one."""
    findings: tuple[CheckResult, ...]
    try:
        device = target.device and inventory.device(target.device.address)
        domain = target.domain and inventory.domain(target.domain.uuid)
        if device is None or domain is None:
            findings = (unverified_result("inventory", "the device or the domain is gone"),)
        elif domain.unreadable:
            findings = (unverified_result("libvirt", domain.unreadable),)
        else:
            findings = of_host(inventory, device, domain, target.assignment)
    except Exception as fault:  # noqa: BLE001 - as above
        why = unexpected(fault, f"checking {target.subject}")
        findings = (unverified_result("dom0", why.message),)
    return AssignmentChecks(subject=target.subject, findings=findings)


def save_pass(
    adapters: Adapters,
    targets: Targets,
    done: Report,
    next_try: Mapping[str, str] | None = None,
) -> None:
    """Record what a pass over the whole policy came to; one that can't be written down is told, and nothing else."""
    try:
        save_status(adapters.journal, targets, done, next_try)
    except CedeError as unwritten:
        adapters.journal.warnings.append(unwritten.message)


def replan(adapters: Adapters, policy: Policy, *, scheduled: bool = False) -> tuple[Targets, Plan]:
    """Observe, resolve and plan: the first half of a pass, which touches nothing."""
    targets = resolve_targets(policy, observe_host(adapters))
    return targets, plan(targets, scheduled=scheduled)
