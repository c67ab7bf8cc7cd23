"""The result of a pass, as one JSON object or as text."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cede.cli import exit_status, output
from cede.cli.exit_status import EXIT_OF
from cede.errors import CedeError
from cede.model import serialization
from cede.model.conditions import Condition
from cede.model.outcome import Outcome
from cede.services.reconcile import Report
from cede.verifier.check_results import AssignmentChecks
from cede.verifier.verify import Explained


def show_report(done: Report, *, as_json: bool) -> int:
    """Print the result of a pass: one JSON object, or what the progress has not printed yet; return the exit status."""
    code = exit_status.of_report(done)
    if as_json:
        click.echo(
            serialization.dumps(
                exit=code,
                plan=done.plan,
                outcomes=plain_outcomes(done.outcomes),
                checked=plain_checked(done.checked),
            )
        )
    else:
        output.report(done)
    return code


def plain_outcomes(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """Return the outcome of each change, as a report's JSON has it."""
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
    """Print the check results, and the checklists if there are any; return the exit status."""
    code = EXIT_OF[failed.kind] if failed else exit_status.of_checks(found)
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
    """Return what was checked, as JSON, each with whether it is verified."""
    return [{**serialization.plain(checks), "verified": checks.verified} for checks in found]
