"""`cede apply`: make the host what the policy says."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import (
    json_option,
    policy_option,
    prune_option,
    scheduled_option,
    wait_option,
    yes_option,
)
from cede.cli.output import show_report
from cede.cli.screen import echo
from cede.cli.session import confirm, writing
from cede.policy.policy_files import host_policy
from cede.services.reconcile import carry_out_pass, replan
from cede.services.status import failures_recorded

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.plan import Change


@click.command("apply")
@policy_option
@json_option
@yes_option
@scheduled_option
@prune_option
@wait_option
@click.pass_obj
def apply_command(
    runtime: Runtime,
    policy_path: Path | None,
    as_json: bool,
    yes: bool,
    scheduled: bool,
    prune: bool,
    seconds: float,
) -> int:
    """Do what the policy says: bind, edit, hot-plug, retry, verify in the guest.

    A second run changes nothing and says so. A refused or failed assignment does not keep the others back. A device
    that another tool took out is put back, after the plan says so; what is paused or drained stays as it is.
    """
    with ExitStack() as stack:
        stack.enter_context(failures_recorded(runtime, policy_path))
        policy = host_policy(policy_path, runtime, prune=prune)

        def shown(adapters: Adapters) -> tuple[Change, ...]:
            _, planned = replan(adapters, policy, scheduled=scheduled)
            output.plan(planned)
            return planned.changes

        confirmed = confirm(runtime, shown, yes=yes or as_json)
        if confirmed.declined:
            echo("Nothing was changed.")
            return Exit.OUT_OF_SYNC
        adapters, context = stack.enter_context(
            writing(runtime, "cede apply", seconds, as_json=as_json)
        )
        targets, planned = replan(adapters, policy, scheduled=scheduled)
        confirmed.refuse_other(planned.changes)
        if confirmed.shown is None and not as_json:
            output.plan(planned)
        done = carry_out_pass(adapters, targets, planned, context)
    return show_report(done, as_json=as_json)
