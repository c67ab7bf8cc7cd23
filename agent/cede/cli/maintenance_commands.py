"""The commands for maintenance: pause, resume, drain."""

from __future__ import annotations

import click

from cede.cli.options import duration, json_option, names_of, policy_option, wait_option, yes_option
from cede.cli.performing import confirmed, perform
from cede.cli.session import Caller

reason_option = click.option(
    "--reason", default="", metavar="TEXT",
    help="Why; `cede status` shows the text.",
)  # fmt: skip


@click.command("pause")
@click.argument("target", metavar="DOMAIN|DEVICE", shell_complete=names_of("domains", "devices"))
@click.option(
    "--for", "lasting", callback=duration, metavar="TIME",
    help="For how long: 90m, 2h, 1h30m, 7d. Without --for, until `cede resume`.",
)  # fmt: skip
@reason_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def pause_command(
    caller: Caller,
    target: str,
    lasting: float | None,
    reason: str,
    policy: str,
    as_json: bool,
    wait: float,
) -> int:
    """Leave a domain or a device as it is, whatever the policy says, until `cede resume`.

    No pass changes a paused domain or device, and neither counts as out of sync. A command that names the device
    (attach, detach, release) works all the same.
    """
    fields = {
        "target": target,
        "lasting": lasting or 0.0,
        "reason": reason,
        "policy": policy,
        "wait": wait,
    }
    return perform(caller, "pause", fields, as_json=as_json).exit


@click.command("resume")
@click.argument(
    "target", metavar="[DOMAIN|DEVICE]", default="", shell_complete=names_of("domains", "devices")
)
@click.option(
    "--host", is_flag=True,
    help="End the drain of the whole host alone, not what was paused or drained by name.",
)  # fmt: skip
@yes_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def resume_command(
    caller: Caller,
    target: str,
    host: bool,
    yes: bool,
    policy: str,
    as_json: bool,
    wait: float,
) -> int:
    """End a pause or a drain: put back what was drained, and what drifted meanwhile as `on_drift` says.

    Of a quarantined DEVICE, lift the quarantine: a broken card may go to a guest again.

    Without DOMAIN or DEVICE, end all pauses and drains.
    """
    fields = {"target": target, "host": host, "policy": policy, "wait": wait}
    return confirmed(caller, "resume", fields, as_json=as_json, yes=yes)


@click.command("drain")
@click.argument(
    "target", metavar="[DOMAIN|DEVICE]", default="", shell_complete=names_of("domains", "devices")
)
@reason_option
@yes_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def drain_command(
    caller: Caller,
    target: str,
    reason: str,
    yes: bool,
    policy: str,
    as_json: bool,
    wait: float,
) -> int:
    """Take ceded devices out of their guests and return them to dom0, for maintenance, until `cede resume`.

    Without DOMAIN or DEVICE, all of them: before a reboot of the host, a suspend, a firmware update. The next `cede
    drain` or the next pass continues a drain that was interrupted.
    """
    fields = {"target": target, "reason": reason, "policy": policy, "wait": wait}
    return confirmed(caller, "drain", fields, as_json=as_json, yes=yes)
