"""`cede plan`: what `cede apply` would do."""

from __future__ import annotations

from pathlib import Path

import click

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.cli import exit_status, output
from cede.cli.options import json_option, policy_option, prune_option, scheduled_option
from cede.cli.outputs import PlanOutput
from cede.cli.screen import echo_json
from cede.domain_xml.edits import EDITS
from cede.errors import UsageError
from cede.model.serialization import dumps
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy.policy_files import host_policy
from cede.services.observe import read_inventory
from cede.services.reconcile import replan


@click.command("plan")
@policy_option
@json_option
@scheduled_option
@prune_option
@click.option(
    "--diff", is_flag=True, help="Show how the persistent XML of each domain would change."
)
@click.option(
    "--host", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Plan for the host that `cede devices --save` saved in FILE.",
)  # fmt: skip
@click.pass_obj
def plan_command(
    runtime: Runtime,
    policy_path: Path | None,
    as_json: bool,
    scheduled: bool,
    prune: bool,
    diff: bool,
    file: Path | None,
) -> int:
    """Show what `cede apply` would do, and why. Changes nothing.

    Exit status 4 if there is something to do.
    """
    policy = host_policy(policy_path, runtime, prune=prune)
    if file is not None and diff:
        raise UsageError(
            "--diff needs the domains' XML, which a saved host does not have",
            name="conflicting-options",
        )
    before: dict[str, str] = {}
    if file is not None:
        targets = resolve_targets(policy, read_inventory(file))
        planned = plan(targets, scheduled=scheduled)
    else:
        # no plan is made of less than the whole host
        access = LibvirtAccess.OPTIONAL if runtime.recorded else LibvirtAccess.REQUIRED
        with runtime.adapters(access) as adapters:
            _, planned = replan(adapters, policy, scheduled=scheduled)
            if diff:
                names = dict.fromkeys(
                    action.domain for action in planned.actions if isinstance(action, EDITS)
                )
                before = {name: adapters.libvirt.persistent_xml(name) for name in names}
    if as_json:
        echo_json(dumps(PlanOutput(plan=planned)))
    else:
        output.plan(planned)
        output.xml_diff(planned, before)
    return exit_status.of_plan(planned)
