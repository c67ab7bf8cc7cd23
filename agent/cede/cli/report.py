"""What came of a pass: one JSON object, or text."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cede.cli import output
from cede.errors import CedeError, Exit
from cede.executor.executor import Outcome
from cede.model import serialization
from cede.model.conditions import Condition
from cede.services.reconcile import Report
from cede.verifier.check_results import AssignmentChecks
from cede.verifier.verify import Explained


def show_report(done: Report, *, as_json: bool) -> None:
    """What came of a pass: one JSON object, or what the progress hasn't said yet."""
    if as_json:
        click.echo(
            serialization.dumps(
                exit=done.exit,
                plan=done.plan,
                outcomes=plain_outcomes(done.outcomes),
                checked=plain_checked(done.checked),
            )
        )
    else:
        output.report(done)


def plain_outcomes(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """What came of each work, as a report's JSON has it."""
    return [
        {
            "subject": outcome.change.subject,
            "tried": outcome.tried,
            "rolled_back": outcome.rolled_back,
            "error": outcome.error,
            "rollback_failed": outcome.rollback_failed,
        }
        for outcome in outcomes
    ]


def show_checked(
    found: tuple[AssignmentChecks, ...],
    *,
    as_json: bool,
    explained: tuple[Explained, ...] = (),
    restarted: tuple[str, ...] = (),
    failed: CedeError | None = None,
    conditions: Sequence[Condition] = (),
) -> int:
    """The findings, and the checklists where they were asked for; returns the exit status that they ask for."""
    in_sync = all(checks.verified or checks.paused for checks in found)
    code = failed.exit if failed else Exit.OK if in_sync else Exit.OUT_OF_SYNC
    if as_json:
        click.echo(
            serialization.dumps(
                exit=code,
                checked=plain_checked(found),
                conditions=conditions,
                explained=explained,
                restarted=restarted,
                error=failed,
            )
        )
        return code
    output.status(found, conditions)
    for one in explained:
        output.explained(one)
    if failed is not None:
        output.error(failed)
    return code


def plain_checked(found: Sequence[AssignmentChecks]) -> list[dict[str, object]]:
    """What was checked, as JSON, with the decision that it comes to."""
    return [{**serialization.plain(checks), "verified": checks.verified} for checks in found]
