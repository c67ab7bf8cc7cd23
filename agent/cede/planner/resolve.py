"""Resolve: what each assignment of a policy means on this host, decided once and carried through the whole pass.

Planning, verifying and recording read the same targets. With `any: true` a second look could choose another device,
since what the pass has done meanwhile decides which ones are free.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Card, Refused
from cede.model.policy import Functions
from cede.planner.match import resolve_device
from cede.planner.paused import pause_of
from cede.planner.pools import Pools
from cede.planner.virtual_functions import (
    Physical,
    function_of,
    physical_functions,
    with_physical_named,
)
from cede.planner.walls import walled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.pci import Address, Device
    from cede.model.policy import Assignment, DevicePolicy, Policy


def subject_of(assignment: Assignment) -> str:
    """Return how plans, reports and errors call an assignment."""
    return f"{assignment.device} -> {assignment.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One assignment with the device and the domain that it means, or one function of the card that it means.

    `functions` are all of such a card, empty for a device of one function. `refusal` says why device or domain is None,
    and is None itself if both are there. `pause` is what the administrator said of the assignment, its device or its
    domain; of a card any function counts.
    """

    assignment: Assignment
    device: Device | None
    domain: Domain | None
    functions: tuple[Address, ...] = ()
    refusal: Refused | None = None
    pause: Pause | None = None

    @property
    def subject(self) -> str:
        """How it is called in plans, reports and errors: the assignment, of a card with the function's address."""
        if self.functions and self.device is not None:
            return f"{self.assigned_as} ({self.device.address})"
        return self.assigned_as

    @property
    def assigned_as(self) -> str:
        """How the assignment is called, of which a card's functions each are a target."""
        return subject_of(self.assignment)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The address of the device, or those of all functions of its card."""
        return self.functions or ((self.device.address,) if self.device else ())

    @property
    def attached(self) -> bool:
        """Whether the running domain had the device when the host was observed."""
        return bool(self.device and self.domain and self.domain.live_hostdev(self.device.address))

    @property
    def persistent(self) -> bool:
        """Whether the domain's persistent XML had the device when the host was observed."""
        return bool(self.device and self.domain and self.domain.config_hostdev(self.device.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of one pass, in the policy's order, with the policy and the inventory that they were made from.

    `physical` is what is decided of the devices that are to have virtual functions, by name.
    """

    policy: Policy
    inventory: Inventory
    each: tuple[Target, ...]
    physical: Mapping[str, Physical] = field(default_factory=dict)

    @property
    def unresolved(self) -> frozenset[str]:
        """The names of the devices that can't be told at the moment."""
        return frozenset(t.assignment.device for t in self.each if t.device is None)

    def functions(self, described: DevicePolicy, subject: str) -> tuple[Device, ...] | Refused:
        """Resolve a device of the policy, assigned or not, to all functions that are meant; a refusal is of `subject`.

        Where no assignment tells, notes of one-offs count as well.
        """
        own = {
            target.device.address: target.device
            for target in self.each
            if target.assignment.device == described.name and target.device is not None
        }
        if own:
            return tuple(own.values())
        others = {t.device.address: t.assignment.device for t in self.each if t.device is not None}
        named = with_physical_named(described, self.policy, self.inventory, self.physical)
        if isinstance(named, Refused):
            return replace(named, subject=subject)
        pools = Pools.of(self.policy, self.inventory)
        device = resolve_device(
            named, self.inventory, subject,
            choose=lambda fitting, before: pools.choose(named, fitting, before, others, subject, ""),
        )  # fmt: skip
        if isinstance(device, Refused):
            return device
        return functions_of(device, described, self.inventory)

    @property
    def cards(self) -> tuple[Card, ...]:
        """The assignments of several functions, each with their subjects."""
        found: dict[str, list[str]] = {}
        for target in self.each:
            if target.functions:
                found.setdefault(target.assigned_as, []).append(target.subject)
        return tuple(Card(assignment=of, functions=tuple(each)) for of, each in found.items())

    def seen_in(self, inventory: Inventory) -> Targets:
        """Return the same devices and domains as a later inventory has them."""
        each = (
            replace(
                target,
                device=target.device and inventory.device(target.device.address),
                domain=target.domain and inventory.domain(target.domain.uuid),
            )
            for target in self.each
        )
        return replace(self, inventory=inventory, each=tuple(each))

    def affected(self, pauses: Iterable[Pause]) -> frozenset[str]:
        """Return the subjects of the assignments that these pauses speak of."""
        only = replace(self.inventory, pauses=tuple(pauses))
        return frozenset(
            target.subject
            for target in self.each
            if _pause(target.assignment, target.addresses, target.domain, only) is not None
        )


def resolve_targets(policy: Policy, inventory: Inventory) -> Targets:
    """Resolve the target of every assignment.

    Those that any device will do for choose last, each name another one, and of them first those that have one already.
    """
    physical = physical_functions(policy, inventory)
    devices = _devices(policy, inventory, physical)
    return Targets(
        policy=policy,
        inventory=inventory,
        each=tuple(
            _walled_target(assignment, found, inventory, () if len(functions) == 1 else functions)
            for assignment in policy.assignments
            for functions in (devices[assignment],)
            for found in functions
        ),
        physical=physical,
    )


def functions_of(
    device: Device, described: DevicePolicy, inventory: Inventory
) -> tuple[Device, ...]:
    """Return the functions that the policy means with the `device` that it matches, in the order of hot-plugging.

    A virtual function in the slot of its physical one is no part of the card. What can only be reset with its bus comes
    first: libvirt resets the bus as long as no other function on it is in use.
    """
    if described.functions is Functions.ONE or device.physical_function is not None:
        return (device,)
    slot = (
        other
        for other in (device, *inventory.siblings(device))
        if other.same_card(device) and other.physical_function is None
    )
    return tuple(sorted(slot, key=lambda one: (one.resets_alone, one.address)))


def _walled_target(
    assignment: Assignment,
    found: Device | Refused,
    inventory: Inventory,
    functions: Iterable[Device | Refused],
) -> Target:
    """The target; one whose device or domain can't even be looked at is none of both, for the rest of the pass."""

    def looked_at() -> tuple[Target, bool, bool]:
        target = _target(assignment, found, inventory, functions)
        return target, target.attached, target.persistent

    answer = walled(subject_of(assignment), looked_at)
    if isinstance(answer, Refused):
        return Target(assignment=assignment, device=None, domain=None, refusal=answer)
    return answer[0]


def _target(
    assignment: Assignment,
    found: Device | Refused,
    inventory: Inventory,
    functions: Iterable[Device | Refused],
) -> Target:
    domain = inventory.domain(assignment.domain)
    device = None if isinstance(found, Refused) else found
    refusal = found if isinstance(found, Refused) else None
    if refusal is None and domain is None:
        refusal = _refuse_unknown(assignment)
    target = Target(
        assignment=assignment,
        device=device,
        domain=domain,
        functions=tuple(one.address for one in functions if not isinstance(one, Refused)),
        refusal=refusal,
    )
    return replace(target, pause=_pause(assignment, target.addresses, domain, inventory))


def _pause(
    assignment: Assignment,
    addresses: Iterable[Address],
    domain: Domain | None,
    inventory: Inventory,
) -> Pause | None:
    """Of all functions of a card: drains before pauses."""
    found = [
        pause_of(
            inventory, device=assignment.device, address=address,
            domain=domain, named=assignment.domain,
        )
        for address in (*addresses, None)
    ]  # fmt: skip
    pauses = [pause for pause in found if pause is not None]
    return next((pause for pause in pauses if pause.drained), next(iter(pauses), None))


def _devices(
    policy: Policy, inventory: Inventory, physical: Mapping[str, Physical]
) -> dict[Assignment, tuple[Device | Refused, ...]]:
    """The functions that each assignment means, or a refusal alone."""
    found: dict[Assignment, tuple[Device | Refused, ...]] = {}
    taken: dict[Address, str] = {}
    pools = Pools.of(policy, inventory)
    described = {a: d for a in policy.assignments if (d := policy.device(a.device)) is not None}

    had = {(gave.device, gave.domain) for gave in inventory.given_before}

    def order(assignment: Assignment) -> tuple[bool, bool, bool, bool]:
        if not described[assignment].match.any_one:
            return False, False, False, False
        domain = inventory.domain(assignment.domain)
        before = domain is not None and (assignment.device, domain.name) in had
        return True, not inventory.owned_as(assignment.device), domain is None, not before

    for assignment in sorted(described, key=order):
        subject = subject_of(assignment)
        named = with_physical_named(described[assignment], policy, inventory, physical)
        if isinstance(named, Refused):
            found[assignment] = (replace(named, subject=subject),)
            continue
        look = partial(
            resolve_device, named, inventory, subject, assignment.domain, source=policy.source,
            choose=partial(_chosen, pools, named, taken, subject, assignment),
        )  # fmt: skip
        device = _unless_kept_back(walled(subject, look), named, assignment, inventory, physical)
        if isinstance(device, Refused):
            found[assignment] = (device,)
            continue
        functions = walled(subject, partial(functions_of, device, named, inventory))
        found[assignment] = (functions,) if isinstance(functions, Refused) else functions
        if not isinstance(functions, Refused):
            taken |= dict.fromkeys((one.address for one in functions), assignment.device)
    return found


def _chosen(
    pools: Pools,
    described: DevicePolicy,
    taken: Mapping[Address, str],
    subject: str,
    assignment: Assignment,
    fitting: list[Device],
    before: list[Device],
) -> Device | Refused:
    """Return the device of a pool, which is none of those `taken` by other names."""
    others = {at: name for at, name in taken.items() if name != described.name}
    return pools.choose(described, fitting, before, others, subject, assignment.domain)


def _unless_kept_back(
    found: Device | Refused,
    described: DevicePolicy,
    assignment: Assignment,
    inventory: Inventory,
    physical: Mapping[str, Physical],
) -> Device | Refused:
    """Return what was found, unless it is a virtual function that isn't made or set up yet, and no domain has it."""
    device = None if isinstance(found, Refused) else found
    if not physical or (device is not None and inventory.wanting(device.address)):
        return found
    at = function_of(described, inventory) if device is None else device.physical_function
    for one in physical.values():
        refused = one.keeps_back(subject_of(assignment), device) if at == one.address else None
        if at is not None and refused is not None:
            return refused
    return found


def _refuse_unknown(assignment: Assignment) -> Refused:
    return Refused(
        subject=subject_of(assignment),
        reason=f"libvirt knows no domain {assignment.domain} ({assignment.place})",
        remedy="`virsh list --all` lists the domains",
        kind=FailureKind.USAGE,
        rule="no-domain",
    )
