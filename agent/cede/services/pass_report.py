"""What a pass came to, from plan to proof, and what of it is put out as JSON. Pure.

A report is assessed once, as it is made. Exit status, screens, log, JSON, backoff and status store read the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from cede.errors import CedeError
from cede.model.plan import ActionOutcome, Outcome, Plan, Subject
from cede.services.assess import assess
from cede.verifier.checklist import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.model.conditions import Condition
    from cede.planner.resolve import Target
    from cede.services.assess import AssignmentStatus
    from cede.verifier.checklist import AssignmentChecks


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One pass from plan to proof; `of` makes one, and assesses it: all that is said of a pass is read from this.

    `statuses` are what it came to for each subject of the plan, in the plan's order; `host` are the host's own
    conditions, none if they weren't asked for.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...]
    checked: tuple[AssignmentChecks, ...]
    statuses: tuple[AssignmentStatus, ...]
    host: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls,
        planned: Plan,
        outcomes: Sequence[Outcome] = (),
        checked: Iterable[AssignmentChecks] = (),
        *,
        targets: Iterable[Target] = (),
        previous: Iterable[Condition] = (),
        at: str = "",
    ) -> Self:
        """Assess what was done and checked; `previous` are the conditions of the last pass, `at` is the time now."""
        checks = tuple(checked)
        own = {target.subject: target for target in targets}
        ended = {outcome.change.subject: outcome for outcome in outcomes}
        findings = {one.subject: one.findings for one in checks}
        had: dict[str, list[Condition]] = {}
        for condition in previous:
            had.setdefault(condition.subject, []).append(condition)
        statuses = (
            assess(
                own.get(decision.subject),
                decision,
                ended.get(decision.subject),
                findings.get(decision.subject),
                had.get(decision.subject, ()),
                at,
            )
            for decision in planned.decisions
        )
        return cls(plan=planned, outcomes=tuple(outcomes), checked=checks, statuses=tuple(statuses))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the host and of all assignments."""
        return (*self.host, *(one for status in self.statuses for one in status.conditions))

    def only(self, part: Plan) -> Self:
        """Return what it came to for the subjects in this part of its plan."""
        subjects = part.by_subject
        statuses = (status for status in self.statuses if status.subject in subjects)
        return replace(self, plan=part, statuses=tuple(statuses))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOutcome:
    """What came of one change of a plan.

    `tried` are the actions that were tried, in order, of which only the last can have failed; `rolled_back` are those
    that took them back, in order; `error` is why it stopped before its end; `rollback_failed` is why it couldn't be
    taken back either.
    """

    subject: Subject
    tried: tuple[ActionOutcome, ...]
    rolled_back: tuple[ActionOutcome, ...]
    error: CedeError | None
    rollback_failed: CedeError | None

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> tuple[Self, ...]:
        """Return the outcomes of a pass."""
        return tuple(
            cls(
                subject=outcome.change.subject,
                tried=outcome.tried,
                rolled_back=outcome.rolled_back,
                error=outcome.error,
                rollback_failed=outcome.rollback_failed,
            )
            for outcome in outcomes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAssignment:
    """What was found of one assignment.

    `findings` are all that was looked at; with `paused`, the administrator told cede to leave it alone, so that it
    doesn't count; `verified` tells whether every finding is right.
    """

    subject: Subject
    findings: tuple[CheckResult, ...]
    paused: bool
    verified: bool

    @classmethod
    def of(cls, report: Report) -> tuple[Self, ...]:
        """Return the checks of a pass, each with whether it is verified."""
        paused = {status.subject for status in report.statuses if status.paused}
        return tuple(
            cls(
                subject=checks.subject,
                findings=checks.findings,
                paused=checks.subject in paused,
                verified=checks.verified,
            )
            for checks in report.checked
        )
