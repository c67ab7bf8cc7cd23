"""`cede plan`: what `cede apply` would do."""

from __future__ import annotations

import click

from cede.cli.options import file_path, json_option, policy_option, prune_option, scheduled_option
from cede.cli.performing import perform
from cede.cli.session import Caller


@click.command("plan")
@policy_option
@json_option
@scheduled_option
@prune_option
@click.option(
    "--diff", is_flag=True, help="Show how the persistent XML of each domain would change."
)
@click.option(
    "--host", type=click.Path(), callback=file_path, metavar="FILE",
    help="Plan for the host that `cede devices --save` saved in FILE.",
)  # fmt: skip
@click.pass_obj
def plan_command(
    caller: Caller,
    policy: str,
    as_json: bool,
    scheduled: bool,
    prune: bool,
    diff: bool,
    host: str,
) -> int:
    """Show what `cede apply` would do, and why. Changes nothing.

    Exit status 4 if there is something to do.
    """
    fields = {
        "policy": policy,
        "scheduled": scheduled,
        "prune": prune,
        "diff": diff,
        "host": host,
    }
    return perform(caller, "plan", fields, as_json=as_json).exit
