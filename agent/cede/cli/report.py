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
from cede.verifier.check_results import Checked
from cede.verifier.verify import Explained


def show_report(done: Report, *, as_text: bool) -> None:
    """What came of a pass: one JSON object, or what the progress hasn't said yet."""
    if as_text:
        click.echo(
            serialization.dumps(
                exit=done.exit,
                plan=done.plan,
                outcomes=told_outcomes(done.outcomes),
                checked=with_verdict(done.checked),
            )
        )
    else:
        output.report(done)


def told_outcomes(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """What came of each work, as a report's JSON has it."""
    return [
        {
            "subject": one.work.subject,
            "tried": one.tried,
            "undone": one.undone,
            "error": one.error,
            "stranded": one.stranded,
        }
        for one in outcomes
    ]


def show_checked(
    found: tuple[Checked, ...],
    *,
    as_text: bool,
    explained: tuple[Explained, ...] = (),
    restarted: tuple[str, ...] = (),
    failed: CedeError | None = None,
    conditions: Sequence[Condition] = (),
) -> int:
    """The findings, and the checklists where they were asked for; returns the exit status that they ask for."""
    in_step = all(one.proven or one.paused for one in found)
    code = failed.exit if failed else Exit.OK if in_step else Exit.OUT_OF_STEP
    if as_text:
        click.echo(
            serialization.dumps(
                exit=code,
                checked=with_verdict(found),
                conditions=conditions,
                explained=explained,
                restarted=restarted,
                error=failed,
            )
        )
        return code
    output.standing(found, conditions)
    for one in explained:
        output.explained(one)
    if failed is not None:
        output.error(failed)
    return code


def with_verdict(found: Sequence[Checked]) -> list[dict[str, object]]:
    """What was checked, as JSON, with the verdict that it comes to."""
    return [{**serialization.plain(one), "proven": one.proven} for one in found]
