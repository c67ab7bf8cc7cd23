"""What a pass came to, as values that are put out as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cede.errors import CedeError
from cede.model.plan import ActionOutcome, Outcome, Paused, Subject
from cede.verifier.checklist import CheckResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.services.reconcile import Report


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
        decisions = report.plan.by_subject
        return tuple(
            cls(
                subject=checks.subject,
                findings=checks.findings,
                paused=isinstance(decisions[checks.subject], Paused),
                verified=checks.verified,
            )
            for checks in report.checked
        )
