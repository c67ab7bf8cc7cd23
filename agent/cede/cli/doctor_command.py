"""`cede doctor`: what on this host would make passthrough fail, each with its remedy, and the harmless cures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.cli import output
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.report import told_outcomes
from cede.cli.session import agreed, doors_as_they_are, writing
from cede.doctor import diagnosis
from cede.doctor.finding import Severity, worst_first
from cede.errors import Exit, UsageError
from cede.model import serialization
from cede.model.policy import Channel, When
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.collect_facts import examine
from cede.services.reconcile import Report, carry_out

if TYPE_CHECKING:
    from cede.adapters.composition import Doors
    from cede.doctor.facts import Facts
    from cede.doctor.finding import Finding
    from cede.executor.executor import Outcome

_MOST_BYTES = 1024 * 1024
_MARK = {Severity.FATAL: "FATAL", Severity.WARNING: "warning", Severity.NOTE: "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the doctor is asked about: the host, or with a device and a domain that pair too; a guest's log besides."""

    device: str = ""
    domain: str = ""
    policy: Path | None = None
    log: tuple[str, ...] = ()


@click.command("doctor")
@click.argument("device", metavar="[DEVICE", default="")
@click.argument("domain", metavar="DOMAIN]", default="")
@click.option(
    "--fix", is_flag=True, help="Cure what is harmless to cure, by a plan that is shown first."
)
@click.option("--yes", is_flag=True, help="With --fix, don't ask before the first step.")
@click.option(
    "--guest-log", "log", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
    help="The guest's dmesg, and its /proc/interrupts if you like, to be looked at too; - reads it from a pipe.",
)  # fmt: skip
@policy_option
@json_option
@wait_option
@click.pass_obj
def doctor_command(
    uri: str,
    device: str,
    domain: str,
    fix: bool,
    yes: bool,
    log: Path | None,
    policy_path: Path | None,
    as_text: bool,
    seconds: float,
) -> int:
    """Tell what on this host would make passthrough fail, why, and what cures it.

    With DEVICE and DOMAIN also what stands against giving that device to that domain, before anything is tried. It
    looks as far as it gets where libvirt or xenstore don't answer, and as others than root.

    Exit status 1 if something would make passthrough fail, also after --fix as long as a guest must be restarted first.
    """
    if bool(device) is not bool(domain):
        raise UsageError("cede doctor takes a DEVICE and a DOMAIN, or neither")
    if log is not None and not domain:
        raise UsageError("--guest-log needs DEVICE and DOMAIN: whose log is it?")
    asked = Asked(
        device=device, domain=domain, policy=policy_path, log=() if log is None else _lines(log)
    )
    if fix:
        return _fix(uri, asked, seconds, yes=yes, as_text=as_text)
    with doors_as_they_are(uri) as doors:
        facts, found = _diagnosed(doors, asked)
    return _show(facts, found, (), as_text=as_text)


def _fix(uri: str, asked: Asked, seconds: float, *, yes: bool, as_text: bool) -> int:
    about = f" {asked.device} {asked.domain}" if asked.domain else ""
    with writing(uri, f"cede doctor{about} --fix", seconds, as_text=as_text, all_needed=False) as (
        doors,
        behalf,
    ):
        facts, found = _diagnosed(doors, asked)
        planned = diagnosis.cure(found, facts.inventory)
        if not planned.work:
            if not as_text:
                click.echo("There is nothing for --fix to do.")
            return _show(facts, found, (), as_text=as_text)
        if not as_text:
            output.plan(planned)
        if not agreed(yes=yes or as_text):
            click.echo("Nothing was changed.")
            return Exit.FAILED if diagnosis.fatal(found) else Exit.OK
        outcomes = carry_out(doors, facts.inventory, planned, behalf)
        facts, found = _diagnosed(doors, asked)
    return _show(facts, found, outcomes, as_text=as_text)


def _diagnosed(doors: Doors, asked: Asked) -> tuple[Facts, tuple[Finding, ...]]:
    """What was seen, and what the rules say of it. Raises UsageError for a name that isn't there."""
    facts = examine(doors)
    if not asked.domain:
        return facts, diagnosis.of_host(facts)
    if not facts.complete:
        return facts, diagnosis.of_host(facts)  # who has what can't be told
    inventory = facts.inventory
    domain = inventory.domain(asked.domain)
    if domain is None:
        raise UsageError(
            f"libvirt knows no domain {asked.domain}",
            remedy="`virsh list --all` lists those it knows",
        )
    policy = one_off.policy(
        host_policy_if_any(asked.policy), asked.device, asked.domain, inventory,
        permissive=False, when=When.NOW, channel=Channel.NONE,
    )  # fmt: skip
    targets = resolve_targets(policy, inventory)
    planned = one_off.only(plan(targets), policy)
    found = diagnosis.of_pair(facts, f"{asked.device} -> {asked.domain}", domain, targets, planned)
    return facts, worst_first([*found, *diagnosis.of_guest(asked.log, domain)])


def _lines(path: Path) -> tuple[str, ...]:
    """The lines of a guest's log, as much as is worth reading; raises UsageError if it can't be read."""
    try:
        with click.open_file(str(path), "rb") as file:
            said: bytes = file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    return tuple(said.decode("utf-8", "replace").splitlines())


def _show(
    facts: Facts, found: tuple[Finding, ...], outcomes: tuple[Outcome, ...], *, as_text: bool
) -> int:
    failed = any(outcome.error is not None for outcome in outcomes)
    code = Exit.FAILED if failed or diagnosis.fatal(found) else Exit.OK
    if as_text:
        click.echo(
            serialization.dumps(
                exit=code,
                findings=found,
                cure=diagnosis.cure(found, facts.inventory),
                outcomes=told_outcomes(outcomes),
            )
        )
        return code
    if outcomes:
        output.report(Report(plan=diagnosis.cure((), facts.inventory), outcomes=outcomes))
    for one in found:
        click.echo(f"[{_MARK[one.severity]}] {one.subject}: {one.what} ({one.name})")
        click.echo(f"  why: {one.why}")
        click.echo(
            f"  remedy: {one.remedy}" + (" (cede doctor --fix does it)" if one.steps else "")
        )
        click.echo(f"  source: {one.source}")
    if not diagnosis.fatal(found):
        seen = "" if facts.is_root else ", as far as others than root can see"
        click.echo(f"Nothing was found that would make passthrough fail{seen}.")
    return code
