"""All rules together, and the plan that fixes their findings as far as that is harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.doctor import (
    daemon_rules,
    device_rules,
    fault_rules,
    guest_rules,
    isolation_rules,
    kernel_rules,
    log_rules,
    pair_rules,
    pciback_rules,
    policy_rules,
    xen_rules,
)
from cede.doctor.finding import HOST, Severity, worst_first
from cede.model.actions import SwitchOn
from cede.model.domain import FEATURES
from cede.model.plan import Change, Plan, Purpose
from cede.planner.attach import switch_on
from cede.planner.targets import AttachTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.doctor.finding import Facts, Finding
    from cede.model.actions import Action
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.planner.resolve import Targets

_OF_HOST = (*xen_rules.RULES, *pciback_rules.RULES, *daemon_rules.RULES)
_OF_DEVICES = (*device_rules.RULES, *log_rules.RULES, *fault_rules.RULES)
_OF_BOTH = (*kernel_rules.RULES, *policy_rules.RULES)
EVERY = (*_OF_HOST, *_OF_DEVICES, *_OF_BOTH, *isolation_rules.RULES)


def of_host(facts: Facts) -> tuple[Finding, ...]:
    """Return what is wrong with the host and its devices, the worst first."""
    return worst_first(finding for rule in EVERY for finding in rule(facts))


def of_pair(
    facts: Facts, subject: str, domain: Domain, targets: Targets, plan: Plan
) -> tuple[Finding, ...]:
    """Return what is wrong with the host, and what stands against the one assignment of `targets`, the worst first.

    `plan` is the planner's for that assignment, `subject` its name in the findings.
    """
    rules = (*_OF_HOST, *(isolation_rules.RULES if facts.pair else ()))
    findings = [finding for rule in rules for finding in rule(facts)]
    findings += [one for rule in _OF_BOTH for one in rule(facts) if one.address is None]
    for target in targets.each:
        if target.device is not None:
            findings += [
                finding
                for rule in (*_OF_DEVICES, *_OF_BOTH)
                for finding in rule(facts)
                if finding.address == target.device.address
            ]
        attach = AttachTarget.of(target, targets)
        if attach is not None:
            findings += pair_rules.pair_refusals(attach, subject)
    findings += pair_rules.planned(plan, subject)
    findings += pair_rules.features(domain)
    return worst_first(findings)


def of_guest(log: Sequence[str], domain: Domain) -> tuple[Finding, ...]:
    """Return what is wrong in a guest by its own log, the worst first."""
    return worst_first(finding for rule in guest_rules.RULES for finding in rule(log, domain))


def with_guest(
    findings: Iterable[Finding], log: Sequence[str], domain: Domain
) -> tuple[Finding, ...]:
    """Return `findings` with those of the guest's log, the worst first; what that log disproves is left out."""
    disproved = {guest_rules.NO_PCIFRONT} if guest_rules.pcifront_speaks(log) else set()
    current = [finding for finding in findings if finding.name not in disproved]
    return worst_first([*current, *of_guest(log, domain)])


def fatal(findings: Iterable[Finding]) -> bool:
    """Return whether a finding makes passthrough fail."""
    return any(finding.severity is Severity.FATAL for finding in findings)


def fix_plan(findings: Iterable[Finding], inventory: Inventory) -> Plan:
    """Plan the fixes that cede can do: one change for the host, and one for the features of each domain."""
    actions = [action for finding in findings for action in finding.actions]
    host = tuple(dict.fromkeys(action for action in actions if not isinstance(action, SwitchOn)))
    wanted: dict[str, set[str]] = {}
    for action in actions:
        if isinstance(action, SwitchOn):
            wanted.setdefault(action.domain, set()).update(action.features)
    changes = [_change(HOST, host)] if host else []
    for domain, features in wanted.items():
        ordered = tuple(name for name in FEATURES if name in features)
        found = inventory.domain(domain)
        switch = switch_on(found, ordered) if found else SwitchOn(domain=domain, features=ordered)
        running = found is not None and found.running
        action_required = f"shut {domain} down and start it" if running else ""
        changes.append(_change(domain, (switch,), action_required))
    return Plan(decisions=tuple(changes))


def _change(subject: str, actions: tuple[Action, ...], action_required: str = "") -> Change:
    return Change(
        subject=f"fix {subject}",
        purpose=Purpose.FIX,
        address=None,
        identity=None,
        actions=actions,
        action_required=action_required,
    )
