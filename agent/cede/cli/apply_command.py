"""`cede apply`: make the host what the policy says."""

from __future__ import annotations

import click

from cede.cli.options import (
    json_option,
    policy_option,
    prune_option,
    scheduled_option,
    wait_option,
    yes_option,
)
from cede.cli.performing import confirmed
from cede.cli.session import Caller


@click.command("apply")
@policy_option
@json_option
@yes_option
@scheduled_option
@prune_option
@click.option(
    "--restart",
    is_flag=True,
    help="Also shut down and start guests that wait for it, where the policy says `restart: when-asked` or `allowed`.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --restart: force a guest off that does not shut down in time. What it has not written is lost.",
)
@wait_option
@click.pass_obj
def apply_command(
    caller: Caller,
    policy: str,
    as_json: bool,
    yes: bool,
    scheduled: bool,
    prune: bool,
    restart: bool,
    force: bool,
    wait: float,
) -> int:
    """Do what the policy says: bind, edit, hot-plug, retry, verify in the guest.

    A second run changes nothing and says so. A refused or failed assignment does not keep the others back. A device
    that another tool took out is put back, after the plan says so; what is paused or drained stays as it is.
    """
    fields = {
        "policy": policy, "scheduled": scheduled, "prune": prune, "restart": restart, "force": force, "wait": wait,
    }  # fmt: skip
    return confirmed(caller, "apply", fields, as_json=as_json, yes=yes)
