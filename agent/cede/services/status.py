"""Status: save what a pass came to, as conditions with their times, and the last-applied state of each device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.composition import open_journal
from cede.errors import CedeError, HungError, PolicyError, UnreachableError
from cede.executor.executor import Outcome
from cede.model.conditions import HOST, LIBVIRT_REACHABLE, Condition, Status, merge
from cede.model.journal_state import Attachment
from cede.model.plan import NoOp, Refusal, Work
from cede.policy.policy_files import DEFAULT_POLICY
from cede.services.assess import Seen, of_assignments, of_host
from cede.verifier.check_results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cede.model.inventory import Inventory
    from cede.model.plan import Plan
    from cede.planner.resolve import Target, Targets
    from cede.state.journal import Journal
    from cede.verifier.check_results import Finding


def standing(
    journal: Journal,
    targets: Targets,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome] = (),
) -> tuple[Condition, ...]:
    """The conditions as they are now, with the times of the last pass for what hasn't changed since; writes nothing.

    `findings` are by subject.
    """
    seen = _seen(targets, planned, findings, outcomes)
    return _conditions(journal, targets, seen)


def record(
    journal: Journal,
    targets: Targets,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome] = (),
    *,
    next_try: Mapping[str, str] | None = None,
    rejected: CedeError | None = None,
) -> tuple[Condition, ...]:
    """The same, and kept in the journal together with where each device is now.

    `next_try` tells, by subject, when an assignment out of step will be tried again; None if whoever makes this pass
    doesn't know, and what was told before and is still to come holds. `rejected` is why the policy's files are not
    followed as they are now. Raises PermanentError if the journal can't be written.
    """
    seen = _seen(targets, planned, findings, outcomes)
    found = _conditions(journal, targets, seen, next_try, rejected)
    places = [
        place
        for target, one in zip(targets.each, seen, strict=True)
        if (place := _attachment(one, target, targets.inventory)) is not None
    ]
    journal.stand(targets.policy.source, found, places)
    return found


def _conditions(
    journal: Journal,
    targets: Targets,
    seen: Sequence[Seen],
    next_try: Mapping[str, str] | None = None,
    rejected: CedeError | None = None,
) -> tuple[Condition, ...]:
    inventory = targets.inventory
    before, at = journal.conditions(targets.policy.source), journal.time
    if next_try is None:
        next_try = {one.subject: one.next_try for one in before if one.next_try > at}
    host = of_host(
        policy=rejected,
        journal=journal.warnings,
        pciback=inventory.pciback_loaded or any(one.loaded_pciback for one in seen),
        pauses=inventory.pauses,
    )
    return merge(before, (*host, *of_assignments(seen, before, next_try)), at)


def as_last_seen(
    journal: Journal,
    source: str,
    *,
    libvirt: CedeError | None = None,
    rejected: CedeError | None = None,
    next_try: str = "",
) -> tuple[Condition, ...]:
    """The conditions where nothing could be looked at, since libvirt doesn't answer or the policy can't be read.

    `next_try` is when libvirt is asked again.
    """
    before, at = journal.conditions(source), journal.time
    host = {
        one.type: one
        for one in of_host(
            libvirt=libvirt, policy=rejected, journal=journal.warnings, pauses=journal.memory().pauses
        )
    }  # fmt: skip
    reached = host[LIBVIRT_REACHABLE]
    if libvirt is None:
        reached = replace(reached, status=Status.UNKNOWN, reason="NotLooked")
        reached = next((one for one in before if one.type == LIBVIRT_REACHABLE), reached)
    host[LIBVIRT_REACHABLE] = replace(reached, next_try=next_try)
    kept = (one for one in before if one.subject != HOST)
    return merge(before, (*host.values(), *kept), at)


def _seen(
    targets: Targets,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome],
) -> list[Seen]:
    every: list[Work | NoOp | Refusal] = [*planned.work, *planned.noops, *planned.refusals]
    verdicts = {verdict.subject: verdict for verdict in every}
    ended = {outcome.work.subject: outcome for outcome in outcomes}
    return [
        _seen_of(
            target,
            verdicts[target.subject],
            ended.get(target.subject),
            findings.get(target.subject, ()),
        )
        for target in targets.each
    ]


def _seen_of(
    target: Target,
    verdict: Work | NoOp | Refusal,
    outcome: Outcome | None,
    findings: Sequence[Finding],
) -> Seen:
    device, domain = target.device, target.domain
    against = [f for f in findings if f.verdict in {Verdict.WRONG, Verdict.OPEN}]
    return Seen(
        subject=target.subject,
        live=target.attached,
        config=bool(device and domain and domain.config_hostdev(device.address)),
        verdict=verdict,
        done=outcome is not None,
        error=(outcome.stranded or outcome.error) if outcome else None,
        stranded=outcome is not None and outcome.stranded is not None,
        proven=_proven(findings),
        asked=any(
            finding.source.startswith("guest") and finding.verdict is not Verdict.NOTED
            for finding in findings
        ),
        wrong=str(against[0]) if against else "",
    )


def _proven(findings: Sequence[Finding]) -> bool | None:
    verdicts = {finding.verdict for finding in findings} - {Verdict.NOTED}
    if Verdict.WRONG in verdicts:
        return False
    return True if verdicts == {Verdict.RIGHT} else None


def _attachment(seen: Seen, target: Target, inventory: Inventory) -> Attachment | None:
    """Where it is after the pass; what somebody else took away meanwhile still counts as left there."""
    device, domain = target.device, target.domain
    if device is None or domain is None:
        return None
    left = inventory.left_in(device.address, domain)
    live, config = seen.is_live, seen.is_config
    verdict = seen.verdict
    well = seen.took or (isinstance(verdict, NoOp) and not (verdict.paused or verdict.drifted))
    if not well and left is not None:
        live, config = live or left.live, config or left.config
    if not (live or config):
        return None
    return Attachment(address=device.address, domain=domain.uuid, live=live, config=config)


SILENT = (UnreachableError, HungError)  # how it ends to look at a host that doesn't answer


@contextmanager
def failures_recorded(path: Path | None) -> Iterator[None]:
    """A pass that comes to nothing leaves that as a condition of the host; the error goes on to who asked."""
    try:
        yield
    except PolicyError as wrong:
        record_failure(str(path or DEFAULT_POLICY), None, wrong)
        raise
    except CedeError as failed:
        record_failure(str(path or DEFAULT_POLICY), failed)
        raise


def record_failure(
    source: str, failed: CedeError | None, rejected: CedeError | None = None, next_try: str = ""
) -> None:
    """Record what kept a pass over the policy `source` from its end, if that is libvirt's silence or the policy.

    What can't be written down isn't told: what `failed` first is what a person must hear of.
    """
    silent = failed if isinstance(failed, SILENT) else None
    if silent is None and rejected is None:
        return
    with closing(open_journal()) as journal, suppress(CedeError):
        found = as_last_seen(journal, source, libvirt=silent, rejected=rejected, next_try=next_try)
        journal.stand(source, found)
