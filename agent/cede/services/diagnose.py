"""The doctor at work: collect the facts, judge them, and fix what is harmless to fix.

An adapter that doesn't open is a fact too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from cede.doctor import diagnosis, isolation_rules
from cede.doctor.device_rules import waits_for_frontend
from cede.doctor.finding import Facts, Finding
from cede.errors import LIBVIRT_SILENT, CedeError, HungError, UsageError
from cede.model.inventory import Inventory
from cede.model.policy import Channel, Policy
from cede.model.served import Served
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.services import one_off
from cede.services.boot import read_boot_configuration
from cede.services.observe import LIBVIRT_SECONDS, observe
from cede.services.reconcile import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters
    from cede.model.pci import Address
    from cede.model.plan import Outcome, Plan
    from cede.services.reconcile import RequestContext


_T = TypeVar("_T")
_TIMEOUT_SECONDS = 3.0  # a guest's frontend needs a moment


def collect_facts(adapters: Adapters, *, is_root: bool) -> Facts:
    """Collect all that can be seen of the host but isolation, by root or not; none of cede's errors leaves it."""
    no_libvirt = _why_not(adapters, lambda: adapters.libvirt.domains())  # noqa: PLW0108 - a shut adapter raises when it is named
    no_node_devices = no_libvirt or _why_not(adapters, lambda: adapters.libvirt.node_devices())  # noqa: PLW0108 - as above
    no_xenstore = _why_not(adapters, adapters.xenstore.backend)
    complete = not (no_libvirt or no_node_devices or no_xenstore)
    inventory, not_observed = _inventory(adapters, complete=complete)
    if any(waits_for_frontend(given, inventory) for given in inventory.backend):
        adapters.clock.sleep(_TIMEOUT_SECONDS)
        inventory, not_observed = _inventory(adapters, complete=complete)
    kernel_log, xen_log = (
        adapters.kernel_log.lines(),
        adapters.hypervisor.log() if is_root else None,
    )
    logs = {"dom0's kernel log": kernel_log, "Xen's log": xen_log}
    facts = Facts(
        is_root=is_root,
        hypervisor=adapters.hypervisor.kind(),
        is_dom0=adapters.hypervisor.is_dom0(),
        has_xl=adapters.xl.installed(),
        xen_command_line=adapters.hypervisor.command_line() if is_root else "",
        virtualisation=adapters.hypervisor.virtualisation() if is_root else (),
        kernel_log=tuple(line.text for line in kernel_log or ()),
        xen_log=tuple((xen_log or "").splitlines()),
        unreadable_logs=tuple(name for name, log in logs.items() if is_root and log is None),
        lockdown=adapters.sysfs.lockdown(),
        pciback_available=adapters.modules.available(),
        pciback_at_boot=adapters.modules.loaded_at_boot(),
        boot=read_boot_configuration(adapters),
        no_libvirt=no_libvirt,
        no_node_devices=no_node_devices,
        no_xenstore=no_xenstore,
        not_observed=not_observed,
        libxl_notes=() if no_xenstore else adapters.xenstore.stale_notes(),
        power={
            device.address: adapters.sysfs.power(device.address) for device in inventory.devices
        },
        inventory=inventory,
    )
    return replace(facts, msix_masked=_masked(adapters, facts))


def _masked(adapters: Adapters, facts: Facts) -> frozenset[Address]:
    """Return the devices with the MSI-X mask on, of those that wait for a guest; a driver that sets up masks too."""
    waiting = [
        device.address
        for device in facts.inventory.devices
        if (device.on_pciback or device.driver is None)
        and not device.is_bridge
        and not device.in_guest
        and facts.inventory.given(device.address) is None
        and facts.power.get(device.address) != "D3cold"
    ]
    found = {at: adapters.sysfs.switched_on(at) for at in waiting if facts.is_root}
    return frozenset(at for at, on in found.items() if on is not None and on.msix_masked)


def _with_isolation(adapters: Adapters, facts: Facts) -> Facts:
    """Add what the functions do that stand between devices of different guests; no other is asked."""
    asked = {at: adapters.sysfs.isolation(at) for at in isolation_rules.between_guests(facts)}
    return replace(facts, isolation={at: found for at, found in asked.items() if found is not None})


def _inventory(adapters: Adapters, *, complete: bool) -> tuple[Inventory, CedeError | None]:
    """The whole host; of one where not everything answers its devices, and what it does with them itself.

    And why it isn't the whole, where all that it would take answers.
    """
    why = None
    if complete:
        found = _answer(adapters, "looking at the host", lambda: observe(adapters))
        if isinstance(found, Inventory):
            return found, why
        why = found
    uses = _answer(
        adapters,
        "looking at the host's own",
        lambda: adapters.uses.find(adapters.links.network(), Served()),
    )
    known = {} if isinstance(uses, CedeError) else uses
    devices = _answer(adapters, "looking at the devices", adapters.sysfs.devices)
    if isinstance(devices, CedeError):
        return Inventory(pciback_loaded=adapters.sysfs.pciback_loaded), devices
    left = Inventory(
        devices=tuple(
            replace(device, uses=tuple(known.get(device.address, ()))) for device in devices
        ),
        pciback_loaded=adapters.sysfs.pciback_loaded,
    )
    return left, why


def _answer(adapters: Adapters, what: str, ask: Callable[[], _T]) -> _T | CedeError:
    try:
        return adapters.timeouts.call(what, ask)
    except CedeError as error:
        return adapters.daemons.explain(error)


def _why_not(adapters: Adapters, ask: Callable[[], object]) -> CedeError | None:
    """What came instead of libvirt's or xenstore's answer; None if one did."""
    try:
        adapters.timeouts.call("the answer of libvirt or xenstore", ask, seconds=LIBVIRT_SECONDS)
    except HungError as hung:  # xenstore's adapter has a limit of its own, which comes earlier
        return adapters.daemons.explain(HungError(hung.message, name=LIBVIRT_SILENT))
    except CedeError as error:
        return adapters.daemons.explain(error)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What the doctor is asked about: the host, or with a device and a domain that pair too.

    `policy` is the host's, `no_policy` why it can't be read; `log` are the lines of the guest's own kernel log.
    """

    device: str = ""
    domain: str = ""
    policy: Policy = field(default_factory=Policy)
    no_policy: CedeError | None = None
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
    facts = replace(
        collect_facts(adapters, is_root=is_root),
        policy=request.policy,
        no_policy=request.no_policy,
    )
    if not request.domain or not facts.complete:  # which domain has which device is unknown
        facts = _with_isolation(adapters, facts)
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
    device = next((target.device for target in targets.each if target.device is not None), None)
    if device is not None:
        facts = replace(facts, pair=(device.address, domain.name))
    facts = _with_isolation(adapters, facts)
    findings = diagnosis.of_pair(
        facts, f"{request.device} -> {request.domain}", domain, targets, planned
    )
    findings = diagnosis.with_guest(findings, request.log, domain)
    return Diagnosis(facts=facts, findings=findings)


def fix(adapters: Adapters, found: Diagnosis, context: RequestContext) -> tuple[Outcome, ...]:
    """Carry out the diagnosis' fix plan."""
    return carry_out(adapters, found.facts.inventory, found.fix, context)
