"""`cede drain`: return ceded devices to dom0 for maintenance."""

from __future__ import annotations

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.exit_status import Exit
from cede.commands.output import show_report
from cede.commands.pause import reason_of
from cede.commands.requests import DrainRequest
from cede.commands.screen import echo
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.policy.policy_files import host_policy_if_any
from cede.services import maintenance
from cede.services.reconcile import RequestContext


def perform(request: DrainRequest, session: Session) -> Answer:
    """Take the devices out and return them; a preview prints the plan alone."""
    target, reason, runtime = request.target, reason_of(request.reason), session.runtime
    policy = host_policy_if_any(path_of(request.policy), runtime)
    if request.preview:
        with runtime.adapters() as adapters:
            planned = maintenance.plan_drain(
                adapters, policy, target, RequestContext(), reason=reason
            )
        output.plan(planned.plan)
        return Answer(exit=Exit.OUT_OF_SYNC, digest=plan_digest(planned.plan.changes))
    command = f"cede drain {target}".strip()
    with writing(session, command, request.wait) as (adapters, context):
        planned = maintenance.plan_drain(adapters, policy, target, context, reason=reason)
        refuse_other(request.plan, planned.plan.changes)
        if not (request.plan or session.as_json):
            output.plan(planned.plan)
        done = maintenance.drain(adapters, planned, context)
    answer = show_report(done, as_json=session.as_json)
    if not session.as_json:
        for change in planned.unassigned:
            echo(
                f"{change.subject}: no policy assigns the device, so `cede resume` does not put it back;"
                f" `cede attach {change.address} {change.domain}` does"
            )
    return answer
