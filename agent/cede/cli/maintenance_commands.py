"""The commands for maintenance: pause, resume, drain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import duration, json_option, policy_option, wait_option, yes_option
from cede.cli.output import show_report
from cede.cli.outputs import PauseOutput
from cede.cli.screen import echo, echo_json
from cede.cli.session import confirm, writing
from cede.errors import UsageError
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy_if_any
from cede.services import maintenance
from cede.services.reconcile import RequestContext
from cede.util.text import one_line

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.plan import Change
    from cede.services.maintenance import MaintenancePlan


def _one_line(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return `value` as one line without control characters: other terminals show it later."""
    return one_line(" ".join(value.split()))


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
        policy = host_policy_if_any(policy_path, runtime)
        made = maintenance.pause(adapters, policy, target, context, reason=reason, seconds=lasting)
        now = adapters.journal.load_state().pauses
    if as_json:
        echo_json(dumps(PauseOutput(pauses=now)))
    else:
        echo(f"{target}: {made}")
    return Exit.OK


@click.command("resume")
@click.argument("target", metavar="[DOMAIN|DEVICE]", default="")
@click.option(
    "--host", "host_alone", is_flag=True,
    help="End the drain of the whole host alone, not what was paused or drained by name.",
)  # fmt: skip
@yes_option
@policy_option
@json_option
@wait_option
@click.pass_obj
def resume_command(
    runtime: Runtime,
    target: str,
    host_alone: bool,
    yes: bool,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """End a pause or a drain: put back what was drained, and what drifted meanwhile as `on_drift` says.

    Without DOMAIN or DEVICE, end all pauses and drains.
    """
    if target and host_alone:
        raise UsageError(
            "cede resume takes a DOMAIN or DEVICE, or --host, not both", name="conflicting-options"
        )
    policy = host_policy_if_any(policy_path, runtime)

    def shown(adapters: Adapters) -> tuple[Change, ...]:
        planned = maintenance.plan_resume(adapters, policy, target, host_alone=host_alone)
        _show_resume(planned)
        return planned.plan.changes

    confirmed = confirm(runtime, shown, yes=yes or as_json)
    if confirmed.declined:
        echo("Nothing was changed.")
        return Exit.OUT_OF_SYNC
    with writing(runtime, f"cede resume {target}".strip(), seconds, as_json=as_json) as (
        adapters,
        context,
    ):
        planned = maintenance.plan_resume(adapters, policy, target, host_alone=host_alone)
        if not planned.pauses and not as_json:
            echo("Nothing is paused or drained.")
            return Exit.OK
        confirmed.refuse_other(planned.plan.changes)
        if confirmed.shown is None and not as_json:
            _show_resume(planned)
        done = maintenance.resume(adapters, planned, context)
    return show_report(done, as_json=as_json)


def _show_resume(planned: MaintenancePlan) -> None:
    for pause in planned.pauses:
        echo(f"{pause.target or 'everything'}: no longer {pause}")
    output.plan(planned.plan)


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
    """Take ceded devices out of their guests and return them to dom0, for maintenance, until `cede resume`.

    Without DOMAIN or DEVICE, all of them: before a reboot of the host, a suspend, a firmware update. The next `cede
    drain` or the next pass continues a drain that was interrupted.
    """
    policy = host_policy_if_any(policy_path, runtime)

    def shown(adapters: Adapters) -> tuple[Change, ...]:
        planned = maintenance.plan_drain(adapters, policy, target, RequestContext(), reason=reason)
        output.plan(planned.plan)
        return planned.plan.changes

    confirmed = confirm(runtime, shown, yes=yes or as_json)
    if confirmed.declined:
        echo("Nothing was changed.")
        return Exit.OUT_OF_SYNC
    with writing(runtime, f"cede drain {target}".strip(), seconds, as_json=as_json) as (
        adapters,
        context,
    ):
        planned = maintenance.plan_drain(adapters, policy, target, context, reason=reason)
        confirmed.refuse_other(planned.plan.changes)
        if confirmed.shown is None and not as_json:
            output.plan(planned.plan)
        done = maintenance.drain(adapters, planned, context)
    code = show_report(done, as_json=as_json)
    if not as_json:
        for change in planned.unassigned:
            echo(
                f"{change.subject}: no policy assigns the device, so `cede resume` does not put it back;"
                f" `cede attach {change.address} {change.domain}` does"
            )
    return code
