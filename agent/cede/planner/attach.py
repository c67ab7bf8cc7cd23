"""The way in: what is missing until a device is in a domain, live and persistent, and what stands against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.domain import E820_HOST, OWN_ALIAS, PASSTHROUGH, Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.pci import Device
from cede.model.plan import (
    Action,
    AddToConfig,
    BindToPciback,
    Change,
    Decision,
    Deferred,
    Drifted,
    HotPlug,
    LoadPciback,
    Purpose,
    Refused,
    Satisfied,
    SwitchOn,
    Why,
)
from cede.model.policy import Assignment, OnDrift, Policy, When
from cede.planner.drift import drift
from cede.planner.ownership import adopt, refuse_unmanaged
from cede.planner.release import force_detach, refuse_half_gone
from cede.planner.resets import refuse_reset

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cede.model.domain import Hostdev
    from cede.model.pci import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachTarget:
    """One assignment with the device and the domain that it turned out to mean, and all that is around them."""

    subject: str
    assignment: Assignment
    device: Device
    domain: Domain
    policy: Policy
    inventory: Inventory

    @property
    def pair(self) -> tuple[Address, str]:
        """Where it should be: the device's address and the domain's UUID."""
        return (self.device.address, self.domain.uuid)

    @property
    def live(self) -> Hostdev | None:
        """The device in the running domain, or None."""
        return self.domain.live_hostdev(self.device.address)

    @property
    def config(self) -> Hostdev | None:
        """The device in the domain's persistent XML, or None."""
        return self.domain.config_hostdev(self.device.address)

    @property
    def unmanaged(self) -> bool:
        """Whether another tool put it there."""
        return self.domain.unmanaged(self.device.address)

    @property
    def due(self) -> bool:
        """Whether the running domain should have it now and doesn't."""
        return self.domain.running and self.assignment.when is When.NOW and self.live is None

    @property
    def blocked(self) -> bool:
        """Whether libxl would refuse to plug it in: it decides at the domain's start whether devices may come."""
        return self.due and not self.domain.passthrough

    @property
    def plugging(self) -> bool:
        """Whether it is to be hot-plugged."""
        return self.due and not self.blocked

    @property
    def for_next_start(self) -> bool:
        """Whether it goes into the persistent XML alone, for the domain's next start."""
        return self.blocked or self.assignment.when is When.NEXT_START


def attach(
    target: AttachTarget,
    *,
    next_start: Collection[Address],
    concurrent: Collection[Address],
    scheduled: bool = False,
) -> Decision:
    """The actions in.

    `next_start` are the addresses that the policy wants in the domain from its next start on, `concurrent` those that
    it wants to be hot-plugged in the same pass, whatever the domain. A `scheduled` pass, for which no person asked just
    now, leaves a drift as it is where the policy wants it only reported.
    """
    lost = "" if target.unmanaged else drift(target)
    decision = _attach(target, next_start, concurrent, lost)
    lasting = isinstance(decision, Refused) and not decision.may_pass
    if lost and scheduled and target.assignment.on_drift is OnDrift.REPORT and not lasting:
        return Drifted(
            subject=target.subject,
            reason=f"{lost}; `on_drift: report` leaves it so, `cede apply` by hand restores it",
        )
    return decision


def _attach(
    target: AttachTarget,
    next_start: Collection[Address],
    concurrent: Collection[Address],
    lost: str,
) -> Decision:
    refusal = _refuse_device(target) or _refuse_domain(target)
    if refusal is not None:
        return refusal
    if target.unmanaged and not target.assignment.adopt:
        complete = target.live is not None and target.config is not None
        return refuse_unmanaged(target.device, target.domain, target.subject, complete=complete)
    refusal = (
        refuse_half_gone(target.device.address, target.subject, (target.domain,), target.inventory)
        or _refuse_other_setting(target)
        or _refuse_reset(target, next_start, concurrent)
    )
    if refusal is not None:
        return refusal
    actions = tuple(_steps(target))
    if actions:
        return Change(
            subject=target.subject,
            purpose=Purpose.RESTORE if lost else Purpose.ATTACH,
            device=target.assignment.device,
            address=target.device.address,
            identity=target.device.identity,
            actions=actions,
            action_required=_action_required(target),
            reason=lost,
        )
    return _already(target)


def _refuse_device(target: AttachTarget) -> Refused | None:
    """libvirt can't take the device as things are."""
    if target.device.node_device or target.live is not None:
        return None
    return Refused(
        subject=target.subject,
        reason=f"libvirt doesn't list {target.device.address} among its node devices, so it can't take it",
        remedy="`systemctl restart virtnodedevd` (or libvirtd), then `virsh nodedev-list --cap pci`",
        kind=FailureKind.TRY_LATER,
        rule="not-listed",
    )


def _refuse_domain(target: AttachTarget) -> Refused | None:
    """The domain can't take the device as things are."""
    domain, subject = target.domain, target.subject
    if domain.kind is GuestKind.PVH:
        return Refused(
            subject=subject,
            reason=f"{domain.name} is PVH, and Xen gives no PCI devices to PVH guests",
            remedy="make it a PV or HVM guest",
            kind=FailureKind.FAILED,
            rule="pvh",
        )
    if not domain.persistent:
        return Refused(
            subject=subject,
            reason=f"{domain.name} is transient: it has no persistent XML to make this permanent in",
            remedy=f"`virsh define` it first, from `virsh dumpxml {domain.name}`",
            kind=FailureKind.FAILED,
            rule="transient",
        )
    if domain.populated_on_demand and target.config is None:
        return Refused(
            subject=subject,
            reason=f"{domain.name} starts with {domain.current_memory} KiB of its {domain.memory} KiB of memory and "
            "gets the rest on demand, and with a PCI device libxl would refuse to start it so",
            remedy=f"make <currentMemory> in its XML as much as <memory> (`virsh edit {domain.name}`), and restart it",
            kind=FailureKind.FAILED,
            rule="memory-on-demand",
        )
    if not domain.running and target.assignment.when is When.NOW and target.config is None:
        return Refused(
            subject=subject,
            reason=f"{domain.name} is shut off, so nothing can be plugged into it",
            remedy=f"`virsh start {domain.name}`, then apply again; or say `when: next-start`",
            kind=FailureKind.TRY_LATER,
            rule="domain-off",
        )
    return None


def _refuse_other_setting(target: AttachTarget) -> Refused | None:
    """Whether a hostdev is permissive is said when it is put in."""
    address, permissive = target.device.address, target.assignment.permissive
    hostdevs = (hostdev for hostdev in (target.live, target.config) if hostdev is not None)
    if all(hostdev.write_filtering is not permissive for hostdev in hostdevs):
        return None
    return Refused(
        subject=target.subject,
        reason=f"{address} is in {target.domain.name} already, but {'not ' if permissive else ''}permissive, and that "
        "can't be changed in place",
        remedy=f"`cede release {address}`, then apply again",
        kind=FailureKind.FAILED,
        rule="other-setting",
    )


def _refuse_reset(
    target: AttachTarget, next_start: Collection[Address], concurrent: Collection[Address]
) -> Refused | None:
    if target.live is not None:
        return None
    if target.plugging:
        return refuse_reset(target.device, target.subject, target.inventory, concurrent=concurrent)
    together = {hostdev.address for hostdev in target.domain.config}.union(next_start)
    return refuse_reset(target.device, target.subject, target.inventory, together=together)


def _steps(target: AttachTarget) -> Iterable[Action]:
    address, domain, assignment = target.device.address, target.domain, target.assignment
    alias = OWN_ALIAS + assignment.device
    yield from force_detach(address, target.inventory)
    if target.live is None and not target.inventory.pciback_loaded:
        yield LoadPciback()
    if target.live is None and not target.device.on_pciback:
        original = target.device.original_state  # of one that was half bound, and has no driver now
        yield BindToPciback(
            address=address, driver=target.device.driver or (original.driver if original else None)
        )
    if target.plugging:
        yield HotPlug(
            address=address, domain=domain.name, alias=alias, permissive=assignment.permissive
        )
    features = missing_features(domain)
    if features and (target.config is None or target.blocked):
        yield SwitchOn(domain=domain.name, features=features)
    if target.config is None:
        yield AddToConfig(
            address=address,
            domain=domain.name,
            alias=alias,
            policy=target.policy.source,
            permissive=assignment.permissive,
        )
    elif target.unmanaged:
        yield adopt(target.device, domain, alias, target.policy.source)


def missing_features(domain: Domain) -> tuple[str, ...]:
    """What the domain must be started with and its XML doesn't say: PV needs the host's memory map too."""
    lacking = (
        (PASSTHROUGH, not domain.passthrough),
        (E820_HOST, domain.kind is GuestKind.PV and not domain.e820_host),
    )
    return tuple(name for name, lacks in lacking if lacks and name not in domain.features)


def _action_required(target: AttachTarget) -> str:
    name = target.domain.name
    if target.live is not None or target.assignment.when is When.NEXT_START:
        return ""
    if not target.domain.running:
        return f"start {name}"
    if target.blocked:
        return f"shut {name} down and start it: it was started without passthrough, so libxl would refuse a hot-plug"
    return ""


def _already(target: AttachTarget) -> Satisfied | Deferred:
    address, name = target.device.address, target.domain.name
    if target.live is not None:
        reason = f"{address} is in {name} already"
        return Satisfied(subject=target.subject, why=Why.IN_PLACE, reason=reason)
    reason = f"{address} is in the persistent XML of {name}, which gets it at its next start"
    action_required = _action_required(target)
    if action_required:
        return Deferred(subject=target.subject, action_required=action_required, reason=reason)
    return Satisfied(subject=target.subject, why=Why.AT_NEXT_START, reason=reason)
