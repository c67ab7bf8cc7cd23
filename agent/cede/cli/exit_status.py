"""Exit status: the one place where what came of a command becomes a number that scripts rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, assert_never

from cede.errors import FailureKind
from cede.model.plan import Change, Deferred, Drifted, Paused, Refused, Satisfied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.outcome import Outcome
    from cede.model.plan import Decision, Plan
    from cede.services.reconcile import Report
    from cede.verifier.check_results import AssignmentChecks


class Exit(IntEnum):
    """Exit status of every cede command; scripts rely on these."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNSAFE = 3
    OUT_OF_SYNC = 4
    TRY_LATER = 75


EXIT_OF = {
    FailureKind.FAILED: Exit.FAILED,
    FailureKind.USAGE: Exit.USAGE,
    FailureKind.UNSAFE: Exit.UNSAFE,
    FailureKind.OUT_OF_SYNC: Exit.OUT_OF_SYNC,
    FailureKind.TRY_LATER: Exit.TRY_LATER,
}
_WORST_FIRST = (Exit.UNSAFE, Exit.USAGE, Exit.FAILED, Exit.TRY_LATER, Exit.OUT_OF_SYNC)


def worst(statuses: Iterable[Exit]) -> Exit:
    """The one exit status that speaks for all: what needs the administrator most comes first."""
    every = set(statuses)
    return next((candidate for candidate in _WORST_FIRST if candidate in every), Exit.OK)


def of_kinds(kinds: Iterable[FailureKind]) -> Exit:
    """The worst of them, 0 if there are none."""
    return worst(EXIT_OF[kind] for kind in kinds)


def of_report(done: Report) -> Exit:
    """0 only if nothing was refused, failed or is left to the administrator, and everything looked at is verified."""
    return worst(
        [
            *(_of_decision(decision, done=True) for decision in done.plan.decisions),
            *(of_outcome(outcome) for outcome in done.outcomes),
            *(Exit.FAILED for checked in done.checked if not checked.verified),
        ]
    )


def of_plan(planned: Plan) -> Exit:
    """0 only if there is nothing to do: for cede, or else for the administrator."""
    left = [d for d in planned.decisions if not (planned.changes and isinstance(d, Deferred))]
    return worst(_of_decision(decision, done=False) for decision in left)


def of_outcome(outcome: Outcome) -> Exit:
    """What came of one change."""
    if outcome.rollback_failed is not None:
        return Exit.FAILED
    return EXIT_OF[outcome.error.kind] if outcome.error else Exit.OK


def of_checks(checked: Iterable[AssignmentChecks]) -> Exit:
    """0 if all but what is paused is verified."""
    in_sync = all(checks.verified or checks.paused for checks in checked)
    return Exit.OK if in_sync else Exit.OUT_OF_SYNC


def _of_decision(decision: Decision, *, done: bool) -> Exit:
    match decision:
        case Change():
            if not done:
                return Exit.OUT_OF_SYNC
            return Exit.TRY_LATER if decision.action_required else Exit.OK
        case Refused():
            return EXIT_OF[decision.kind]
        case Deferred():
            return Exit.TRY_LATER
        case Drifted():
            return Exit.OUT_OF_SYNC
        case Satisfied() | Paused():
            return Exit.OK
        case _:
            assert_never(decision)
