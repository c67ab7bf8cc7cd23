"""`cede doctor`: what on this host would make passthrough fail, each with its remedy, and the harmless fixes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.exit_status import Exit
from cede.commands.requests import DoctorFixRequest, DoctorRequest
from cede.commands.screen import echo, echo_json
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.doctor.finding import Finding, Severity
from cede.errors import CedeError, UsageError
from cede.model.plan import Plan
from cede.model.policy import Policy
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy_if_any
from cede.services import diagnose
from cede.services.pass_report import ChangeOutcome, Report

if TYPE_CHECKING:
    from cede.model.plan import Outcome
    from cede.services.diagnose import Diagnosis

_MARK = {Severity.FATAL: "FATAL", Severity.WARNING: "warning", Severity.NOTE: "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOutput:
    """What `cede doctor --json` prints.

    `exit` is 1 if something makes passthrough fail, else 0; `findings` are the worst first, after --fix as they are
    then; `fix` is what --fix would do; `outcomes` are what --fix did, empty without it.
    """

    exit: Exit
    findings: tuple[Finding, ...]
    fix: Plan
    outcomes: tuple[ChangeOutcome, ...]


def perform(request: DoctorRequest | DoctorFixRequest, session: Session) -> Answer:
    """Print the findings, after a fix those that are left; a preview prints the plan of the fix alone."""
    if bool(request.device) is not bool(request.domain):
        raise UsageError(
            "cede doctor takes a DEVICE and a DOMAIN, or neither", name="missing-argument"
        )
    policy, no_policy = _policy(
        path_of(request.policy), session.runtime, needed=bool(request.domain)
    )
    asked = diagnose.DoctorRequest(
        device=request.device,
        domain=request.domain,
        policy=policy,
        no_policy=no_policy,
        log=request.log,
    )
    if isinstance(request, DoctorFixRequest) and not request.preview:
        return _fix(request, asked, session)
    with session.runtime.adapters(LibvirtAccess.OPTIONAL) as adapters:
        found = diagnose.diagnose(adapters, asked, is_root=session.runtime.is_root)
    if isinstance(request, DoctorRequest):
        return _show(found, (), as_json=session.as_json)
    if found.fix.changes:
        output.plan(found.fix)
    return Answer(
        exit=Exit.FAILED if found.fatal else Exit.OK, digest=plan_digest(found.fix.changes)
    )


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


def _fix(request: DoctorFixRequest, asked: diagnose.DoctorRequest, session: Session) -> Answer:
    about = f" {request.device} {request.domain}" if request.domain else ""
    is_root = session.runtime.is_root
    with writing(
        session, f"cede doctor{about} --fix", request.wait, libvirt=LibvirtAccess.OPTIONAL
    ) as (adapters, context):
        found = diagnose.diagnose(adapters, asked, is_root=is_root)
        if not found.fix.changes:
            if not session.as_json:
                echo("There is nothing for --fix to do.")
            return _show(found, (), as_json=session.as_json)
        refuse_other(request.plan, found.fix.changes)
        if not (request.plan or session.as_json):
            output.plan(found.fix)
        outcomes = diagnose.fix(adapters, found, context)
        found = diagnose.diagnose(adapters, asked, is_root=is_root)
    return _show(found, outcomes, as_json=session.as_json)


def _show(found: Diagnosis, outcomes: tuple[Outcome, ...], *, as_json: bool) -> Answer:
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
        return Answer(exit=code)
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
    return Answer(exit=code)
