"""`cede verify`: ask every guest again; on request with the whole checklist, and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.commands.answer import Answer
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.exit_status import Exit
from cede.commands.output import show_checked
from cede.commands.requests import VerifyRequest
from cede.commands.screen import echo
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.errors import CedeError
from cede.executor.restart import restart
from cede.model.actions import RestartDomain
from cede.planner.restarts import SHUTDOWN_SECONDS
from cede.policy.policy_files import host_policy
from cede.services.reconcile import replan, verify_started
from cede.services.verification import verify_all
from cede.verifier.verify import explain_by_checklist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.services.pass_report import Report
    from cede.services.reconcile import RequestContext


def perform(request: VerifyRequest, session: Session) -> Answer:
    """Ask every guest again, on request after a restart, which a preview only announces."""
    policy = host_policy(path_of(request.policy), session.runtime)
    if request.restart:
        preview = _preview if request.preview else _after_restart
        return preview(request, session, policy)
    with session.runtime.adapters() as adapters:
        targets, planned = replan(adapters, policy)
        found = verify_all(adapters, targets, planned)
        explained = (
            explain_by_checklist(adapters, targets, found.checked) if request.explain else ()
        )
    return show_checked(found, as_json=session.as_json, explained=explained)


def _preview(_request: VerifyRequest, session: Session, policy: Policy) -> Answer:
    with session.runtime.adapters() as adapters:
        targets, planned = replan(adapters, policy)
        domains = _in_sync(targets, verify_all(adapters, targets, planned))
    names = [domain.name for domain in domains]
    _announce(names)
    return Answer(exit=Exit.OUT_OF_SYNC, digest=plan_digest(names))


def _announce(names: Sequence[str]) -> None:
    if names:
        echo(f"shut down and start: {', '.join(names)}")


def _after_restart(request: VerifyRequest, session: Session, policy: Policy) -> Answer:
    with writing(session, "cede verify --restart", request.wait) as (adapters, context):
        targets, planned = replan(adapters, policy)
        found = verify_all(adapters, targets, planned)
        domains = _in_sync(targets, found)
        names = [domain.name for domain in domains]
        refuse_other(request.plan, names)
        if not (request.plan or session.as_json):
            _announce(names)
        restarted, failed = _restart(adapters, domains, context)
        if restarted:
            targets, found = verify_started(adapters, policy)
        explained = (
            explain_by_checklist(adapters, targets, found.checked, restarted)
            if request.explain
            else ()
        )
    return show_checked(
        found,
        as_json=session.as_json,
        explained=explained,
        restarted=tuple(restarted),
        failed=failed,
    )


def _restart(
    adapters: Adapters, domains: Sequence[Domain], context: RequestContext
) -> tuple[list[str], CedeError | None]:
    """Restart each domain until stopped; return the names of those that were, and the first failure."""
    restarted: list[str] = []
    failed: CedeError | None = None
    for domain in domains:
        if context.stop.is_set():
            break
        try:
            restart(adapters, _action(domain))
        except CedeError as error:  # what was found of the others must not be lost over this
            failed = failed or error
        else:
            restarted.append(domain.name)
    return restarted, failed


def _action(domain: Domain) -> RestartDomain:
    return RestartDomain(
        domain=domain.name, domid=domain.domid or 0, addresses=(), seconds=SHUTDOWN_SECONDS
    )


def _in_sync(targets: Targets, found: Report) -> tuple[Domain, ...]:
    """Return the running domains whose assignments are all verified; no other domain is restarted."""
    domains: dict[str, Domain] = {}
    spared = set()
    for target, checks in zip(targets.each, found.checked, strict=True):
        domain = target.domain
        if domain is None or not domain.running:
            continue
        domains[domain.name] = domain
        if not checks.verified:
            spared.add(domain.name)
    return tuple(domain for name, domain in domains.items() if name not in spared)
