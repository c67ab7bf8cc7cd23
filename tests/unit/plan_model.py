"""A host made of an inventory alone: what each step makes of it, and what libvirt and Xen would refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.domain import Domain, Hostdev, Mark
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import PCIBACK, Device
from cede.model.plan import (
    AddToConfig,
    Adopt,
    DontLoadAtBoot,
    Evict,
    GiveBack,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    RemoveFromConfig,
    Seize,
    Step,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.planner.resets import resets_alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.pci import Address


def mac_of(address: Address) -> str:
    """The MAC of the card at `address`, which dom0 sees as long as a driver of its own is bound."""
    return f"52:54:00:{address.bus:02x}:{address.slot:02x}:{address.function:02x}"


def after(steps: Iterable[Step], inventory: Inventory) -> Inventory:
    """The host after `steps`; fails if one of them couldn't be done."""
    for step in steps:
        inventory = _after(step, inventory)
    return inventory


def _after(step: Step, before: Inventory) -> Inventory:
    match step:
        case LoadPciback():
            return replace(before, pciback_loaded=True)
        case LoadAtBoot() | DontLoadAtBoot():
            return before
        case Seize():
            return _seized(step, before)
        case GiveBack():
            return _given_back(step, before)
        case HotPlug():
            return _plugged(step, before)
        case Unplug():
            return _unplugged(step, before)
        case Evict():
            return _evicted(step, before)
        case AddToConfig() | Adopt() | RemoveFromConfig() | SwitchOn() | SwitchOff():
            return _with_domain(_edited(step, _domain(step.domain, before)), before)


def _domain(name: str, inventory: Inventory) -> Domain:
    found = inventory.domain(name)
    assert found is not None
    return found


def _with_domain(changed: Domain, before: Inventory) -> Inventory:
    domains = tuple(changed if d.uuid == changed.uuid else d for d in before.domains)
    return replace(before, domains=domains)


def _with_device(changed: Device, before: Inventory) -> Inventory:
    devices = tuple(changed if d.address == changed.address else d for d in before.devices)
    return replace(before, devices=devices)


def _device(address: Address, inventory: Inventory) -> Device:
    found = inventory.device(address)
    assert found is not None
    return found


def _seized(step: Seize, before: Inventory) -> Inventory:
    device = _device(step.address, before)
    assert before.pciback_loaded, "libvirt can't load xen-pciback"
    assert before.given(step.address) is None, "it is in use by a guest"
    assert device.driver == step.driver
    changed = replace(
        device, driver=PCIBACK, driver_override=PCIBACK, mac=None, in_pciback_slots=True
    )
    return _with_device(changed, before)


def _given_back(step: GiveBack, before: Inventory) -> Inventory:
    assert before.given(step.address) is None, "it is in use by a guest"
    changed = replace(
        _device(step.address, before),
        driver="e1000e",
        driver_override=None,
        mac=mac_of(step.address),
        in_pciback_slots=False,
    )
    return _with_device(changed, before)


def _plugged(step: HotPlug, before: Inventory) -> Inventory:
    device, domain = _device(step.address, before), _domain(step.domain, before)
    assert device.on_pciback, "unmanaged PCI device must be manually detached from the host"
    assert domain.domid is not None, "domain is not running"
    assert domain.passthrough, "libxenlight failed to attach pci device"
    assert before.given(step.address) is None, "in use by driver xenlight"
    for sibling in before.siblings(device):
        idle = sibling.on_pciback and before.given(sibling.address) is None
        assert resets_alone(device) or idle, "active devices on bus, not doing bus reset"
    hostdev = Hostdev(address=step.address, alias=step.alias, write_filtering=not step.permissive)
    changed = _with_domain(replace(domain, live=(*domain.live, hostdev)), before)
    given = BackendDevice(domid=domain.domid, address=step.address, index=0)
    return replace(changed, backend=(*before.backend, given))


def _unplugged(step: Unplug, before: Inventory) -> Inventory:
    domain = _domain(step.domain, before)
    assert domain.live_hostdev(step.address), "target pci device not found"
    live = tuple(h for h in domain.live if h.address != step.address)
    backend = tuple(
        b for b in before.backend if (b.address, b.domid) != (step.address, domain.domid)
    )
    return replace(_with_domain(replace(domain, live=live), before), backend=backend)


def _evicted(step: Evict, before: Inventory) -> Inventory:
    assert not _domain(step.domain, before).live_hostdev(step.address), "libvirt could unplug it"
    backend = tuple(b for b in before.backend if b.address != step.address)
    device = replace(_device(step.address, before), in_guest=False)
    return _with_device(device, replace(before, backend=backend))


def _edited(
    step: AddToConfig | Adopt | RemoveFromConfig | SwitchOn | SwitchOff, domain: Domain
) -> Domain:
    assert domain.persistent, "a transient domain has no persistent XML"
    if isinstance(step, SwitchOn):
        # each work says what it needs, also where an earlier one of the same plan has seen to it
        return replace(domain, features=tuple({*domain.features, *step.features}))
    if isinstance(step, SwitchOff):
        return replace(domain, features=tuple(set(domain.features) - set(step.features)))
    there = domain.config_hostdev(step.address)
    others = tuple(h for h in domain.config if h.address != step.address)
    notes = tuple(m for m in domain.marks if m.address != step.address)
    if isinstance(step, RemoveFromConfig):
        return replace(domain, config=others, marks=notes)
    if isinstance(step, Adopt):
        assert there is not None
        hostdev = replace(there, alias=step.alias)
    else:
        assert there is None, "device is already in the domain configuration"
        hostdev = Hostdev(
            address=step.address, alias=step.alias, write_filtering=not step.permissive
        )
    name = step.alias.removeprefix("ua-cede-")
    mark = Mark(name=name, address=step.address, policy=step.policy)
    return replace(domain, config=(*others, hostdev), marks=(*notes, mark))
