"""`cede verify`: ask every guest again; on request with the whole checklist, and after a restart."""

from __future__ import annotations

import click

from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.performing import confirmed, perform
from cede.cli.session import Caller


@click.command("verify")
@policy_option
@json_option
@click.option(
    "--explain", is_flag=True,
    help="Show the whole path of each device as a checklist, each item with the command to see it with.",
)  # fmt: skip
@click.option(
    "--restart", is_flag=True,
    help="Shut each guest that is in sync down, start it, and verify again. No guest is forced.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask before a restart, not even on a terminal.")
@wait_option
@click.pass_obj
def verify_command(
    caller: Caller,
    policy: str,
    as_json: bool,
    explain: bool,
    restart: bool,
    yes: bool,
    wait: float,
) -> int:
    """Show the status after asking every guest again. Exit status 4 if out of sync.

    With --restart, 75 if a guest does not shut down in time; that guest keeps running. What --explain finds missing
    only for the next boot of the host does not make an assignment out of sync.
    """
    fields = {"policy": policy, "explain": explain, "restart": restart, "wait": wait}
    if not restart:
        return perform(caller, "verify", fields, as_json=as_json).exit
    said = "Nothing was restarted."
    return confirmed(caller, "verify", fields, as_json=as_json, yes=yes, declined=said)
