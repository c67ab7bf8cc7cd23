"""All rules together, and the plan that cures what they found as far as that is harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.doctor import (
    daemon_rules,
    device_rules,
    guest_rules,
    pair_rules,
    pciback_rules,
    xen_rules,
)
from cede.doctor.finding import HOST, Severity, worst_first
from cede.model.domain import FEATURES
from cede.model.plan import Plan, SwitchOn, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.doctor.facts import Facts
    from cede.doctor.finding import Finding
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.plan import Step
    from cede.planner.resolve import Targets

_OF_HOST = (*xen_rules.RULES, *pciback_rules.RULES, *daemon_rules.RULES)


def of_host(facts: Facts) -> tuple[Finding, ...]:
    """What is wrong with the host and any of its devices, the worst first."""
    return worst_first(found for rule in (*_OF_HOST, *device_rules.RULES) for found in rule(facts))


def of_pair(
    facts: Facts, subject: str, domain: Domain, targets: Targets, plan: Plan
) -> tuple[Finding, ...]:
    """What is wrong with the host, and stands against the one assignment of `targets`, the worst first.

    `plan` is the planner's for that assignment, and `subject` how a person called it.
    """
    inventory = facts.inventory
    found = [one for rule in _OF_HOST for one in rule(facts)]
    for device in (target.device for target in targets.each):
        if device is not None:
            at = str(device.address)
            found += [
                one
                for rule in device_rules.RULES
                for one in rule(facts)
                if one.subject.startswith(at)
            ]
            found += pair_rules.standing_against(device, domain, subject, inventory, targets.policy)
    found += pair_rules.planned(plan, subject)
    found += pair_rules.features(domain)
    return worst_first(found)


def of_guest(log: Sequence[str], domain: Domain) -> tuple[Finding, ...]:
    """What a guest's own log says is wrong there, the worst first."""
    return worst_first(found for rule in guest_rules.RULES for found in rule(log, domain))


def fatal(findings: Iterable[Finding]) -> bool:
    """Whether one of them makes passthrough fail."""
    return any(found.severity is Severity.FATAL for found in findings)


def cure(findings: Iterable[Finding], inventory: Inventory) -> Plan:
    """The plan that cures what cede can: the host's steps as one work, each domain's features as another."""
    steps = [step for found in findings for step in found.steps]
    host = tuple(dict.fromkeys(step for step in steps if not isinstance(step, SwitchOn)))
    wanted: dict[str, set[str]] = {}
    for step in steps:
        if isinstance(step, SwitchOn):
            wanted.setdefault(step.domain, set()).update(step.features)
    works = [_work(HOST, host)] if host else []
    for domain, features in wanted.items():
        ordered = tuple(name for name in FEATURES if name in features)
        switch = SwitchOn(domain=domain, features=ordered)
        running = (found := inventory.domain(domain)) is not None and found.running
        pending = f"shut {domain} down and start it" if running else ""
        works.append(_work(domain, (switch,), pending))
    return Plan(work=tuple(works))


def _work(subject: str, steps: tuple[Step, ...], pending: str = "") -> Work:
    return Work(
        subject=f"cure {subject}", address=None, identity=None, steps=steps, pending=pending
    )
