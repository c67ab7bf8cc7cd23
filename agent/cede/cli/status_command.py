"""`cede status`: desired against actual, once or, with `--watch`, repeatedly."""

from __future__ import annotations

import click

from cede.cli.options import json_option, policy_option
from cede.cli.performing import perform
from cede.cli.session import Caller
from cede.commands.answer import WATCH_SECONDS

_SHORTEST = 1.0


@click.command("status")
@policy_option
@json_option
@click.option(
    "--watch", is_flag=True,
    help="Repeat: redraw on a terminal, elsewhere print a line for each change.",
)  # fmt: skip
@click.option(
    "--interval", type=click.FloatRange(min=_SHORTEST), default=WATCH_SECONDS, show_default=True,
    metavar="SECONDS", help="How long --watch waits between two observations.",
)  # fmt: skip
@click.pass_obj
def status_command(caller: Caller, policy: str, as_json: bool, watch: bool, interval: float) -> int:
    """Show each assignment, desired against actual, as dom0 sees it, and since when.

    Exit status 4 if out of sync, or if it can't be told: since its guest was asked, a domain was started, say. What is
    paused or drained does not count.
    """
    fields = {"policy": policy, "watch": watch, "interval": interval}
    return perform(caller, "status", fields, as_json=as_json).exit
