"""`cede history`: what was done, when, why, for whom, and how it ended."""

from __future__ import annotations

from contextlib import closing

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import json_option
from cede.cli.outputs import HistoryOutput
from cede.cli.screen import echo, echo_json
from cede.model.serialization import dumps


@click.command("history")
@click.argument("about", metavar="[DEVICE|DOMAIN]", default="")
@click.option(
    "-n",
    "most",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="List at most this many changes.",
)
@json_option
@click.pass_obj
def history_command(runtime: Runtime, about: str, most: int, as_json: bool) -> int:
    """List what was done, the newest last: when, why, for whom, how long it took and how it ended.

    With an address, or the name of a device or a domain, list only what concerned that. An unfinished change
    is marked: the next `cede apply` finishes or undoes it.
    """
    with closing(runtime.journal()) as journal:
        records = journal.history(most=most, about=about)
    for warning in journal.warnings:
        echo(f"cede: {warning}", err=True)
    if as_json:
        echo_json(dumps(HistoryOutput(history=records)))
    else:
        output.history(records)
    return Exit.OK
