"""`cede history`: what was done, when, why, for whom, and how it ended."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.commands.answer import Answer
from cede.commands.exit_status import Exit
from cede.commands.requests import HistoryRequest
from cede.commands.screen import echo, echo_json
from cede.commands.session import Session
from cede.model.serialization import dumps
from cede.state.history import ChangeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOutput:
    """What `cede history --json` prints; in `history` the newest change is first."""

    history: tuple[ChangeRecord, ...]


def perform(request: HistoryRequest, session: Session) -> Answer:
    """Print the changes that the journal has."""
    with closing(session.runtime.journal()) as journal:
        records = journal.history(most=request.most, about=request.about)
    for warning in journal.warnings:
        echo(f"cede: {warning}", err=True)
    if session.as_json:
        echo_json(dumps(HistoryOutput(history=records)))
    else:
        _show(records)
    return Answer(exit=Exit.OK)


def _show(entries: Sequence[ChangeRecord]) -> None:
    """Print changes and their actions, the oldest first as in a log."""
    if not entries:
        echo("cede has changed nothing yet.")
    for entry in reversed(entries):
        still = " (unfinished)" if entry.open else ""
        echo(f"{entry.started}  {entry.subject}: {entry.outcome}{still}")
        echo(
            f"  requested by {entry.requester or 'unknown'} with {entry.command or 'cede'}"
            + (f"; {entry.address}" if entry.address else "")
        )
        for action in entry.actions:
            ended = (
                "did not end"
                if action.seconds is None
                else f"{action.outcome}, {action.seconds:.1f} s"
            )
            echo(f"  {'rollback: ' if action.is_rollback else ''}{action.text}: {ended}")
            if action.message:
                echo(f"    {action.message}")
        if entry.message and entry.message not in {action.message for action in entry.actions}:
            echo(f"  {entry.message}")
        if entry.remedy:
            echo(f"  remedy: {entry.remedy}")
