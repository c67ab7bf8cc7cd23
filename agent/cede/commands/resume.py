"""`cede resume`: end pauses and drains, and put back what they kept back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.exit_status import Exit
from cede.commands.output import show_report
from cede.commands.requests import ResumeRequest
from cede.commands.screen import echo
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.errors import UsageError
from cede.policy.policy_files import host_policy_if_any
from cede.services import maintenance

if TYPE_CHECKING:
    from cede.services.maintenance import MaintenancePlan


def perform(request: ResumeRequest, session: Session) -> Answer:
    """End the pauses and drains; a preview prints what would be put back alone."""
    target, runtime = request.target, session.runtime
    if target and request.host:
        raise UsageError(
            "cede resume takes a DOMAIN or DEVICE, or --host, not both", name="conflicting-options"
        )
    policy = host_policy_if_any(path_of(request.policy), runtime)
    if request.preview:
        with runtime.adapters() as adapters:
            planned = maintenance.plan_resume(adapters, policy, target, host_alone=request.host)
        _show(planned)
        return Answer(exit=Exit.OUT_OF_SYNC, digest=plan_digest(planned.plan.changes))
    command = f"cede resume {target}".strip()
    with writing(session, command, request.wait) as (adapters, context):
        planned = maintenance.plan_resume(adapters, policy, target, host_alone=request.host)
        if not (planned.pauses or planned.lifted or session.as_json):
            echo("Nothing is paused or drained.")
            return Answer(exit=Exit.OK)
        refuse_other(request.plan, planned.plan.changes)
        if not (request.plan or session.as_json):
            _show(planned)
        done = maintenance.resume(adapters, planned, context)
    return show_report(done, as_json=session.as_json)


def _show(planned: MaintenancePlan) -> None:
    for pause in planned.pauses:
        echo(f"{pause.target or 'everything'}: no longer {pause}")
    for one in planned.lifted:
        echo(f"{one.address}: no longer quarantined: {one.reason}")
    output.plan(planned.plan)
