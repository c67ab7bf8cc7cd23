"""`cede doctor`: what on this host would make passthrough fail, each with its remedy, and the harmless fixes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.cli import output
from cede.cli.exit_status import Exit
from cede.cli.options import json_option, policy_option, wait_option
from cede.cli.outputs import DoctorOutput
from cede.cli.screen import echo, echo_json
from cede.cli.session import confirm, writing
from cede.doctor.finding import Severity
from cede.errors import CedeError, UsageError
from cede.model.plan import Plan
from cede.model.policy import Policy
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy_if_any
from cede.services import diagnose
from cede.services.diagnose import DoctorRequest
from cede.services.outputs import ChangeOutcome
from cede.services.reconcile import Report

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.plan import Change, Outcome
    from cede.services.diagnose import Diagnosis

_MAX_BYTES = 1024 * 1024
_MARK = {Severity.FATAL: "FATAL", Severity.WARNING: "warning", Severity.NOTE: "note"}


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
    policy, no_policy = _policy(policy_path, runtime, needed=bool(domain))
    request = DoctorRequest(
        device=device,
        domain=domain,
        policy=policy,
        no_policy=no_policy,
        log=() if log is None else _lines(log),
    )
    if fix:
        return _fix(runtime, request, seconds, yes=yes, as_json=as_json)
    with runtime.adapters(LibvirtAccess.OPTIONAL) as adapters:
        found = diagnose.diagnose(adapters, request, is_root=runtime.is_root)
    return _show(found, (), as_json=as_json)


def _policy(
    path: Path | None, runtime: Runtime, *, needed: bool
) -> tuple[Policy, CedeError | None]:
    """Read the host's policy; where it isn't `needed`, why it can't be read is a finding like others."""
    try:
        return host_policy_if_any(path, runtime), None
    except CedeError as error:
        if needed:
            raise
        return Policy(), error


def _fix(
    runtime: Runtime, request: DoctorRequest, seconds: float, *, yes: bool, as_json: bool
) -> int:
    about = f" {request.device} {request.domain}" if request.domain else ""
    fatal = False

    def shown(adapters: Adapters) -> tuple[Change, ...]:
        nonlocal fatal
        found = diagnose.diagnose(adapters, request, is_root=runtime.is_root)
        fatal = bool(found.fatal)
        if found.fix.changes:
            output.plan(found.fix)
        return found.fix.changes

    confirmed = confirm(runtime, shown, yes=yes or as_json, libvirt=LibvirtAccess.OPTIONAL)
    if confirmed.declined:
        echo("Nothing was changed.")
        return Exit.FAILED if fatal else Exit.OK
    with writing(
        runtime,
        f"cede doctor{about} --fix",
        seconds,
        as_json=as_json,
        libvirt=LibvirtAccess.OPTIONAL,
    ) as (adapters, context):
        found = diagnose.diagnose(adapters, request, is_root=runtime.is_root)
        if not found.fix.changes:
            if not as_json:
                echo("There is nothing for --fix to do.")
            return _show(found, (), as_json=as_json)
        confirmed.refuse_other(found.fix.changes)
        if confirmed.shown is None and not as_json:
            output.plan(found.fix)
        outcomes = diagnose.fix(adapters, found, context)
        found = diagnose.diagnose(adapters, request, is_root=runtime.is_root)
    return _show(found, outcomes, as_json=as_json)


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


def _show(found: Diagnosis, outcomes: tuple[Outcome, ...], *, as_json: bool) -> int:
    failed = any(outcome.error is not None for outcome in outcomes)
    code = Exit.FAILED if failed or found.fatal else Exit.OK
    if as_json:
        echo_json(
            dumps(
                DoctorOutput(
                    exit=code,
                    findings=found.findings,
                    fix=found.fix,
                    outcomes=ChangeOutcome.of(outcomes),
                )
            )
        )
        return code
    if outcomes:
        output.report(Report.of(Plan(), outcomes))
    for finding in found.findings:
        echo(f"[{_MARK[finding.severity]}] {finding.subject}: {finding.what} ({finding.name})")
        echo(f"  why: {finding.why}")
        echo(
            f"  remedy: {finding.remedy}"
            + (" (`cede doctor --fix` does this)" if finding.actions else "")
        )
        echo(f"  source: {finding.source}")
    if not found.fatal:
        seen = "" if found.facts.is_root else "; without root it sees less"
        echo(f"cede found nothing that would make passthrough fail{seen}.")
    return code
