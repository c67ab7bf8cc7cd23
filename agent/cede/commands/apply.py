"""`cede apply`: make the host what the policy says."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.exit_status import Exit
from cede.commands.output import show_report
from cede.commands.requests import ApplyRequest
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.errors import UsageError
from cede.model.policy import Restart
from cede.planner.restarts import NONE, Restarts
from cede.policy.policy_files import host_policy
from cede.services.reconcile import carry_out_pass, replan, scheduled_restarts
from cede.services.status import failures_recorded

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.plan import Plan
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.util.clock import Clock


def perform(request: ApplyRequest, session: Session) -> Answer:
    """Bind, edit, hot-plug, retry and verify; a preview prints the plan alone."""
    path, runtime = path_of(request.policy), session.runtime
    if request.force and not request.restart:
        raise UsageError("--force is about --restart alone", name="conflicting-options")
    with ExitStack() as stack:
        stack.enter_context(failures_recorded(runtime, path))
        policy = host_policy(path, runtime, prune=request.prune)
        if request.preview:
            with runtime.adapters() as adapters:
                _, planned = _replan(adapters, policy, request, runtime.clock)
            output.plan(planned)
            return Answer(exit=Exit.OUT_OF_SYNC, digest=plan_digest(planned.changes))
        adapters, context = stack.enter_context(writing(session, "cede apply", request.wait))
        targets, planned = _replan(adapters, policy, request, runtime.clock)
        refuse_other(request.plan, planned.changes)
        if not (request.plan or session.as_json):
            output.plan(planned)
        done = carry_out_pass(adapters, targets, planned, context)
    return show_report(done, as_json=session.as_json)


def _replan(
    adapters: Adapters, policy: Policy, request: ApplyRequest, clock: Clock
) -> tuple[Targets, Plan]:
    restarts = scheduled_restarts(policy, clock) if request.scheduled else NONE
    if request.restart:
        permitted = frozenset({Restart.WHEN_ASKED, Restart.ALLOWED})
        restarts = Restarts(permitted=permitted, force=request.force)
    return replan(adapters, policy, scheduled=request.scheduled, restarts=restarts)
