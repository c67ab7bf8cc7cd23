"""The way in: what is missing until a device is in a domain, live and persistent, and what stands against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import Exit
from cede.model.domain import E820_HOST, OWN_ALIAS, PASSTHROUGH, Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.pci import Device
from cede.model.plan import (
    AddToConfig,
    HotPlug,
    LoadPciback,
    NoOp,
    Refusal,
    Seize,
    Step,
    SwitchOn,
    Work,
)
from cede.model.policy import Assignment, OnDrift, Policy, When
from cede.planner.drift import drift
from cede.planner.ownership import adopt, refuse_foreign
from cede.planner.release import evict, refuse_half_gone
from cede.planner.resets import refuse_reset

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cede.model.domain import Hostdev
    from cede.model.pci import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
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
    def foreign(self) -> bool:
        """Whether somebody else put it there."""
        return self.domain.foreign(self.device.address)

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
    wish: Wish,
    *,
    starting: Collection[Address],
    rivals: Collection[Address],
    scheduled: bool = False,
) -> Work | NoOp | Refusal:
    """The steps in.

    `starting` are the addresses that the policy wants in the domain from its next start on, `rivals` those that it
    wants to be hot-plugged in the same pass, whatever the domain. A `scheduled` pass, for which no person asked just
    now, leaves a drift as it is where the policy wants it only reported.
    """
    lost = "" if wish.foreign else drift(wish)
    verdict = _attach(wish, starting, rivals, lost)
    lasting = isinstance(verdict, Refusal) and verdict.exit is not Exit.TRY_LATER
    if lost and scheduled and wish.assignment.on_drift is OnDrift.REPORT and not lasting:
        return NoOp(
            subject=wish.subject,
            reason=f"{lost}; `on_drift: report` leaves it so, `cede apply` by hand restores it",
            drifted=True,
        )
    return verdict


def _attach(
    wish: Wish, starting: Collection[Address], rivals: Collection[Address], lost: str
) -> Work | NoOp | Refusal:
    refusal = _refuse_device(wish) or _refuse_domain(wish)
    if refusal is not None:
        return refusal
    if wish.foreign and not wish.assignment.adopt:
        complete = wish.live is not None and wish.config is not None
        return refuse_foreign(wish.device, wish.domain, wish.subject, complete=complete)
    refusal = (
        refuse_half_gone(wish.device.address, wish.subject, (wish.domain,), wish.inventory)
        or _refuse_other_setting(wish)
        or _refuse_reset(wish, starting, rivals)
    )
    if refusal is not None:
        return refusal
    steps = tuple(_steps(wish))
    if steps:
        return Work(
            subject=wish.subject,
            address=wish.device.address,
            identity=wish.device.identity,
            steps=steps,
            pending=_pending(wish),
            reason=lost,
            drifted=bool(lost),
        )
    return NoOp(subject=wish.subject, reason=_already(wish), pending=_pending(wish))


def _refuse_device(wish: Wish) -> Refusal | None:
    """libvirt can't take the device as things are."""
    if wish.device.node_device or wish.live is not None:
        return None
    return Refusal(
        subject=wish.subject,
        reason=f"libvirt doesn't list {wish.device.address} among its node devices, so it can't take it",
        remedy="`systemctl restart virtnodedevd` (or libvirtd), then `virsh nodedev-list --cap pci`",
        exit=Exit.TRY_LATER,
        name="not-listed",
    )


def _refuse_domain(wish: Wish) -> Refusal | None:
    """The domain can't take the device as things are."""
    domain, subject = wish.domain, wish.subject
    if domain.kind is GuestKind.PVH:
        return Refusal(
            subject=subject,
            reason=f"{domain.name} is PVH, and Xen gives no PCI devices to PVH guests",
            remedy="make it a PV or HVM guest",
            exit=Exit.FAILED,
            name="pvh",
        )
    if not domain.persistent:
        return Refusal(
            subject=subject,
            reason=f"{domain.name} is transient: it has no persistent XML to make this permanent in",
            remedy=f"`virsh define` it first, from `virsh dumpxml {domain.name}`",
            exit=Exit.FAILED,
            name="transient",
        )
    if domain.populated_on_demand and wish.config is None:
        return Refusal(
            subject=subject,
            reason=f"{domain.name} starts with {domain.current_memory} KiB of its {domain.memory} KiB of memory and "
            "gets the rest on demand, and with a PCI device libxl would refuse to start it so",
            remedy=f"make <currentMemory> in its XML as much as <memory> (`virsh edit {domain.name}`), and restart it",
            exit=Exit.FAILED,
            name="memory-on-demand",
        )
    if not domain.running and wish.assignment.when is When.NOW and wish.config is None:
        return Refusal(
            subject=subject,
            reason=f"{domain.name} is shut off, so nothing can be plugged into it",
            remedy=f"`virsh start {domain.name}`, then apply again; or say `when: next-start`",
            exit=Exit.TRY_LATER,
            name="domain-off",
        )
    return None


def _refuse_other_setting(wish: Wish) -> Refusal | None:
    """Whether a hostdev is permissive is said when it is put in."""
    address, permissive = wish.device.address, wish.assignment.permissive
    there = (hostdev for hostdev in (wish.live, wish.config) if hostdev is not None)
    if all(hostdev.write_filtering is not permissive for hostdev in there):
        return None
    return Refusal(
        subject=wish.subject,
        reason=f"{address} is in {wish.domain.name} already, but {'not ' if permissive else ''}permissive, and that "
        "can't be changed in place",
        remedy=f"`cede release {address}`, then apply again",
        exit=Exit.FAILED,
        name="other-setting",
    )


def _refuse_reset(
    wish: Wish, starting: Collection[Address], rivals: Collection[Address]
) -> Refusal | None:
    if wish.live is not None:
        return None
    if wish.plugging:
        return refuse_reset(wish.device, wish.subject, wish.inventory, rivals=rivals)
    together = {hostdev.address for hostdev in wish.domain.config}.union(starting)
    return refuse_reset(wish.device, wish.subject, wish.inventory, together=together)


def _steps(wish: Wish) -> Iterable[Step]:
    address, domain, wanted = wish.device.address, wish.domain, wish.assignment
    alias = OWN_ALIAS + wanted.device
    yield from evict(address, wish.inventory)
    if wish.live is None and not wish.inventory.pciback_loaded:
        yield LoadPciback()
    if wish.live is None and not wish.device.on_pciback:
        was = wish.device.origin  # of one that was half seized, and has no driver now
        yield Seize(address=address, driver=wish.device.driver or (was.driver if was else None))
    if wish.plugging:
        yield HotPlug(
            address=address, domain=domain.name, alias=alias, permissive=wanted.permissive
        )
    features = missing_features(domain)
    if features and (wish.config is None or wish.blocked):
        yield SwitchOn(domain=domain.name, features=features)
    if wish.config is None:
        yield AddToConfig(
            address=address,
            domain=domain.name,
            alias=alias,
            policy=wish.policy.source,
            permissive=wanted.permissive,
        )
    elif wish.foreign:
        yield adopt(wish.device, domain, alias, wish.policy.source)


def missing_features(domain: Domain) -> tuple[str, ...]:
    """What the domain must be started with and its XML doesn't say: PV needs the host's memory map too."""
    lacking = (
        (PASSTHROUGH, not domain.passthrough),
        (E820_HOST, domain.kind is GuestKind.PV and not domain.e820_host),
    )
    return tuple(name for name, lacks in lacking if lacks and name not in domain.features)


def _pending(wish: Wish) -> str:
    name = wish.domain.name
    if wish.live is not None or wish.assignment.when is When.NEXT_START:
        return ""
    if not wish.domain.running:
        return f"start {name}"
    if wish.blocked:
        return f"shut {name} down and start it: it was started without passthrough, so libxl would refuse a hot-plug"
    return ""


def _already(wish: Wish) -> str:
    address, name = wish.device.address, wish.domain.name
    if wish.live is not None:
        return f"{address} is in {name} already"
    return f"{address} is in the persistent XML of {name}, which gets it at its next start"
