"""The commands for one device: attach, detach, release."""

from __future__ import annotations

import click

from cede.cli.options import json_option, names_of, policy_option, wait_option
from cede.cli.performing import perform
from cede.cli.session import Caller

# those of cede.model.policy, which a command line that asks the agent doesn't import
CHANNELS = ("console", "ssh", "xenstore", "device", "none")


@click.command("attach")
@click.argument("device", metavar="DEVICE", shell_complete=names_of("devices"))
@click.argument("domain", metavar="DOMAIN", shell_complete=names_of("domains"))
@click.option(
    "--permissive", is_flag=True, help="Let the guest write all of the configuration space."
)
@click.option(
    "--next-start",
    is_flag=True,
    help="Leave the running domain alone: give the device at its next start.",
)
@click.option(
    "--verify", type=click.Choice(CHANNELS),
    help="How to ask the guest whether it has the device, with the user, host and files that the policy names for"
    " DOMAIN; ssh goes to the host DOMAIN if the policy names none.  [default: as the policy says, else console]",
)  # fmt: skip
@policy_option
@json_option
@wait_option
@click.pass_obj
def attach_command(
    caller: Caller,
    device: str,
    domain: str,
    permissive: bool,
    next_start: bool,
    verify: str | None,
    policy: str,
    as_json: bool,
    wait: float,
) -> int:
    """Give DEVICE to DOMAIN once, with the plan, the guards and the verification of `cede apply`.

    DEVICE is an address in any spelling, or a device's name in the policy. The policy's `protect` holds. `cede apply`
    does not take back what `cede attach` gave; `cede release` does.
    """
    fields = {
        "device": device,
        "domain": domain,
        "permissive": permissive,
        "next_start": next_start,
        "verify": verify or "",
        "policy": policy,
        "wait": wait,
    }
    return perform(caller, "attach", fields, as_json=as_json).exit


@click.command("detach")
@click.argument("device", metavar="DEVICE", shell_complete=names_of("devices"))
@policy_option
@json_option
@wait_option
@click.pass_obj
def detach_command(caller: Caller, device: str, policy: str, as_json: bool, wait: float) -> int:
    """Take DEVICE out of its guest and keep it on pciback, ready for another guest."""
    fields = {"device": device, "policy": policy, "wait": wait}
    return perform(caller, "detach", fields, as_json=as_json).exit


@click.command("release")
@click.argument("device", metavar="DEVICE", shell_complete=names_of("devices"))
@policy_option
@json_option
@wait_option
@click.pass_obj
def release_command(caller: Caller, device: str, policy: str, as_json: bool, wait: float) -> int:
    """Take DEVICE out of its guest and return it to dom0, with its driver bound.

    DEVICE is an address in any spelling, or a device's name in the policy. As long as the policy assigns the device,
    the next `cede apply` gives it to the guest again.
    """
    fields = {"device": device, "policy": policy, "wait": wait}
    return perform(caller, "release", fields, as_json=as_json).exit
