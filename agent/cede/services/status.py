"""Status: what a pass came to as conditions, and the last-applied state of each device, assessed and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cede.errors import CedeError, HungError, PolicyError, UnreachableError
from cede.model.actions import LoadPciback
from cede.model.conditions import (
    HOST,
    LIBVIRT_REACHABLE,
    Condition,
    Status,
    host_conditions,
    with_times,
)
from cede.model.journal_state import Given, LastApplied
from cede.model.plan import Deferred, Satisfied
from cede.policy.policy_files import source_of
from cede.services.pass_report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.adapters.runtime import Runtime
    from cede.model.inventory import Inventory
    from cede.model.plan import Decision, Outcome, Plan
    from cede.planner.resolve import Target, Targets
    from cede.services.assess import AssignmentStatus
    from cede.verifier.checklist import AssignmentChecks
from cede.state.journal import Journal


def assess_pass(
    journal: Journal,
    targets: Targets,
    planned: Plan,
    outcomes: Sequence[Outcome] = (),
    checked: Iterable[AssignmentChecks] = (),
    previous: Sequence[Condition] | None = None,
    *,
    rejected: CedeError | None = None,
) -> Report:
    """Return the report of a pass, assessed, with the conditions of the host.

    `previous` are the conditions of the pass before, None if they aren't read yet; `rejected` is why the policy's files
    are not followed as they are now.
    """
    inventory, at = targets.inventory, journal.time
    if previous is None:
        previous = journal.conditions(targets.policy.source)
    done = Report.of(planned, outcomes, checked, targets=targets.each, previous=previous, at=at)
    host = host_conditions(
        policy=rejected,
        journal=journal.warnings,
        unreadable=[domain.name for domain in inventory.unreadable],
        pciback=inventory.pciback_loaded or any(outcome.did(LoadPciback) for outcome in outcomes),
        pauses=inventory.pauses,
    )
    return replace(done, host=with_times(previous, host, at))


def save_status(
    journal: Journal, targets: Targets, report: Report, next_try: Mapping[str, str] | None = None
) -> None:
    """Keep a pass' conditions in the journal, together with where each device is now.

    `next_try` tells, by subject, when an assignment out of sync will be tried again; None if whoever makes this pass
    doesn't know, and what was told before and is still to come holds. What can't be written down is among the
    journal's warnings, and nothing else.
    """
    decisions = report.plan.by_subject
    statuses = {one.subject: one for status in report.statuses for one in status.each}
    places = [
        place
        for target in targets.each
        if (
            place := _last_applied(
                statuses[target.subject], decisions[target.subject], target, targets.inventory
            )
        )
    ]
    conditions = report.conditions
    if next_try is not None:
        conditions = tuple(
            condition
            if condition.status is Status.TRUE
            else replace(condition, next_try=next_try.get(condition.subject, ""))
            for condition in conditions
        )
    given = [
        one
        for target in targets.each
        if (one := _given(statuses[target.subject], target, targets.inventory))
    ]
    try:
        journal.save_status(targets.policy.source, conditions, places)
        journal.note_given(given)
    except CedeError as unwritten:
        journal.warnings.append(unwritten.message)


def last_seen_conditions(
    journal: Journal,
    source: str,
    *,
    libvirt: CedeError | None = None,
    rejected: CedeError | None = None,
    next_try: str = "",
) -> tuple[Condition, ...]:
    """Return the conditions where nothing could be observed: libvirt doesn't answer, or the policy can't be read.

    `next_try` is when libvirt is asked again.
    """
    before, at = journal.conditions(source), journal.time
    host = {
        condition.type: condition
        for condition in host_conditions(
            libvirt=libvirt, policy=rejected, journal=journal.warnings, pauses=journal.load_state().pauses
        )
    }  # fmt: skip
    reached = host[LIBVIRT_REACHABLE]
    if libvirt is None:
        reached = replace(reached, status=Status.UNKNOWN, reason="NotLooked")
        reached = next(
            (condition for condition in before if condition.type == LIBVIRT_REACHABLE), reached
        )
    host[LIBVIRT_REACHABLE] = replace(reached, next_try=next_try)
    conditions = (condition for condition in before if condition.subject != HOST)
    return with_times(before, (*host.values(), *conditions), at)


def _last_applied(
    status: AssignmentStatus, decision: Decision, target: Target, inventory: Inventory
) -> LastApplied | None:
    """Where it is after the pass; what another tool took away meanwhile still counts as left there."""
    device, domain = target.device, target.domain
    if device is None or domain is None:
        return None
    last_applied = inventory.last_applied_in(device.address, domain)
    live, config = status.attached, status.persistent
    well = status.done or isinstance(decision, Satisfied | Deferred)
    if not well and last_applied is not None:
        live, config = live or last_applied.live, config or last_applied.config
    if not (live or config):
        return None
    return LastApplied(address=device.address, domain=domain.uuid, live=live, config=config)


def _given(status: AssignmentStatus, target: Target, inventory: Inventory) -> Given | None:
    """What a domain was seen with for the first time since its start, which libvirt gave it then."""
    device, domain = target.device, target.domain
    if device is None or domain is None or domain.domid is None or not target.attached:
        return None
    before = inventory.gave(device.address)
    known = before is not None and (before.domain, before.domid) == (domain.name, domain.domid)
    if known or status.done or domain.unmanaged(device.address):
        return None
    return Given(
        address=device.address,
        device=target.assignment.device,
        domain=domain.name,
        domid=domain.domid,
        instance=device.instance,
    )


SILENT = (UnreachableError, HungError)  # how it ends to look at a host that doesn't answer


@contextmanager
def failures_recorded(runtime: Runtime, path: Path | None) -> Iterator[None]:
    """Record a pass that comes to nothing as a condition of the host; the error goes on to the caller."""
    source = source_of(path)
    try:
        yield
    except PolicyError as wrong:
        record_failure(runtime, source, None, wrong)
        raise
    except CedeError as failed:
        record_failure(runtime, source, failed)
        raise


def record_failure(
    runtime: Runtime,
    source: str,
    failed: CedeError | None,
    rejected: CedeError | None = None,
    next_try: str = "",
) -> None:
    """Record what kept a pass over the policy `source` from its end, if that is libvirt's silence or the policy.

    What can't be written down isn't told: what `failed` first is what the administrator must hear of.
    """
    silent = failed if isinstance(failed, SILENT) else None
    if silent is None and rejected is None:
        return
    with closing(runtime.journal()) as journal, suppress(CedeError):
        conditions = last_seen_conditions(
            journal, source, libvirt=silent, rejected=rejected, next_try=next_try
        )
        journal.save_status(source, conditions)
