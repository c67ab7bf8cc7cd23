"""Targets whose device and domain are both there, the way in and the way out, with all that the rules ask of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, Self

from cede.model.domain import Domain
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import Address, Device, Reset
from cede.model.plan import Purpose, Refused
from cede.model.policy import Assignment, Policy, When
from cede.planner.half_gone import half_gone_in
from cede.planner.resets import bus_mates
from cede.planner.walls import walled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cede.model.domain import Hostdev
    from cede.planner.resolve import Target, Targets


@dataclass(frozen=True, kw_only=True)
class AttachTarget:
    """One assignment with the device and the domain that it means, and all that is around them.

    `functions` are all of the card of which `device` is one, empty for a device of one function. `restart_with` are the
    functions, this one among them, that only a start of the domain can take together; empty if it can be hot-plugged.
    """

    subject: str
    assignment: Assignment
    device: Device
    domain: Domain
    policy: Policy
    inventory: Inventory
    functions: tuple[Address, ...] = ()
    restart_with: tuple[Address, ...] = ()

    @classmethod
    def of(cls, target: Target, targets: Targets) -> AttachTarget | None:
        """Build it from one of the `targets`; None if its device or its domain can't be told."""
        if target.device is None or target.domain is None:
            return None
        return cls(
            subject=target.subject, assignment=target.assignment, device=target.device, domain=target.domain,
            policy=targets.policy, inventory=targets.inventory, functions=target.functions,
        )  # fmt: skip

    @property
    def pair(self) -> tuple[Address, str]:
        """The device's address and the domain's UUID."""
        return (self.device.address, self.domain.uuid)

    @cached_property
    def live(self) -> Hostdev | None:
        """The device in the running domain, or None."""
        return self.domain.live_hostdev(self.device.address)

    @cached_property
    def config(self) -> Hostdev | None:
        """The device in the domain's persistent XML, or None."""
        return self.domain.config_hostdev(self.device.address)

    @property
    def unmanaged(self) -> bool:
        """Whether another tool put the device there."""
        return self.domain.unmanaged(self.device.address)

    @property
    def override(self) -> tuple[str, ...]:
        """The guards that the policy overrides for it."""
        described = self.policy.device(self.assignment.device)
        return described.override if described else ()

    @property
    def others(self) -> tuple[Domain, ...]:
        """The other domains with a hostdev for it, live or persistent."""
        wanting = self.inventory.wanting(self.device.address)
        return tuple(d for d in wanting if d.uuid != self.domain.uuid)

    @property
    def given_outside(self) -> BackendDevice | None:
        """What Xen gave to a guest in which libvirt doesn't list it."""
        address = self.device.address
        return self.inventory.given_outside(address, self.inventory.wanting(address))

    @property
    def has_another_owner(self) -> bool:
        """Whether another guest has or reserves it, or one that can't be told."""
        unknown = self.inventory.owner_unknown(self.device.address)
        return unknown or self.given_outside is not None or bool(self.others)

    @property
    def due(self) -> bool:
        """Whether the running domain should have the device now and does not."""
        return self.domain.running and self.assignment.when is When.NOW and self.live is None

    @property
    def blocked(self) -> bool:
        """Whether libxl would refuse a hot-plug, because the domain was started without passthrough."""
        return self.due and not self.domain.passthrough

    @property
    def plugging(self) -> bool:
        """Whether the device is to be hot-plugged."""
        return self.due and not self.blocked and not self.restart_with

    @property
    def half_gone(self) -> bool:
        """Whether libvirt lists the device in the running domain, and Xen gives it to nobody."""
        return half_gone_in(self.device.address, self.inventory) is self.domain

    @property
    def for_next_start(self) -> bool:
        """Whether the device goes only into the persistent XML, for the domain's next start."""
        later = self.assignment.when is When.NEXT_START
        return self.blocked or later or bool(self.restart_with)

    @property
    def coming(self) -> bool:
        """Whether the domain is to get the device, now or at its next start, from nobody else."""
        return self.live is None and not self.has_another_owner


class _Asked(NamedTuple):
    """What a target asks for: to be hot-plugged, to come to the domain at all, and to come without a restart."""

    plugging: bool
    coming: bool
    now: bool


def _asked(target: AttachTarget) -> _Asked:
    coming = target.coming
    now = coming and not target.blocked and target.assignment.when is When.NOW
    return _Asked(plugging=target.plugging, coming=coming, now=now)


def _only_at_start(
    target: AttachTarget, coming: Mapping[str, frozenset[Address]]
) -> tuple[Address, ...]:
    """The functions that only a start can take together with this one, itself among them; empty if it can be plugged.

    A bus is not reset while another function on it is in use. One that has a reset of its own is plugged after it.
    """
    device, uuid = target.device, target.domain.uuid
    if device.reset is not Reset.BUS:
        return ()
    mates = [
        mate.address
        for mate in bus_mates(device, target.inventory)
        if target.domain.live_hostdev(mate.address)
        or (mate.address in coming.get(uuid, ()) and not mate.resets_alone)
    ]
    return tuple(sorted((device.address, *mates))) if mates else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What all targets together ask for.

    `twice` are the addresses that several devices turned out to be, or that one domain is to have twice; `concurrent`
    those to be hot-plugged now; `assigned` all that are to go to a guest, now or later, paused or not; `coming` those
    that a domain, by UUID, is to get, now or at its next start. `detaching` are the (address, domain UUID) pairs that
    are cleaned up in the same pass. `restart_with` tells of each pair that can't be hot-plugged which functions only a
    start can take together.
    """

    twice: frozenset[Address]
    concurrent: frozenset[Address]
    coming: Mapping[str, frozenset[Address]]
    restart_with: Mapping[tuple[Address, str], tuple[Address, ...]] = field(default_factory=dict)
    detaching: frozenset[tuple[Address, str]] = frozenset()
    assigned: frozenset[Address] = frozenset()

    @classmethod
    def of(
        cls,
        targets: Iterable[AttachTarget],
        detaching: Collection[tuple[Address, str]] = (),
        assigned: Collection[Address] = (),
    ) -> Self:
        """Build the context of `targets`, all of which are `assigned`, as may be others.

        What can't even be looked at asks for nothing, and is refused in its turn.
        """
        names: dict[Address, set[str]] = {}
        pairs: Counter[tuple[Address, str]] = Counter()
        coming: dict[str, set[Address]] = {}
        concurrent: set[Address] = set()
        waiting: list[AttachTarget] = []
        for target in targets:
            address, uuid = target.pair
            asked = walled(target.subject, partial(_asked, target))
            if isinstance(asked, Refused):
                continue
            names.setdefault(address, set()).add(target.assignment.device)
            pairs[target.pair] += 1
            if asked.plugging:
                concurrent.add(address)
            if asked.coming:
                coming.setdefault(uuid, set()).add(address)
            if asked.now:
                waiting.append(target)
        together = {uuid: frozenset(addresses) for uuid, addresses in coming.items()}
        restart_with = {
            t.pair: walled(t.subject, partial(_only_at_start, t, together)) for t in waiting
        }
        twice = {pair[0] for pair, times in pairs.items() if times > 1}
        twice |= {address for address, several in names.items() if len(several) > 1}
        return cls(
            twice=frozenset(twice),
            concurrent=frozenset(concurrent),
            coming=together,
            restart_with={
                pair: addresses
                for pair, addresses in restart_with.items()
                if addresses and not isinstance(addresses, Refused)
            },
            detaching=frozenset(detaching),
            assigned=frozenset(names).union(assigned),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachTarget:
    """One device that is to leave domains, looked up once.

    `device` is None if it has vanished; `name` is how the policy calls it, empty where none does. `domains` are those
    that it is to leave, `running` those of them that run with it; with `elsewhere` another one keeps it. `given` is
    Xen's word on which guest has it, `given_outside` the same if that is none of the `domains`. `interrupted` is the
    running domain in which an attach of cede's was interrupted; with `owner_unknown` nothing says which guest owns it.
    With `return_to_dom0` dom0 is to have it in the end; `returning` tells that this was interrupted.
    """

    address: Address
    subject: str
    purpose: Purpose
    name: str
    return_to_dom0: bool
    device: Device | None
    domains: tuple[Domain, ...]
    running: tuple[Domain, ...]
    elsewhere: bool
    given: BackendDevice | None
    given_outside: BackendDevice | None
    interrupted: Domain | None
    owner_unknown: bool
    returning: bool
    inventory: Inventory

    @classmethod
    def of(
        cls,
        address: Address,
        subject: str,
        inventory: Inventory,
        purpose: Purpose,
        *,
        domains: Iterable[Domain] | None = None,
        name: str = "",
        return_to_dom0: bool = True,
    ) -> Self:
        """Build it of the device at `address`, which is to leave all domains that list it unless some are named."""
        wanting = inventory.wanting(address)
        leaving = wanting if domains is None else tuple(domains)
        return cls(
            address=address,
            subject=subject,
            purpose=purpose,
            name=name,
            return_to_dom0=return_to_dom0,
            device=inventory.device(address),
            domains=leaving,
            running=tuple(domain for domain in leaving if domain.live_hostdev(address)),
            elsewhere=not {d.uuid for d in wanting} <= {d.uuid for d in leaving},
            given=inventory.given(address),
            given_outside=inventory.given_outside(address, leaving),
            interrupted=inventory.interrupted_in(address),
            owner_unknown=inventory.owner_unknown(address),
            returning=any(
                u.return_to_dom0 and not u.attaching for u in inventory.unfinished_at(address)
            ),
            inventory=inventory,
        )
