"""`cede boot`: the early binder, and the files that bind even earlier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import LibvirtAccess
from cede.cli.options import json_option, policy_option
from cede.cli.session import Caller, session_here
from cede.commands import exit_status, output
from cede.commands.exit_status import Exit
from cede.commands.output import show_report
from cede.commands.outputs import PlanOutput
from cede.commands.screen import echo, echo_json
from cede.commands.session import path_of
from cede.commands.writing import writing
from cede.errors import UsageError
from cede.model.plan import Change
from cede.model.serialization import dumps
from cede.planner.boot_plan import EarlyBoot, early_boot
from cede.policy.policy_files import host_policy
from cede.services.boot import bind, read_boot_configuration, replan
from cede.services.observe import observe_host

if TYPE_CHECKING:
    from cede.adapters.runtime import Runtime
    from cede.model.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOutput(EarlyBoot):
    """What `cede boot --print --json` prints: how devices are held back from the start, and what is wrong today."""

    exit: Exit


@click.command("boot")
@policy_option
@json_option
@click.option(
    "--plan", "--dry-run", "only_plan", is_flag=True,
    help="Only show what `cede boot` would do. Exit status 4 if there is something to do.",
)  # fmt: skip
@click.option(
    "--print", "printed", is_flag=True,
    help="Print the files and the kernel command line that bind even earlier, and what is wrong with the present "
    "ones. Exit status 4, 3 or 1 if something is wrong.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
    help="How long to wait for devices that have not appeared yet, and for another running cede.",
)  # fmt: skip
@click.option(
    "--limit", type=click.FloatRange(min=1), default=60.0, show_default=True, metavar="SECONDS",
    help="Begin no further action after this time.",
)  # fmt: skip
@click.pass_obj
def boot_command(
    caller: Caller,
    policy: str,
    as_json: bool,
    only_plan: bool,
    printed: bool,
    wait: float,
    limit: float,
) -> int:
    """Bind the policy's devices to pciback early in dom0's boot, before libvirtd starts guests that need them.

    Asks neither libvirt nor xenstore. Never binds what dom0 uses. Before dom0 has a default route, which shows what
    dom0 needs for its network, binds only what cede had bound before. Meant for cede-boot.service.
    """
    if only_plan and printed:
        raise UsageError(
            "--plan and --print exclude each other",
            remedy="give one of them",
            name="conflicting-options",
        )
    session = session_here(caller, as_json=as_json)
    read = host_policy(path_of(policy), session.runtime)
    if printed:
        return _print(session.runtime, read, as_json=as_json)
    if only_plan:
        return _plan(session.runtime, read, as_json=as_json)
    with writing(session, "cede boot", wait, libvirt=LibvirtAccess.OFFLINE) as (adapters, context):
        done = bind(adapters, read, context, wait=wait, limit=limit)
    if not as_json:
        for decision in done.plan.decisions:
            if not isinstance(decision, Change):
                output.decision(decision)
    return show_report(done, as_json=as_json).exit


def _plan(runtime: Runtime, policy: Policy, *, as_json: bool) -> int:
    with runtime.adapters(LibvirtAccess.OFFLINE) as adapters:
        _, planned = replan(adapters, policy)
    if as_json:
        echo_json(dumps(PlanOutput(plan=planned)))
    else:
        output.plan(planned)
    return exit_status.of_plan(planned)


def _print(runtime: Runtime, policy: Policy, *, as_json: bool) -> int:
    with runtime.adapters(LibvirtAccess.OFFLINE) as adapters:
        early = early_boot(policy, observe_host(adapters), read_boot_configuration(adapters))
    code = exit_status.of_kinds(mistake.kind for mistake in early.mistakes)
    if as_json:
        files = BootOutput(
            exit=code,
            devices=early.devices,
            files=early.files,
            left_out=early.left_out,
            mistakes=early.mistakes,
        )
        echo_json(dumps(files))
    else:
        _show(early)
    return code


def _show(found: EarlyBoot) -> None:
    """Print the files to write, each with its purpose as a comment; then what is left out, and mistakes."""
    for file in found.files:
        echo(f"# {file.path}: {file.why}")
        for line in file.lines:
            echo(f"    {line}")
        if file.then:
            echo(f"#   then: {file.then}")
        echo()
    if found.files:
        echo(
            "# xen-pciback hides whatever card is at these addresses; `cede boot` checks each card's identity."
        )
    else:
        echo("# The policy assigns nothing that may be held back from dom0.")
    for refusal in found.left_out:
        echo(f"left out: {refusal.subject}: {refusal.reason}")
        echo(f"  remedy: {refusal.remedy}")
    for mistake in found.mistakes:
        echo(f"WRONG: {mistake.place} {mistake.what}")
        echo(f"  why: {mistake.why}")
        echo(f"  remedy: {mistake.remedy}")
