"""The `cede` command."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from cede import __version__, encoding
from cede.cli import screens, snapshot
from cede.cli.boot import boot_command
from cede.cli.devices import devices_command
from cede.cli.doctor import doctor_command
from cede.cli.history import history_command
from cede.cli.import_policy import import_command
from cede.cli.pause import drain_command, pause_command, resume_command
from cede.cli.run import run_command
from cede.cli.shared import (
    agreed,
    failures_recorded,
    host_policy,
    json_option,
    policy_option,
    show_report,
    wait_option,
    writing,
    yes_option,
)
from cede.cli.status import status_command
from cede.cli.take import attach_command, detach_command, release_command
from cede.cli.verify import verify_command
from cede.doors import open_doors
from cede.edits import EDITS
from cede.errors import CedeError, Exit, UsageError
from cede.plan.planner import plan
from cede.plan.steps import Plan
from cede.reconcile import one_pass, replan, worst

DEFAULT_URI = "xen:///system"
_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cede")
@click.option(
    "-c", "--connect", "uri", metavar="URI",
    default=lambda: os.environ.get("LIBVIRT_DEFAULT_URI") or DEFAULT_URI,
    help=f"libvirt's Xen driver, as for virsh. [default: $LIBVIRT_DEFAULT_URI or {DEFAULT_URI}]",
)  # fmt: skip
@click.pass_context
def cli(context: click.Context, uri: str) -> None:
    """Give PCI devices to Xen guests and get them back, safely and with proof.

    Exit status: 0 done or in step; 1 failed; 2 the command line or a file is wrong; 3 refused as unsafe; 4 out of
    step; 75 try again later.
    """
    context.obj = uri


scheduled_option = click.option(
    "--scheduled", is_flag=True,
    help="As the timer and the daemon do it: what somebody else took out is put back only where `on_drift` says"
    " `restore`. Without it a person asks, and it is restored in any case.",
)  # fmt: skip


@cli.command("plan")
@policy_option
@json_option
@scheduled_option
@click.option(
    "--diff", is_flag=True, help="Show how the persistent XML of each domain would change."
)
@click.option(
    "--host", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Plan for the host that was saved in FILE instead of this one.",
)  # fmt: skip
@click.pass_obj
def plan_command(
    uri: str,
    policy_path: Path | None,
    as_text: bool,
    scheduled: bool,
    diff: bool,
    file: Path | None,
) -> int:
    """Show what apply would do, and why. Touches nothing.

    Exit status 4 if there is something to do.
    """
    policy = host_policy(policy_path)
    if file is not None and diff:
        raise UsageError("a saved host holds no XML to show a --diff of")
    before: dict[str, str] = {}
    if file is not None:
        planned = plan(policy, snapshot.read(file), scheduled=scheduled)
    else:
        with open_doors(uri) as doors:
            _, planned = replan(doors, policy, scheduled=scheduled)
            if diff:
                names = dict.fromkeys(
                    step.domain for step in planned.steps if isinstance(step, EDITS)
                )
                before = {name: doors.libvirt.persistent_xml(name) for name in names}
    if as_text:
        click.echo(encoding.dumps(plan=planned))
    else:
        screens.plan(planned)
        screens.xml_diff(planned, before)
    waiting = any(noop.pending for noop in planned.noops)
    return worst(
        [
            *(refusal.exit for refusal in planned.refusals),
            Exit.OUT_OF_STEP if planned.work else Exit.OK,
            Exit.TRY_LATER if waiting and not planned.work else Exit.OK,
            Exit.OUT_OF_STEP if any(noop.drifted for noop in planned.noops) else Exit.OK,
        ]
    )


@cli.command("apply")
@policy_option
@json_option
@yes_option
@scheduled_option
@wait_option
@click.pass_obj
def apply_command(
    uri: str, policy_path: Path | None, as_text: bool, yes: bool, scheduled: bool, seconds: float
) -> int:
    """Do what the policy wants: seize, edit, hot-plug, retry, verify in the guest.

    Run again, it does nothing and says so. An assignment that is refused or fails does not keep the others back. What
    somebody else took out is put back, after the plan said so; what is paused or drained stays as it is.
    """
    with ExitStack() as stack:
        stack.enter_context(failures_recorded(policy_path))
        policy = host_policy(policy_path)
        doors, behalf = stack.enter_context(writing(uri, "cede apply", seconds, as_text=as_text))

        def reviewed(planned: Plan) -> Plan:
            if not as_text:
                screens.plan(planned)
            if planned.work and not agreed(yes=yes or as_text):
                click.echo("Nothing was changed.")
                raise click.exceptions.Exit(Exit.OUT_OF_STEP)
            return planned

        done = one_pass(doors, policy, replace(behalf, scheduled=scheduled), review=reviewed)
    show_report(done, as_text=as_text)
    return done.exit


for command in (
    devices_command,
    doctor_command,
    import_command,
    status_command,
    verify_command,
    attach_command,
    detach_command,
    release_command,
    boot_command,
    pause_command,
    resume_command,
    drain_command,
    history_command,
    run_command,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.Abort:
        click.echo("\ncede: interrupted; `cede plan` shows what is left to do", err=True)
        code = _INTERRUPTED
    except click.ClickException as wrong:
        wrong.show()
        code = Exit.USAGE
    except CedeError as failed:
        screens.error(failed)
        code = failed.exit
    sys.exit(int(code or 0))
