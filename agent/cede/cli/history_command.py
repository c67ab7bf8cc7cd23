"""`cede history`: what was done, when, why, for whom, and how it ended."""

from __future__ import annotations

import click

from cede.cli.options import json_option, names_of
from cede.cli.performing import perform
from cede.cli.session import Caller
from cede.commands.answer import MOST_CHANGES


@click.command("history")
@click.argument(
    "about", metavar="[DEVICE|DOMAIN]", default="", shell_complete=names_of("devices", "domains")
)
@click.option(
    "-n",
    "most",
    type=click.IntRange(min=1),
    default=MOST_CHANGES,
    show_default=True,
    help="List at most this many changes.",
)
@json_option
@click.pass_obj
def history_command(caller: Caller, about: str, most: int, as_json: bool) -> int:
    """List what was done, the newest last: when, why, for whom, how long it took and how it ended.

    With an address, or the name of a device or a domain, list only what concerned that. An unfinished change
    is marked: the next `cede apply` finishes or undoes it.
    """
    fields = {"about": about, "most": most}
    return perform(caller, "history", fields, as_json=as_json).exit
