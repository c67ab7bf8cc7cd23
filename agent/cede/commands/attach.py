"""`cede attach`: give one device to one domain, once."""

from __future__ import annotations

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.output import show_report
from cede.commands.requests import AttachRequest
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.errors import UsageError
from cede.model.policy import Channel, When
from cede.policy.policy_files import host_policy_if_any
from cede.services import one_off
from cede.services.reconcile import apply


def perform(request: AttachRequest, session: Session) -> Answer:
    """Give the device to the domain, with the plan, the guards and the verification of an apply."""
    wanted = one_off.AttachRequest(
        device=request.device,
        domain=request.domain,
        permissive=request.permissive,
        when=When.NEXT_START if request.next_start else When.NOW,
        channel=_channel(request.verify),
    )
    command = f"cede attach {request.device} {request.domain}"
    with writing(session, command, request.wait) as (adapters, context):
        policy = host_policy_if_any(path_of(request.policy), session.runtime)
        targets, planned = one_off.plan_attach(adapters, policy, wanted)
        if not session.as_json:
            output.plan(planned)
        done = apply(adapters, targets, planned, context)
    return show_report(done, as_json=session.as_json)


def _channel(name: str) -> Channel | None:
    try:
        return Channel(name) if name else None
    except ValueError as error:
        raise UsageError(
            f"{name!r} is no channel to a guest",
            name="no-such-channel",
            remedy=f"name one of {', '.join(Channel)}",
        ) from error
