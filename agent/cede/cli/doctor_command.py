"""`cede doctor`: what on this host would make passthrough fail, each with its remedy, and the harmless fixes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.outputs import DoctorOutput
from cede.cli.session import confirm, writing
from cede.doctor import diagnosis
from cede.doctor.finding import Severity, worst_first
from cede.errors import UsageError
from cede.model.policy import Channel, When
from cede.model.serialization import dumps
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.collect_facts import collect_facts
from cede.services.outputs import ChangeOutcome
from cede.services.reconcile import Report, carry_out

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.doctor.facts import Facts
    from cede.doctor.finding import Finding
    from cede.model.outcome import Outcome

_MAX_BYTES = 1024 * 1024
_MARK = {Severity.FATAL: "FATAL", Severity.WARNING: "warning", Severity.NOTE: "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What to examine: the host; with a device and a domain, that pair too; and the log of a guest."""

    device: str = ""
    domain: str = ""
    policy: Path | None = None
    log: tuple[str, ...] = ()


@click.command("doctor")
@click.argument("device", metavar="[DEVICE", default="")
@click.argument("domain", metavar="DOMAIN]", default="")
@click.option(
    "--fix", is_flag=True, help="Fix what is harmless to fix, by a plan that is shown first."
)
@click.option("--yes", is_flag=True, help="With --fix, don't ask before the first step.")
@click.option(
    "--guest-log", "log", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
    help="Also examine the guest's dmesg, and its /proc/interrupts if you like; - reads them from a pipe.",
)  # fmt: skip
@policy_option
@json_option
@wait_option
@click.pass_obj
def doctor_command(
    runtime: Runtime,
    device: str,
    domain: str,
    fix: bool,
    yes: bool,
    log: Path | None,
    policy_path: Path | None,
    as_json: bool,
    seconds: float,
) -> int:
    """Say what on this host would make passthrough fail, why, and how to fix it.

    With DEVICE and DOMAIN, also say what stands against giving that device to that domain, before anything is tried.
    Where libvirt or xenstore does not answer, or without root, the doctor examines what it can.

    Exit status 1 if something would make passthrough fail; after --fix too, as long as a guest must be restarted first.
    """
    if bool(device) is not bool(domain):
        raise UsageError(
            "cede doctor takes a DEVICE and a DOMAIN, or neither", name="missing-argument"
        )
    if log is not None and not domain:
        raise UsageError(
            "--guest-log needs the DEVICE and the DOMAIN that wrote the log",
            name="missing-argument",
        )
    request = DoctorRequest(
        device=device, domain=domain, policy=policy_path, log=() if log is None else _lines(log)
    )
    if fix:
        return _fix(runtime, request, seconds, yes=yes, as_json=as_json)
    with runtime.adapters(LibvirtAccess.OPTIONAL) as adapters:
        facts, findings = _diagnosed(runtime, adapters, request)
    return _show(facts, findings, (), as_json=as_json)


def _fix(
    runtime: Runtime, request: DoctorRequest, seconds: float, *, yes: bool, as_json: bool
) -> int:
    about = f" {request.device} {request.domain}" if request.domain else ""
    with writing(
        runtime,
        f"cede doctor{about} --fix",
        seconds,
        as_json=as_json,
        libvirt=LibvirtAccess.OPTIONAL,
    ) as (adapters, context):
        facts, findings = _diagnosed(runtime, adapters, request)
        planned = diagnosis.fix_plan(findings, facts.inventory)
        if not planned.changes:
            if not as_json:
                click.echo("There is nothing for --fix to do.")
            return _show(facts, findings, (), as_json=as_json)
        if not as_json:
            output.plan(planned)
        if not confirm(yes=yes or as_json):
            click.echo("Nothing was changed.")
            return Exit.FAILED if diagnosis.fatal(findings) else Exit.OK
        outcomes = carry_out(adapters, facts.inventory, planned, context)
        facts, findings = _diagnosed(runtime, adapters, request)
    return _show(facts, findings, outcomes, as_json=as_json)


def _diagnosed(
    runtime: Runtime, adapters: Adapters, request: DoctorRequest
) -> tuple[Facts, tuple[Finding, ...]]:
    """Collect the facts and apply the rules. Raises UsageError for a name that does not exist."""
    facts = collect_facts(adapters, is_root=runtime.is_root)
    if not request.domain:
        return facts, diagnosis.of_host(facts)
    if not facts.complete:
        return facts, diagnosis.of_host(facts)  # which domain has which device is unknown
    inventory = facts.inventory
    domain = inventory.domain(request.domain)
    if domain is None:
        raise UsageError(
            f"libvirt knows no domain {request.domain}",
            name="no-such-domain",
            remedy="`virsh list --all` lists the domains",
        )
    policy = one_off.policy(
        host_policy_if_any(request.policy, runtime.paths), request.device, request.domain, inventory,
        permissive=False, when=When.NOW, channel=Channel.NONE,
    )  # fmt: skip
    targets = resolve_targets(policy, inventory)
    planned = one_off.plan_of_assignment(plan(targets), policy)
    findings = diagnosis.of_pair(
        facts, f"{request.device} -> {request.domain}", domain, targets, planned
    )
    return facts, worst_first([*findings, *diagnosis.of_guest(request.log, domain)])


def _lines(path: Path) -> tuple[str, ...]:
    """Read the lines of a guest's log, at most 1 MiB. Raises UsageError if the file can't be read."""
    try:
        with click.open_file(str(path), "rb") as file:
            said: bytes = file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", name="file-unreadable"
        ) from error
    return tuple(said.decode("utf-8", "replace").splitlines())


def _show(
    facts: Facts, found: tuple[Finding, ...], outcomes: tuple[Outcome, ...], *, as_json: bool
) -> int:
    failed = any(outcome.error is not None for outcome in outcomes)
    code = Exit.FAILED if failed or diagnosis.fatal(found) else Exit.OK
    if as_json:
        click.echo(
            dumps(
                DoctorOutput(
                    exit=code,
                    findings=found,
                    fix=diagnosis.fix_plan(found, facts.inventory),
                    outcomes=ChangeOutcome.of(outcomes),
                )
            )
        )
        return code
    if outcomes:
        output.report(Report(plan=diagnosis.fix_plan((), facts.inventory), outcomes=outcomes))
    for finding in found:
        click.echo(
            f"[{_MARK[finding.severity]}] {finding.subject}: {finding.what} ({finding.name})"
        )
        click.echo(f"  why: {finding.why}")
        click.echo(
            f"  remedy: {finding.remedy}"
            + (" (`cede doctor --fix` does this)" if finding.actions else "")
        )
        click.echo(f"  source: {finding.source}")
    if not diagnosis.fatal(found):
        seen = "" if facts.is_root else "; without root it sees less"
        click.echo(f"cede found nothing that would make passthrough fail{seen}.")
    return code
