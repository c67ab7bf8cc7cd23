"""The result of a pass, as one JSON object or as text."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cede.cli import exit_status, output
from cede.cli.exit_status import EXIT_OF
from cede.cli.outputs import ReportOutput, StatusOutput
from cede.errors import CedeError
from cede.model.conditions import Condition
from cede.model.serialization import dumps
from cede.services.outputs import ChangeOutcome, CheckedAssignment
from cede.services.reconcile import Report
from cede.verifier.verify import Explained


def show_report(done: Report, *, as_json: bool) -> int:
    """Print the result of a pass: one JSON object, or what the progress has not printed yet; return the exit status."""
    code = exit_status.of_report(done)
    if as_json:
        click.echo(
            dumps(
                ReportOutput(
                    exit=code,
                    plan=done.plan,
                    outcomes=ChangeOutcome.of(done.outcomes),
                    checked=CheckedAssignment.of(done.checked),
                )
            )
        )
    else:
        output.report(done)
    return code


def show_checked(
    found: Report,
    *,
    as_json: bool,
    explained: tuple[Explained, ...] = (),
    restarted: tuple[str, ...] = (),
    failed: CedeError | None = None,
    conditions: Sequence[Condition] = (),
) -> int:
    """Print the check results, and the checklists if there are any; return the exit status."""
    code = EXIT_OF[failed.kind] if failed else exit_status.of_status(found)
    if as_json:
        click.echo(
            dumps(
                StatusOutput(
                    exit=code,
                    checked=CheckedAssignment.of(found.checked),
                    conditions=tuple(conditions),
                    explained=explained,
                    restarted=restarted,
                    error=failed,
                )
            )
        )
        return code
    output.status(found, conditions)
    for one in explained:
        output.explained(one)
    if failed is not None:
        output.error(failed)
    return code
