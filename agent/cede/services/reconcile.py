"""One pass: observe, plan, execute, verify. Whoever asks (a person, a timer, a daemon) asks for this."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from cede.errors import CedeError, Exit
from cede.executor.executor import Executor, Progress, silence
from cede.model.plan import Plan
from cede.model.policy import When
from cede.planner.planner import plan
from cede.planner.recovery import ended, in_place
from cede.planner.resolve import resolve_targets
from cede.services import assess
from cede.services.observe import look_around
from cede.services.restart import BOOT_SECONDS
from cede.services.status import record, standing
from cede.state.journal import Asked
from cede.util.retry import persist
from cede.util.timeouts import CALL_SECONDS, within
from cede.verifier import check_results
from cede.verifier.check_results import Checked
from cede.verifier.verify import of_host, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cede.adapters.composition import Doors
    from cede.executor.executor import Outcome
    from cede.model.conditions import Condition
    from cede.model.inventory import Inventory
    from cede.model.policy import Policy
    from cede.planner.resolve import Target, Targets
    from cede.verifier.check_results import Finding

_WORST_FIRST = (Exit.UNSAFE, Exit.USAGE, Exit.FAILED, Exit.TRY_LATER, Exit.OUT_OF_STEP)


def worst(exits: list[Exit]) -> Exit:
    """The one exit status that speaks for all: what needs a person most comes first."""
    return next((candidate for candidate in _WORST_FIRST if candidate in exits), Exit.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One pass from plan to proof."""

    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    checked: tuple[Checked, ...] = ()

    @property
    def exit(self) -> Exit:
        """0 only if nothing was refused, failed or is left to a person, and everything looked at is proven."""
        left = [*(w.pending for w in self.plan.work), *(n.pending for n in self.plan.noops)]
        drifted = [noop for noop in self.plan.noops if noop.drifted]
        return worst(
            [
                *(refusal.exit for refusal in self.plan.refusals),
                *(outcome.exit for outcome in self.outcomes),
                *(Exit.FAILED for checked in self.checked if not checked.proven),
                *(Exit.TRY_LATER for pending in left if pending),
                *(Exit.OUT_OF_STEP for _ in drifted),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Behalf:
    """On whose behalf a pass runs, who is told of its progress, and what stops it after the present step.

    `scheduled` tells that a timer or a daemon asks, and no person just now: then each assignment's `on_drift` decides.
    `alive` is called between the assignments that are verified, which take their time without progress.
    """

    asked: Asked = field(default_factory=Asked)
    progress: Progress = silence
    stop: Event = field(default_factory=Event)
    scheduled: bool = False
    alive: Callable[[], None] = lambda: None


def carry_out(
    doors: Doors, inventory: Inventory, planned: Plan, behalf: Behalf
) -> tuple[Outcome, ...]:
    """Execute every work of the plan, and keep the journal in order; one that fails does not keep the others back.

    Raises PermanentError if the journal can't be written: nothing has been changed then.
    """
    journal = doors.journal
    journal.trim()
    if journal.rebuilt:
        journal.found(in_place(inventory), behalf.asked)
    outcomes = Executor(doors, behalf.asked, behalf.progress, behalf.stop).execute(planned.work)
    worked_on = {work.address for work in planned.work}
    for begun in inventory.unfinished:
        if begun.address not in worked_on and ended(begun, inventory):
            journal.settle(begun.address)
    return outcomes


def one_pass(
    doors: Doors,
    policy: Policy,
    behalf: Behalf,
    *,
    review: Callable[[Plan], Plan] = lambda planned: planned,
    doubted: Callable[[Collection[str]], Collection[str]] = lambda unproven: unproven,
    next_try: Callable[[Report], Mapping[str, str] | None] = lambda _: None,
    rejected: CedeError | None = None,
) -> Report:
    """Observe, plan, execute, verify, record: all of it once.

    `review` sees the plan before anything of it is done, and returns it with what is not to be done as refusals; what
    it raises ends the pass there. `doubted` sees the subjects that their guests didn't prove when they were asked last,
    and returns those whose guests are asked now even if nothing has to be done. `next_try` sees the report, and tells
    when each subject is tried again; for it and for `rejected` see `cede.services.status`.
    """
    targets, planned = replan(doors, policy, scheduled=behalf.scheduled)
    reviewed = review(planned)
    again = doubted(assess.doubted(doors.journal.conditions(policy.source)))
    done = apply(doors, targets, reviewed, behalf, doubted=again)
    remember(doors, targets, done, next_try(done), rejected)
    return done


def apply(
    doors: Doors,
    targets: Targets,
    planned: Plan,
    behalf: Behalf,
    *,
    doubted: Collection[str] = (),
) -> Report:
    """Carry out `planned`, then verify what was done in the guests, and what needed nothing from the outside.

    Of what needed nothing, the guests of those that are `doubted` are asked too.
    """
    outcomes = carry_out(doors, targets.inventory, planned, behalf)
    failed = {outcome.work.subject for outcome in outcomes if outcome.error is not None}
    done = {w.subject for w in planned.work if not w.pending and not w.outward} - failed
    idle = {
        n.subject for n in planned.noops if not (n.pending or n.settled or n.paused or n.drifted)
    }
    checked = []
    for target in targets.each:
        again = target.subject in doubted and target.subject in idle and target.attached
        asked = target.subject in done or again
        behalf.alive()
        if asked and not behalf.stop.is_set():
            checked.append(_check_inside(doors, target))
        elif target.subject in idle:
            checked.append(_check_outside(target, targets.inventory))
    return Report(plan=planned, outcomes=outcomes, checked=tuple(checked))


def status(targets: Targets, planned: Plan) -> tuple[Checked, ...]:
    """Wanted against real for every assignment, as far as it shows without asking a guest."""
    refused = {r.subject: r.reason for r in planned.refusals}
    settled = {n.subject: n.reason for n in planned.noops if n.settled}
    resting = {n.subject for n in planned.noops if n.paused}
    found = []
    for target in targets.each:
        subject = target.subject
        findings: tuple[Finding, ...]
        if subject in refused:
            findings = (check_results.refused(refused[subject]),)
        elif subject in settled:
            findings = (check_results.settled(settled[subject]),)
        else:
            findings = _check_outside(target, targets.inventory).findings
        found.append(Checked(subject=subject, findings=findings, paused=subject in resting))
    return tuple(found)


def verify_all(
    doors: Doors, targets: Targets, planned: Plan, *, booting: bool = False
) -> tuple[Checked, ...]:
    """The same, and every guest is asked whose device looks right from outside.

    One that is `booting` is given the time for it, and is asked whatever it looks like yet.
    """
    outside = status(targets, planned)
    return tuple(
        _check_inside(doors, target, settle=BOOT_SECONDS)
        if booting and target.attached
        else _check_inside(doors, target)
        if one.proven and not one.paused and target.attached
        else one
        for target, one in zip(targets.each, outside, strict=True)
    )


def _check_inside(doors: Doors, target: Target, *, settle: float | None = None) -> Checked:
    assignment, device, domain = target.assignment, target.device, target.domain
    try:
        if device is None or domain is None or assignment.when is When.NEXT_START:
            return _check_outside(target, persist(lambda: look_around(doors)))
        how = assignment.verification
        findings = persist(
            lambda: within(
                f"verifying {target.subject}",
                lambda: verify(doors, device.address, domain, how, settle=settle),
                seconds=CALL_SECONDS + 2 * (settle or how.timeout),
            )
        )
    except CedeError as unanswered:  # the report of what was done must not be lost over this
        findings = (check_results.unproven("dom0", unanswered.message),)
    return Checked(subject=target.subject, findings=findings)


def _check_outside(target: Target, inventory: Inventory) -> Checked:
    """The findings on the target's device and domain as `inventory` has them, which may be a later one."""
    device = target.device and inventory.device(target.device.address)
    domain = target.domain and inventory.domain(target.domain.uuid)
    findings = (
        (check_results.unproven("inventory", "the device or the domain is gone"),)
        if device is None or domain is None
        else of_host(inventory, device, domain, target.assignment)
    )
    return Checked(subject=target.subject, findings=findings)


def stands(
    doors: Doors, targets: Targets, planned: Plan, checked: Sequence[Checked]
) -> tuple[Condition, ...]:
    """The conditions as they are now, since when, and when it is tried again; see `cede.services.status`."""
    findings = {one.subject: one.findings for one in checked}
    return standing(doors.journal, targets, planned, findings)


def remember(
    doors: Doors,
    targets: Targets,
    done: Report,
    next_try: Mapping[str, str] | None = None,
    rejected: CedeError | None = None,
) -> tuple[Condition, ...]:
    """Record what a pass over the whole policy came to; one that can't be written down is told, and nothing else."""
    findings = {one.subject: one.findings for one in done.checked}
    try:
        return record(
            doors.journal, targets, done.plan, findings, done.outcomes,
            next_try=next_try, rejected=rejected,
        )  # fmt: skip
    except CedeError as unwritten:
        doors.journal.warnings.append(unwritten.message)
        return ()


def replan(doors: Doors, policy: Policy, *, scheduled: bool = False) -> tuple[Targets, Plan]:
    """Observe, resolve and plan: the first half of a pass, which touches nothing."""
    targets = resolve_targets(policy, look_around(doors))
    return targets, plan(targets, scheduled=scheduled)
