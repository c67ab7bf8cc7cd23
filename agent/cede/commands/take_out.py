"""`cede detach` and `cede release`: take one device out of its guest."""

from __future__ import annotations

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.output import show_report
from cede.commands.requests import DetachRequest, ReleaseRequest
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off


def perform(request: DetachRequest | ReleaseRequest, session: Session) -> Answer:
    """Take the device out; a release returns it to dom0 too."""
    released = isinstance(request, ReleaseRequest)
    plan_for = one_off.plan_release if released else one_off.plan_detach
    command = f"cede {'release' if released else 'detach'} {request.device}"
    with writing(session, command, request.wait) as (adapters, context):
        planned = plan_for(
            adapters,
            lambda: host_policy_if_any(path_of(request.policy), session.runtime),
            request.device,
        )
        if not session.as_json:
            output.plan(planned.plan)
        done = one_off.take_out(adapters, planned, context)
    return show_report(done, as_json=session.as_json)
