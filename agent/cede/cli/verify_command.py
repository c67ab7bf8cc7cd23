"""`cede verify`: every guest is asked again; on request with the whole checklist, and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.composition import open_doors
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.report import show_checked
from cede.cli.session import agreed, writing
from cede.errors import CedeError, Exit
from cede.policy.policy_files import host_policy
from cede.services.reconcile import replan, stands, verify_all
from cede.services.restart import restart
from cede.verifier.verify import explain

if TYPE_CHECKING:
    from cede.adapters.composition import Doors
    from cede.model.domain import Domain
    from cede.model.plan import Plan
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.verifier.check_results import Checked


@click.command("verify")
@policy_option
@json_option
@click.option(
    "--explain", "explaining", is_flag=True,
    help="The whole way of each device as a checklist, each line with the command to see it with.",
)  # fmt: skip
@click.option(
    "--restart", "restarting", is_flag=True,
    help="Shut each guest that is in step down, start it, and verify again. Nothing is forced.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask before a restart, not even on a terminal.")
@wait_option
@click.pass_obj
def verify_command(
    uri: str,
    policy_path: Path | None,
    as_text: bool,
    explaining: bool,
    restarting: bool,
    yes: bool,
    seconds: float,
) -> int:
    """Like status, and ask every guest again. Exit status 4 if out of step.

    With --restart, 75 if a guest doesn't shut down in time: it is left running. What --explain finds missing for the
    next boot of the host alone doesn't make an assignment out of step.
    """
    policy = host_policy(policy_path)
    if restarting:
        return _after_restart(uri, policy, seconds, as_text=as_text, explaining=explaining, yes=yes)
    with open_doors(uri) as doors:
        targets, planned = replan(doors, policy)
        found = verify_all(doors, targets, planned)
        explained = explain(doors, targets, found) if explaining else ()
        conditions = stands(doors, targets, planned, found)
    return show_checked(found, as_text=as_text, explained=explained, conditions=conditions)


def _after_restart(
    uri: str, policy: Policy, seconds: float, *, as_text: bool, explaining: bool, yes: bool
) -> int:
    with writing(uri, "cede verify --restart", seconds, as_text=as_text) as (doors, behalf):
        targets, planned = replan(doors, policy)
        found = verify_all(doors, targets, planned)
        domains = _in_step(targets, found)
        restarted: list[str] = []
        failed: CedeError | None = None
        if domains:
            names = ", ".join(domain.name for domain in domains)
            if not as_text:
                click.echo(f"shut down and start: {names}")
            if not agreed(yes=yes or as_text):
                click.echo("Nothing was restarted.")
                return Exit.OUT_OF_STEP
        for domain in domains:
            if behalf.stop.is_set():
                break
            try:
                restart(doors, domain)
            except CedeError as error:  # what was found of the others must not be lost over this
                failed = failed or error
            else:
                restarted.append(domain.name)
        if restarted:
            targets, planned, found = _again(doors, policy)
        explained = explain(doors, targets, found, restarted) if explaining else ()
        conditions = stands(doors, targets, planned, found)
    return show_checked(
        found,
        as_text=as_text,
        explained=explained,
        restarted=tuple(restarted),
        failed=failed,
        conditions=conditions,
    )


def _again(doors: Doors, policy: Policy) -> tuple[Targets, Plan, tuple[Checked, ...]]:
    found = verify_all(doors, *replan(doors, policy), booting=True)
    return *replan(doors, policy), found


def _in_step(targets: Targets, found: tuple[Checked, ...]) -> tuple[Domain, ...]:
    """The running domains of which every assignment is proven; no other one is restarted for a proof."""
    domains: dict[str, Domain] = {}
    spared = set()
    for target, one in zip(targets.each, found, strict=True):
        domain = target.domain
        if domain is None or not domain.running:
            continue
        domains[domain.name] = domain
        if not one.proven:
            spared.add(domain.name)
    return tuple(domain for name, domain in domains.items() if name not in spared)
