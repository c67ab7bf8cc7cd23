"""The commands for one device: attach, detach, release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.output import show_report
from cede.cli.session import writing
from cede.model.policy import Channel, When
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.reconcile import apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters
    from cede.model.policy import Policy


@click.command("attach")
@click.argument("device", metavar="DEVICE")
@click.argument("domain", metavar="DOMAIN")
@click.option(
    "--permissive", is_flag=True, help="Let the guest write all of the configuration space."
)
@click.option(
    "--next-start",
    is_flag=True,
    help="Leave the running domain alone: give the device at its next start.",
)
@click.option(
    "--verify", "channel", type=click.Choice([each.value for each in Channel]),
    help="How to ask the guest whether it has the device, with the user, host and files that the policy names for"
    " DOMAIN; ssh goes to the host DOMAIN if the policy names none.  [default: as the policy says, else console]",
)  # fmt: skip
@policy_option
@json_option
@wait_option
@click.pass_obj
def attach_command(
    runtime: Runtime,
    device: str,
    domain: str,
    permissive: bool,
    next_start: bool,
    channel: str | None,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """Give DEVICE to DOMAIN once, with the plan, the guards and the verification of `cede apply`.

    DEVICE is an address in any spelling, or a device's name in the policy. The policy's `protect` holds. `cede apply`
    does not take back what `cede attach` gave; `cede release` does.
    """
    with writing(runtime, f"cede attach {device} {domain}", seconds, as_json=as_json) as (
        adapters,
        context,
    ):
        request = one_off.AttachRequest(
            device=device,
            domain=domain,
            permissive=permissive,
            when=When.NEXT_START if next_start else When.NOW,
            channel=Channel(channel) if channel else None,
        )
        targets, planned = one_off.plan_attach(
            adapters, host_policy_if_any(policy_path, runtime), request
        )
        if not as_json:
            output.plan(planned)
        done = apply(adapters, targets, planned, context)
    return show_report(done, as_json=as_json)


@click.command("detach")
@click.argument("device", metavar="DEVICE")
@policy_option
@json_option
@wait_option
@click.pass_obj
def detach_command(
    runtime: Runtime, device: str, policy_path: Path | None, as_json: bool, seconds: float
) -> int:
    """Take DEVICE out of its guest and keep it on pciback, ready for another guest."""
    return _take_out(
        one_off.plan_detach, "detach", runtime, device, policy_path, seconds, as_json=as_json
    )


@click.command("release")
@click.argument("device", metavar="DEVICE")
@policy_option
@json_option
@wait_option
@click.pass_obj
def release_command(
    runtime: Runtime, device: str, policy_path: Path | None, as_json: bool, seconds: float
) -> int:
    """Take DEVICE out of its guest and return it to dom0, with its driver bound.

    DEVICE is an address in any spelling, or a device's name in the policy. As long as the policy assigns the device,
    the next `cede apply` gives it to the guest again.
    """
    return _take_out(
        one_off.plan_release, "release", runtime, device, policy_path, seconds, as_json=as_json
    )


def _take_out(
    plan_for: Callable[[Adapters, Callable[[], Policy], str], one_off.WayOut],
    verb: str,
    runtime: Runtime,
    device: str,
    policy_path: Path | None,
    seconds: float,
    *,
    as_json: bool,
) -> int:
    with writing(runtime, f"cede {verb} {device}", seconds, as_json=as_json) as (adapters, context):
        planned = plan_for(adapters, lambda: host_policy_if_any(policy_path, runtime), device)
        if not as_json:
            output.plan(planned.plan)
        done = one_off.take_out(adapters, planned, context)
    return show_report(done, as_json=as_json)
