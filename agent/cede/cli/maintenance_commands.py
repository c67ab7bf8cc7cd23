"""The commands for maintenance: pause, resume, drain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import duration, json_option, policy_option, wait_option, yes_option
from cede.cli.outputs import PauseOutput
from cede.cli.report import show_report
from cede.cli.session import confirm, writing
from cede.errors import UsageError
from cede.model.journal_state import Pause
from cede.model.pci import Address
from cede.model.plan import Plan
from cede.model.serialization import dumps
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.observe import observe_host
from cede.services.reconcile import Report, apply, carry_out, save_pass

if TYPE_CHECKING:
    from cede.model.inventory import Inventory
    from cede.model.policy import Policy


def _one_line(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return `value` as one line without control characters: other terminals show it later."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


reason_option = click.option(
    "--reason", default="", metavar="TEXT", callback=_one_line,
    help="Why; `cede status` shows the text.",
)  # fmt: skip


@click.command("pause")
@click.argument("target", metavar="DOMAIN|DEVICE")
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
    runtime: Runtime,
    target: str,
    lasting: float | None,
    reason: str,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """Leave a domain or a device as it is, whatever the policy says, until `cede resume`.

    No pass changes a paused domain or device, and neither counts as out of sync. A command that names the device
    (attach, detach, release) works all the same.
    """
    with writing(runtime, f"cede pause {target}", seconds, as_json=as_json) as (adapters, context):
        inventory = observe_host(adapters)
        wanted = named(target, host_policy_if_any(policy_path, runtime.paths), inventory)
        made = adapters.journal.pause(
            replace(wanted, requester=context.requester.user, reason=reason), seconds=lasting
        )
        now = adapters.journal.load_state().pauses
    if as_json:
        click.echo(dumps(PauseOutput(pauses=now)))
    else:
        click.echo(f"{target}: {made}")
    return Exit.OK


@click.command("resume")
@click.argument("target", metavar="[DOMAIN|DEVICE]", default="")
@yes_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def resume_command(
    runtime: Runtime,
    target: str,
    yes: bool,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """End a pause or a drain: put back what was drained, and what drifted meanwhile as `on_drift` says.

    Without DOMAIN or DEVICE, end all pauses and drains.
    """
    with writing(runtime, f"cede resume {target}".strip(), seconds, as_json=as_json) as (
        adapters,
        context,
    ):
        inventory = observe_host(adapters)
        policy = host_policy_if_any(policy_path, runtime.paths)
        ended = _ended(target, policy, inventory)
        if not ended and not as_json:
            click.echo("Nothing is paused or drained.")
            return Exit.OK
        left = tuple(pause for pause in inventory.pauses if pause not in ended)
        targets = resolve_targets(policy, replace(inventory, pauses=left))
        whole = plan(targets, scheduled=True)
        planned = one_off.filter_plan(whole, targets.affected(ended))
        if not as_json:
            for pause in ended:
                click.echo(f"{pause.target or 'everything'}: no longer {pause}")
            output.plan(planned)
        if planned.changes and not confirm(yes=yes or as_json):
            click.echo("Nothing was changed.")
            return Exit.OUT_OF_SYNC
        adapters.journal.resume(ended)
        done = apply(adapters, targets, planned, context)
        save_pass(adapters, targets, replace(done, plan=whole))
    return show_report(done, as_json=as_json)


@click.command("drain")
@click.argument("target", metavar="[DOMAIN|DEVICE]", default="")
@reason_option
@yes_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def drain_command(
    runtime: Runtime,
    target: str,
    reason: str,
    yes: bool,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """Maintenance: take ceded devices out of their guests and return them to dom0, until `cede resume`.

    Without DOMAIN or DEVICE, all of them: before a reboot of the host, a suspend, a firmware update. The next `cede
    drain` or the next pass continues a drain that was interrupted.
    """
    with writing(runtime, f"cede drain {target}".strip(), seconds, as_json=as_json) as (
        adapters,
        context,
    ):
        inventory = observe_host(adapters)
        policy = host_policy_if_any(policy_path, runtime.paths)
        wanted = named(target, policy, inventory) if target else Pause()
        wanted = replace(wanted, drained=True, requester=context.requester.user, reason=reason)
        ahead = _with(inventory, replace(wanted, since=adapters.journal.time))
        targets = resolve_targets(policy, ahead)
        whole = plan(targets)
        subjects = targets.affected([wanted])
        assigned = {target.subject for target in targets.each}
        beyond = {refusal.subject for refusal in whole.refusals if refusal.subject not in assigned}
        planned = one_off.filter_plan(whole, subjects | beyond, drained=True)
        if not as_json:
            output.plan(planned)
        if planned.changes and not confirm(yes=yes or as_json):
            click.echo("Nothing was changed.")
            return Exit.OUT_OF_SYNC
        adapters.journal.pause(wanted)
        done = Report(plan=planned, outcomes=carry_out(adapters, inventory, planned, context))
        save_pass(adapters, targets, replace(done, plan=whole))
    code = show_report(done, as_json=as_json)
    if not as_json:
        _report_unassigned(planned, subjects)
    return code


def named(target: str, policy: Policy, inventory: Inventory) -> Pause:
    """Return a pause of what `target` names: a domain (by name or UUID), a device of the policy, or an address.

    Raises UsageError if `target` is none of them, or both a domain and a device.
    """
    try:
        address = Address.parse(target)
    except ValueError:
        address = None
    if address is not None:
        if inventory.device(address) is None and not inventory.wanting(address):
            raise UsageError(
                f"this host has no device at {address}",
                name="no-such-device",
                remedy="`cede devices` lists them",
            )
        return Pause(target=target, device=str(address))
    domain, device = inventory.domain(target), policy.device(target)
    if domain is not None and device is not None:
        raise UsageError(
            f"{target!r} is both a domain and a device of the policy",
            name="ambiguous-target",
            remedy=f"name the domain by its UUID ({domain.uuid}), or the device by its address",
        )
    if domain is not None:
        return Pause(target=domain.name, domain=domain.uuid)
    if device is None:
        known = ", ".join(described.name for described in policy.devices) or "none"
        raise UsageError(
            f"{target!r} is neither a domain, nor a PCI address, nor a device of the policy, which has: {known}",
            name="no-such-target",
            remedy="`virsh list --all` lists domains, `cede devices` devices",
        )
    return Pause(target=target, device=target)


def _ended(target: str, policy: Policy, inventory: Inventory) -> tuple[Pause, ...]:
    """Return the pauses that `target` ends, by whichever name the paused domain or device was paused."""
    if not target:
        return inventory.pauses
    names = {target}
    try:
        names.add(str(Address.parse(target)))
    except ValueError:
        domain = inventory.domain(target)
        names |= {domain.uuid, domain.name} if domain is not None else set()
    described = policy.device(target)
    if described is not None and described.match.address is not None:
        names.add(str(described.match.address))
    names |= {
        device.name
        for device in policy.devices
        if device.match.address is not None and str(device.match.address) in names
    }
    pauses = tuple(
        pause
        for pause in inventory.pauses
        if not pause.everything and names & {pause.target, pause.device, pause.domain}
    )
    if not pauses:
        there = "; ".join(
            f"{pause.target or 'everything'} is {pause}" for pause in inventory.pauses
        )
        raise UsageError(
            f"{target} itself is neither paused nor drained",
            name="not-paused",
            remedy=f"`cede resume` without a name ends all of these: {there}" if there else "",
        )
    return pauses


def _with(inventory: Inventory, pause: Pause) -> Inventory:
    others = (
        one
        for one in inventory.pauses
        if (one.domain, one.device, one.drained) != (pause.domain, pause.device, pause.drained)
    )
    return replace(inventory, pauses=(pause, *others))


def _report_unassigned(planned: Plan, subjects: frozenset[str]) -> None:
    for change in planned.changes:
        if change.subject not in subjects and change.domains:
            click.echo(
                f"{change.subject}: no policy assigns the device, so `cede resume` does not put it back;"
                f" `cede attach {change.address} {change.domain}` does"
            )
