"""`cede history`: what was done, when, why, on whose behalf, and how it ended."""

from __future__ import annotations

from contextlib import closing

import click

from cede.adapters.composition import open_journal
from cede.cli import output
from cede.cli.options import json_option
from cede.errors import Exit
from cede.model import serialization


@click.command("history")
@click.argument("about", metavar="[DEVICE|DOMAIN]", default="")
@click.option(
    "-n",
    "most",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many tasks at most.",
)
@json_option
def history_command(about: str, most: int, as_json: bool) -> int:
    """Tell what was done, the newest last: when, why, on whose behalf, how long it took and how it ended.

    With an address, a device's or a domain's name, only what was about that. What was begun and is not settled is
    marked: the next `cede apply` finishes or undoes it.
    """
    with closing(open_journal()) as journal:
        records = journal.history(most=most, about=about)
    for warning in journal.warnings:
        click.echo(f"cede: {warning}", err=True)
    if as_json:
        click.echo(serialization.dumps(history=records))
    else:
        output.history(records)
    return Exit.OK
