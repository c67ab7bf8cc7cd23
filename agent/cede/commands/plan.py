"""`cede plan`: what `cede apply` would do."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.runtime import LibvirtAccess
from cede.commands import exit_status, output
from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest
from cede.commands.outputs import PlanOutput
from cede.commands.requests import PlanRequest
from cede.commands.screen import echo_json, echo_lines
from cede.commands.session import Session, path_of
from cede.domain_xml.edits import EDITS, edited
from cede.errors import UsageError
from cede.model.serialization import dumps
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.planner.restarts import NONE
from cede.policy.policy_files import host_policy
from cede.services.observe import read_inventory
from cede.services.reconcile import replan, scheduled_restarts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cede.model.plan import Plan
    from cede.model.policy import Policy

_CONTEXT = 1  # lines around a change, which show its place


def perform(request: PlanRequest, session: Session) -> Answer:
    """Print the plan, of this host or of an observed one; the answer has its digest."""
    policy = host_policy(path_of(request.policy), session.runtime, prune=request.prune)
    if request.host and request.diff:
        raise UsageError(
            "--diff needs the domains' XML, which a saved host does not have",
            name="conflicting-options",
        )
    before: dict[str, str] = {}
    if request.host:
        targets = resolve_targets(policy, read_inventory(Path(request.host)))
        planned = plan(targets, scheduled=request.scheduled)
    else:
        planned, before = _of_host(request, session, policy)
    if session.as_json:
        echo_json(dumps(PlanOutput(plan=planned)))
    else:
        output.plan(planned)
        _show_diff(planned, before)
    return Answer(exit=exit_status.of_plan(planned), digest=plan_digest(planned.changes))


def _of_host(request: PlanRequest, session: Session, policy: Policy) -> tuple[Plan, dict[str, str]]:
    """Return the plan, and for a diff the persistent XML of each domain that it changes."""
    # no plan is made of less than the whole host
    recorded = session.runtime.recorded
    with session.runtime.adapters(
        LibvirtAccess.OPTIONAL if recorded else LibvirtAccess.REQUIRED
    ) as adapters:
        clock = session.runtime.clock
        restarts = scheduled_restarts(policy, clock) if request.scheduled else NONE
        _, planned = replan(adapters, policy, scheduled=request.scheduled, restarts=restarts)
        if not request.diff:
            return planned, {}
        names = dict.fromkeys(
            action.domain for action in planned.actions if isinstance(action, EDITS)
        )
        return planned, {name: adapters.libvirt.persistent_xml(name) for name in names}


def _show_diff(planned: Plan, before: Mapping[str, str]) -> None:
    """Print how the persistent XML of each domain in `before` would change, as a unified diff."""
    for domain, xml in before.items():
        after = xml
        for action in planned.actions:
            if isinstance(action, EDITS) and action.domain == domain:
                after = edited(action, after)
        names = (f"{domain}.xml", f"{domain}.xml, after cede apply")
        lines = difflib.unified_diff(
            xml.splitlines(), after.splitlines(), *names, n=_CONTEXT, lineterm=""
        )
        echo_lines(lines)
