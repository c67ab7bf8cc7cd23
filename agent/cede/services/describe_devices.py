"""The devices of a host with all that helps to choose one: names, what hangs on them, who has them, their fitness."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from cede.model.pci import Address, Device, HostUse, Names
from cede.model.plan import Sentence
from cede.planner.fitness import Fitness, fitness
from cede.planner.guards import guards
from cede.planner.resets import bus_mates
from cede.util.json_keywords import Keywords

if TYPE_CHECKING:
    from cede.model.inventory import Inventory
    from cede.model.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedDevice(Device):
    """A device with all that helps to choose: its names, what hangs on it, and whether a guest can have it.

    `holder` is who has it: a domain's name, `domain N` if libvirt doesn't know it, `assignable` (on pciback, in no
    domain), `unknown` (on pciback, and Xen can't be asked) or `dom0`; `siblings` are the functions that a reset of its
    bus resets too, none on a root bus, which has no reset; `group` are the functions that go together, itself among
    them, by a reset or a requester id, none if it goes alone; `kept` is why the host keeps it: its uses, what the
    policy protects, and whether it is a bridge.
    """

    holder: Sentence
    names: Names
    siblings: tuple[Address, ...]
    group: tuple[Address, ...]
    kept: tuple[HostUse, ...]
    fitness: Fitness


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishedDevice:
    """An address that `domains` list and this host no longer has."""

    address: Address
    domains: Annotated[tuple[str, ...], Keywords(min_items=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesOutput:
    """What `cede devices --json` prints.

    `devices` are the host's PCI functions in the order of their addresses, or those that were named; `vanished` are
    what domains list and the host no longer has.
    """

    devices: tuple[DescribedDevice, ...]
    vanished: tuple[VanishedDevice, ...]


def describe_device(
    device: Device,
    inventory: Inventory,
    policy: Policy,
    names: Names,
    group: tuple[Address, ...] = (),
) -> DescribedDevice:
    """Return what is known of one device; of the `policy` only what it protects counts. `group` is of `groups`."""
    known: dict[str, Any] = {field.name: getattr(device, field.name) for field in fields(device)}
    return DescribedDevice(
        **known,
        holder=_holder(device, inventory),
        names=names,
        siblings=tuple(other.address for other in bus_mates(device, inventory)),
        group=group,
        kept=guards(device, policy.protect),
        fitness=fitness(device, inventory, policy),
    )


def vanished_devices(inventory: Inventory) -> tuple[VanishedDevice, ...]:
    """Return the addresses that domains list and this host no longer has, with the names of those domains."""
    found: dict[Address, list[str]] = {}
    for domain in inventory.domains:
        for address in dict.fromkeys(h.address for h in (*domain.live, *domain.config)):
            if inventory.device(address) is None:
                found.setdefault(address, []).append(domain.name)
    return tuple(
        VanishedDevice(address=address, domains=tuple(names))
        for address, names in sorted(found.items())
    )


def _holder(device: Device, inventory: Inventory) -> str:
    """Return who has the device now: a domain's name, `assignable` (on pciback, in no domain), dom0, or `unknown`."""
    given = inventory.given(device.address)
    if given is None:
        if inventory.owner_untold(device.address):
            return "unknown"
        return "assignable" if device.on_pciback else "dom0"
    domain = inventory.domain_by_id(given.domid)
    return domain.name if domain else f"domain {given.domid}"
