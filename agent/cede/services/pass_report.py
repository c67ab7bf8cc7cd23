"""What a pass came to, from plan to proof, and what of it is put out as JSON. Pure.

A report is assessed once, as it is made. Exit status, screens, log, JSON, backoff and status store read the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Self

from cede.errors import CedeError
from cede.model.conditions import IN_SYNC
from cede.model.plan import ActionOutcome, Outcome, Plan, Subject
from cede.services.assess import assess
from cede.services.card_status import status_of_card
from cede.util.json_keywords import Keywords
from cede.verifier.checklist import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cede.model.conditions import Condition
    from cede.planner.resolve import Target
    from cede.services.assess import AssignmentStatus
    from cede.verifier.checklist import AssignmentChecks


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One pass from plan to proof; `of` makes one, and assesses it: all that is said of a pass is read from this.

    `statuses` are what it came to for each subject of the plan, in the plan's order, one for all functions of a card;
    `checked` are those of each function; `host` are the host's own conditions, none if they weren't asked for.
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
        found: dict[str, list[AssignmentStatus]] = {}
        for decision in planned.decisions:
            subject, assignment = decision.subject, planned.assignment_of(decision.subject)
            status = assess(
                own.get(subject),
                decision,
                ended.get(subject),
                findings.get(subject),
                had.get(assignment, ()),
                at,
            )
            found.setdefault(assignment, []).append(status)
        cards = {card.assignment for card in planned.cards}
        statuses = (
            status_of_card(subject, functions) if subject in cards else functions[0]
            for subject, functions in found.items()
        )
        return cls(plan=planned, outcomes=tuple(outcomes), checked=checks, statuses=tuple(statuses))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the host and of all assignments."""
        return (*self.host, *(one for status in self.statuses for one in status.conditions))

    def only(self, part: Plan) -> Self:
        """Return what it came to for the subjects in this part of its plan."""
        subjects = {part.assignment_of(subject) for subject in part.by_subject}
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
class CheckedFunction:
    """What was found of one function of a card.

    `attached` and `persistent` tell whether the running domain and its persistent XML have it; `reason` is what its
    condition InSync says; `findings` are all that was looked at; `verified` tells whether every finding is right.
    """

    subject: Subject
    attached: bool
    persistent: bool
    reason: Annotated[str, Keywords(pattern="^[A-Z][A-Za-z]+$")]
    findings: tuple[CheckResult, ...]
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAssignment:
    """What was found of one assignment.

    `findings` are all that was looked at; with `paused`, the administrator told cede to leave it alone, so that it
    doesn't count; `verified` tells whether every finding is right; `functions` tell the same of each function of a
    card, and are empty for a device of one function.
    """

    subject: Subject
    findings: tuple[CheckResult, ...]
    paused: bool
    verified: bool
    functions: tuple[CheckedFunction, ...] = ()

    @classmethod
    def of(cls, report: Report) -> tuple[Self, ...]:
        """Return the checks of a pass, each with whether it is verified; those of a card's functions as one."""
        grouped: dict[str, list[AssignmentChecks]] = {}
        for checks in report.checked:
            grouped.setdefault(report.plan.assignment_of(checks.subject), []).append(checks)
        statuses = {status.subject: status for status in report.statuses}
        return tuple(
            cls(
                subject=subject,
                findings=tuple(dict.fromkeys(f for checks in group for f in checks.findings)),
                paused=statuses[subject].paused,
                verified=all(checks.verified for checks in group),
                functions=tuple(_functions(statuses[subject], group)),
            )
            for subject, group in grouped.items()
        )


def _functions(
    status: AssignmentStatus, group: Iterable[AssignmentChecks]
) -> Iterator[CheckedFunction]:
    of = {one.subject: one for one in status.functions}
    for checks in group:
        if (one := of.get(checks.subject)) is not None:
            yield CheckedFunction(
                subject=checks.subject,
                attached=one.attached,
                persistent=one.persistent,
                reason=next((c.reason for c in one.conditions if c.type == IN_SYNC), one.reason),
                findings=checks.findings,
                verified=checks.verified,
            )
