"""The commands for one device: attach, detach, release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.report import show_report
from cede.cli.session import writing
from cede.errors import TransientError
from cede.model.plan import Change, Paused, Plan, Purpose, Refused
from cede.model.policy import Channel, When
from cede.planner.planner import plan
from cede.planner.release import detach, release
from cede.planner.resolve import resolve_targets
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.observe import observe_host
from cede.services.reconcile import Report, apply, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.model.plan import Decision


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
        inventory = observe_host(adapters)
        policy = one_off.policy(
            host_policy_if_any(policy_path, runtime.paths), device, domain, inventory,
            permissive=permissive, when=When.NEXT_START if next_start else When.NOW,
            channel=Channel(channel) if channel else None,
        )  # fmt: skip
        # the administrator who names a device means it, paused or not; what is drained is another matter
        drained = tuple(pause for pause in inventory.pauses if pause.drained)
        targets = resolve_targets(policy, replace(inventory, pauses=drained))
        planned = one_off.plan_of_assignment(plan(targets), policy)
        if any(
            isinstance(decision, Paused)
            or (isinstance(decision, Change) and decision.purpose is Purpose.DRAIN)
            for decision in planned.decisions
        ):
            raise TransientError(
                f"{device} or {domain} is drained",
                name="drained",
                remedy="`cede resume` ends the drain; `cede status` shows it",
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
    return _take(detach, "detach", runtime, device, policy_path, seconds, as_json=as_json)


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
    return _take(release, "release", runtime, device, policy_path, seconds, as_json=as_json)


def _take(
    plan_for: Callable[[Address, str, Inventory], Decision],
    verb: str,
    runtime: Runtime,
    device: str,
    policy_path: Path | None,
    seconds: float,
    *,
    as_json: bool,
) -> int:
    with writing(runtime, f"cede {verb} {device}", seconds, as_json=as_json) as (adapters, context):
        inventory = observe_host(adapters)
        found = one_off.named(
            lambda: host_policy_if_any(policy_path, runtime.paths), device, inventory, verb
        )
        if isinstance(found, Refused):
            planned = Plan(decisions=(found,))
        else:
            planned = Plan(decisions=(plan_for(found, f"{verb} {found}", inventory),))
            if not planned.refusals and any(held.address == found for held in inventory.held):
                adapters.journal.unhold(found)
        if not as_json:
            output.plan(planned)
        done = Report(
            plan=planned,
            outcomes=carry_out(adapters, inventory, planned, context),
        )
    return show_report(done, as_json=as_json)
