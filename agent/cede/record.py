"""Record: what a pass came to, as conditions with their times, and where it left each device, for the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.conditions import HOST, Seen, merge, of_assignments, of_host
from cede.evidence import Verdict
from cede.memory import Attachment
from cede.plan.planner import meant, subject_of
from cede.plan.steps import NoOp, Refusal, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.conditions import Condition
    from cede.errors import CedeError
    from cede.evidence import Finding
    from cede.execute.executor import Outcome
    from cede.host.journal import Journal
    from cede.model import Device, Domain, Inventory
    from cede.plan.steps import Plan
    from cede.policy import Policy


def standing(
    journal: Journal,
    policy: Policy,
    inventory: Inventory,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome] = (),
    *,
    next_try: Mapping[str, str] | None = None,
) -> tuple[Condition, ...]:
    """The conditions as they are now, with the times of the last pass for what hasn't changed since; writes nothing.

    `findings` are by subject; `next_try` tells, by subject, when an assignment out of step will be tried again.
    """
    seen = _seen(policy, inventory, planned, findings, outcomes)
    return _conditions(journal, policy.source, inventory, [one for one, _ in seen], next_try)


def record(
    journal: Journal,
    policy: Policy,
    inventory: Inventory,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome] = (),
    *,
    next_try: Mapping[str, str] | None = None,
) -> tuple[Condition, ...]:
    """The same, and kept in the journal together with where each device is now.

    Raises PermanentError if the journal can't be written.
    """
    seen = _seen(policy, inventory, planned, findings, outcomes)
    found = _conditions(journal, policy.source, inventory, [one for one, _ in seen], next_try)
    places = [
        place
        for one, where in seen
        if where is not None and (place := _attachment(one, *where, inventory)) is not None
    ]
    journal.stand(policy.source, found, places)
    return found


def _conditions(
    journal: Journal,
    source: str,
    inventory: Inventory,
    seen: Sequence[Seen],
    next_try: Mapping[str, str] | None,
) -> tuple[Condition, ...]:
    before = journal.conditions(source)
    host = of_host(
        journal=journal.warnings,
        pciback=inventory.pciback_loaded or any(one.loaded_pciback for one in seen),
        pauses=inventory.pauses,
    )
    return merge(before, (*host, *of_assignments(seen, before, next_try)), journal.time)


def record_unreachable(
    journal: Journal,
    source: str,
    *,
    libvirt: CedeError | None = None,
    policy: CedeError | None = None,
) -> None:
    """A pass came to nothing, since libvirt didn't answer or the policy can't be read; the rest is as last seen."""
    before = journal.conditions(source)
    host = of_host(
        libvirt=libvirt, policy=policy, journal=journal.warnings, pauses=journal.memory().pauses
    )
    kept = [one for one in before if one.subject != HOST]
    journal.stand(source, merge(before, (*host, *kept), journal.time))


def _seen(
    policy: Policy,
    inventory: Inventory,
    planned: Plan,
    findings: Mapping[str, Sequence[Finding]],
    outcomes: Iterable[Outcome],
) -> list[tuple[Seen, tuple[Device, Domain] | None]]:
    every: list[Work | NoOp | Refusal] = [*planned.work, *planned.noops, *planned.refusals]
    verdicts = {verdict.subject: verdict for verdict in every}
    ended = {outcome.work.subject: outcome for outcome in outcomes}
    found = []
    for wanted in policy.assignments:
        subject = subject_of(wanted)
        device, domain = meant(policy, wanted, inventory)
        where = (device, domain) if device is not None and domain is not None else None
        outcome, told = ended.get(subject), findings.get(subject, ())
        against = [f for f in told if f.verdict in {Verdict.WRONG, Verdict.OPEN}]
        found.append(
            (
                Seen(
                    subject=subject,
                    live=bool(where and where[1].live_hostdev(where[0].address)),
                    config=bool(where and where[1].config_hostdev(where[0].address)),
                    verdict=verdicts[subject],
                    done=outcome is not None,
                    error=(outcome.stranded or outcome.error) if outcome else None,
                    stranded=outcome is not None and outcome.stranded is not None,
                    proven=_proven(told),
                    asked=any(finding.source.startswith("guest") for finding in told),
                    wrong=str(against[0]) if against else "",
                ),
                where,
            )
        )
    return found


def _proven(findings: Sequence[Finding]) -> bool | None:
    verdicts = {finding.verdict for finding in findings} - {Verdict.NOTED}
    if Verdict.WRONG in verdicts:
        return False
    return True if verdicts == {Verdict.RIGHT} else None


def _attachment(
    seen: Seen, device: Device, domain: Domain, inventory: Inventory
) -> Attachment | None:
    """Where it is after the pass; what somebody else took away meanwhile still counts as left there."""
    left = inventory.left_in(device.address, domain)
    live, config = seen.is_live, seen.is_config
    verdict = seen.verdict
    well = seen.took or (isinstance(verdict, NoOp) and not (verdict.paused or verdict.drifted))
    if not well and left is not None:
        live, config = live or left.live, config or left.config
    if not (live or config):
        return None
    return Attachment(address=device.address, domain=domain.uuid, live=live, config=config)
