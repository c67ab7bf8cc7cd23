"""`cede history`: what was done, when, why, for whom, and how it ended."""

from __future__ import annotations

from contextlib import closing

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.exit_status import Exit
from cede.commands.outputs import HistoryOutput
from cede.commands.requests import HistoryRequest
from cede.commands.screen import echo, echo_json
from cede.commands.session import Session
from cede.model.serialization import dumps


def perform(request: HistoryRequest, session: Session) -> Answer:
    """Print the changes that the journal has."""
    with closing(session.runtime.journal()) as journal:
        records = journal.history(most=request.most, about=request.about)
    for warning in journal.warnings:
        echo(f"cede: {warning}", err=True)
    if session.as_json:
        echo_json(dumps(HistoryOutput(history=records)))
    else:
        output.history(records)
    return Answer(exit=Exit.OK)
