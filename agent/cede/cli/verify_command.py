"""`cede verify`: ask every guest again; on request with the whole checklist, and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import Runtime
from cede.cli.exit_status import Exit
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.output import show_checked
from cede.cli.screen import echo
from cede.cli.session import confirm, writing
from cede.errors import CedeError
from cede.policy.policy_files import host_policy
from cede.services.reconcile import replan, verify_all, verify_started
from cede.services.restart import restart
from cede.verifier.verify import explain_by_checklist

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.services.reconcile import Report


@click.command("verify")
@policy_option
@json_option
@click.option(
    "--explain", "explaining", is_flag=True,
    help="Show the whole path of each device as a checklist, each item with the command to see it with.",
)  # fmt: skip
@click.option(
    "--restart", "restarting", is_flag=True,
    help="Shut each guest that is in sync down, start it, and verify again. No guest is forced.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask before a restart, not even on a terminal.")
@wait_option
@click.pass_obj
def verify_command(
    runtime: Runtime,
    policy_path: Path | None,
    as_json: bool,
    explaining: bool,
    restarting: bool,
    yes: bool,
    seconds: float,
) -> int:
    """Show the status after asking every guest again. Exit status 4 if out of sync.

    With --restart, 75 if a guest does not shut down in time; that guest keeps running. What --explain finds missing
    only for the next boot of the host does not make an assignment out of sync.
    """
    policy = host_policy(policy_path, runtime)
    if restarting:
        return _after_restart(
            runtime, policy, seconds, as_json=as_json, explaining=explaining, yes=yes
        )
    with runtime.adapters() as adapters:
        targets, planned = replan(adapters, policy)
        found = verify_all(adapters, targets, planned)
        explained = explain_by_checklist(adapters, targets, found.checked) if explaining else ()
    return show_checked(found, as_json=as_json, explained=explained, conditions=found.conditions)


def _after_restart(
    runtime: Runtime, policy: Policy, seconds: float, *, as_json: bool, explaining: bool, yes: bool
) -> int:
    def shown(adapters: Adapters) -> tuple[str, ...]:
        targets, planned = replan(adapters, policy)
        names = tuple(d.name for d in _in_sync(targets, verify_all(adapters, targets, planned)))
        if names:
            echo(f"shut down and start: {', '.join(names)}")
        return names

    confirmed = confirm(runtime, shown, yes=yes or as_json)
    if confirmed.declined:
        echo("Nothing was restarted.")
        return Exit.OUT_OF_SYNC
    with writing(runtime, "cede verify --restart", seconds, as_json=as_json) as (adapters, context):
        targets, planned = replan(adapters, policy)
        found = verify_all(adapters, targets, planned)
        domains = _in_sync(targets, found)
        restarted: list[str] = []
        failed: CedeError | None = None
        names = [domain.name for domain in domains]
        confirmed.refuse_other(names)
        if names and confirmed.shown is None and not as_json:
            echo(f"shut down and start: {', '.join(names)}")
        for domain in domains:
            if context.stop.is_set():
                break
            try:
                restart(adapters, domain)
            except CedeError as error:  # what was found of the others must not be lost over this
                failed = failed or error
            else:
                restarted.append(domain.name)
        if restarted:
            targets, found = verify_started(adapters, policy)
        explained = (
            explain_by_checklist(adapters, targets, found.checked, restarted) if explaining else ()
        )
    return show_checked(
        found,
        as_json=as_json,
        explained=explained,
        restarted=tuple(restarted),
        failed=failed,
        conditions=found.conditions,
    )


def _in_sync(targets: Targets, found: Report) -> tuple[Domain, ...]:
    """Return the running domains whose assignments are all verified; no other domain is restarted."""
    domains: dict[str, Domain] = {}
    spared = set()
    for target, checks in zip(targets.each, found.checked, strict=True):
        domain = target.domain
        if domain is None or not domain.running:
            continue
        domains[domain.name] = domain
        if not checks.verified:
            spared.add(domain.name)
    return tuple(domain for name, domain in domains.items() if name not in spared)
