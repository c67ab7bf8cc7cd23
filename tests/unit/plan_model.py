"""A host made of an inventory alone: what each step makes of it, and what libvirt and Xen would refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.actions import (
    Action,
    AddToConfig,
    Adopt,
    BindToPciback,
    ConfigureVirtualFunction,
    DontLoadAtBoot,
    ForceDetach,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    PutBack,
    RemoveFromConfig,
    RestartDomain,
    ReturnToDom0,
    SetVirtualFunctions,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.model.domain import Domain, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import PCIBACK, Device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.pci import Address


def mac_of(address: Address) -> str:
    """The MAC of the card at `address`, which dom0 sees as long as a driver of its own is bound."""
    return f"52:54:00:{address.bus:02x}:{address.slot:02x}:{address.function:02x}"


def after(actions: Iterable[Action], inventory: Inventory) -> Inventory:
    """The host after `actions`; fails if one of them couldn't be done."""
    for action in actions:
        inventory = _after(action, inventory)
    return inventory


def _after(action: Action, before: Inventory) -> Inventory:
    match action:
        case LoadPciback():
            return replace(before, pciback_loaded=True)
        case (
            LoadAtBoot() | DontLoadAtBoot() | SetVirtualFunctions() | ConfigureVirtualFunction()
        ):  # of nothing in this model
            return before
        case BindToPciback():
            return _bound(action, before)
        case ReturnToDom0():
            return _given_back(action, before)
        case HotPlug():
            return _plugged(action, before)
        case Unplug():
            return _unplugged(action, before)
        case PutBack() | ForceDetach():
            return _taken_up(action, before)
        case AddToConfig() | Adopt() | RemoveFromConfig() | SwitchOn() | SwitchOff():
            return _with_domain(_edited(action, _domain(action.domain, before)), before)
        case RestartDomain():
            raise AssertionError("no plan of these asks for a restart")


def _taken_up(action: PutBack | ForceDetach, before: Inventory) -> Inventory:
    return _put_back(action, before) if isinstance(action, PutBack) else _evicted(action, before)


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


def _bound(action: BindToPciback, before: Inventory) -> Inventory:
    device = _device(action.address, before)
    assert before.pciback_loaded, "libvirt can't load xen-pciback"
    assert before.given(action.address) is None, "it is in use by a guest"
    assert device.driver == action.driver
    changed = replace(
        device, driver=PCIBACK, driver_override=PCIBACK, mac=None, in_pciback_slots=True
    )
    return _with_device(changed, before)


def _given_back(action: ReturnToDom0, before: Inventory) -> Inventory:
    assert before.given(action.address) is None, "it is in use by a guest"
    changed = replace(
        _device(action.address, before),
        driver="e1000e",
        driver_override=None,
        mac=mac_of(action.address),
        in_pciback_slots=False,
    )
    return _with_device(changed, before)


def _plugged(action: HotPlug, before: Inventory) -> Inventory:
    device, domain = _device(action.address, before), _domain(action.domain, before)
    assert device.on_pciback, "unmanaged PCI device must be manually detached from the host"
    assert domain.domid is not None, "domain is not running"
    assert domain.passthrough, "libxenlight failed to attach pci device"
    assert before.given(action.address) is None, "in use by driver xenlight"
    for sibling in before.siblings(device):
        idle = sibling.on_pciback and before.given(sibling.address) is None
        assert device.resets_alone or idle, "active devices on bus, not doing bus reset"
    hostdev = Hostdev(
        address=action.address, alias=action.alias, write_filtering=not action.permissive
    )
    changed = _with_domain(replace(domain, live=(*domain.live, hostdev)), before)
    given = BackendDevice(domid=domain.domid, address=action.address, index=0)
    return replace(changed, backend=(*before.backend, given))


def _unplugged(action: Unplug, before: Inventory) -> Inventory:
    domain = _domain(action.domain, before)
    assert domain.live_hostdev(action.address), "target pci device not found"
    live = tuple(h for h in domain.live if h.address != action.address)
    backend = tuple(
        b for b in before.backend if (b.address, b.domid) != (action.address, domain.domid)
    )
    return replace(_with_domain(replace(domain, live=live), before), backend=backend)


def _put_back(action: PutBack, before: Inventory) -> Inventory:
    device, domain = _device(action.address, before), _domain(action.domain, before)
    assert domain.domid is not None, "domain is not running"
    assert domain.live_hostdev(action.address), "libvirt would never hear of it"
    assert device.on_pciback, "it is not assignable"
    assert before.given(action.address) is None, "it is in use by a guest"
    given = BackendDevice(domid=domain.domid, address=action.address, index=0)
    return replace(before, backend=(*before.backend, given))


def _evicted(action: ForceDetach, before: Inventory) -> Inventory:
    assert not _domain(action.domain, before).live_hostdev(action.address), (
        "libvirt could unplug it"
    )
    backend = tuple(b for b in before.backend if b.address != action.address)
    device = replace(_device(action.address, before), in_guest=False)
    return _with_device(device, replace(before, backend=backend))


def _edited(
    action: AddToConfig | Adopt | RemoveFromConfig | SwitchOn | SwitchOff, domain: Domain
) -> Domain:
    assert domain.persistent, "a transient domain has no persistent XML"
    if isinstance(action, SwitchOn):
        # each work says what it needs, also where an earlier one of the same plan has seen to it
        return replace(domain, features=tuple({*domain.features, *action.features}))
    if isinstance(action, SwitchOff):
        return replace(domain, features=tuple(set(domain.features) - set(action.features)))
    there = domain.config_hostdev(action.address)
    others = tuple(h for h in domain.config if h.address != action.address)
    notes = tuple(m for m in domain.ownership if m.address != action.address)
    if isinstance(action, RemoveFromConfig):
        return replace(domain, config=others, ownership=notes)
    if isinstance(action, Adopt):
        assert there is not None
        hostdev = replace(there, alias=action.alias)
    else:
        assert there is None, "device is already in the domain configuration"
        hostdev = Hostdev(
            address=action.address, alias=action.alias, write_filtering=not action.permissive
        )
    name = action.alias.removeprefix("ua-cede-")
    ownership = Ownership(name=name, address=action.address, policy=action.policy)
    return replace(domain, config=(*others, hostdev), ownership=(*notes, ownership))
