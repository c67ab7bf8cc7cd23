"""The doctor at work: collect the facts, judge them, and fix what is harmless to fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cede.doctor import diagnosis
from cede.doctor.finding import worst_first
from cede.errors import UsageError
from cede.model.policy import Channel, Policy
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.services import one_off
from cede.services.collect_facts import collect_facts
from cede.services.reconcile import carry_out

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.doctor.facts import Facts
    from cede.doctor.finding import Finding
    from cede.model.outcome import Outcome
    from cede.model.plan import Plan
    from cede.services.reconcile import RequestContext


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What the doctor is asked about: the host, or with a device and a domain that pair too.

    `policy` is the host's, for a pair; `log` are the lines of the guest's own kernel log.
    """

    device: str = ""
    domain: str = ""
    policy: Policy = field(default_factory=Policy)
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was seen, what the rules find in it, the worst first, and the plan of what is harmless to fix."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def fatal(self) -> bool:
        """Whether something would make passthrough fail."""
        return diagnosis.fatal(self.findings)

    @property
    def fix(self) -> Plan:
        """The plan that fixes what cede can."""
        return diagnosis.fix_plan(self.findings, self.facts.inventory)


def diagnose(adapters: Adapters, request: DoctorRequest, *, is_root: bool) -> Diagnosis:
    """Look and judge, as far as the adapters answer. Raises UsageError for a device or a domain that isn't there."""
    facts = collect_facts(adapters, is_root=is_root)
    if not request.domain or not facts.complete:  # which domain has which device is unknown
        return Diagnosis(facts=facts, findings=diagnosis.of_host(facts))
    inventory = facts.inventory
    domain = inventory.domain(request.domain)
    if domain is None:
        raise UsageError(
            f"libvirt knows no domain {request.domain}",
            name="no-such-domain",
            remedy="`virsh list --all` lists the domains",
        )
    attach = one_off.AttachRequest(
        device=request.device, domain=request.domain, channel=Channel.NONE
    )
    policy = one_off.policy_of(request.policy, attach, inventory)
    targets = resolve_targets(policy, inventory)
    planned = one_off.plan_of_assignment(plan(targets), policy)
    findings = diagnosis.of_pair(
        facts, f"{request.device} -> {request.domain}", domain, targets, planned
    )
    findings = worst_first([*findings, *diagnosis.of_guest(request.log, domain)])
    return Diagnosis(facts=facts, findings=findings)


def fix(adapters: Adapters, found: Diagnosis, context: RequestContext) -> tuple[Outcome, ...]:
    """Carry out the diagnosis' fix plan."""
    return carry_out(adapters, found.facts.inventory, found.fix, context)
