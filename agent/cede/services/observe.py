"""Observe: through the adapters, one value of the whole host; saved in a file, and read where there is no such host."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from cede.errors import LIBVIRT_SILENT, HungError, PermanentError, UnreachableError, UsageError
from cede.model import serialization
from cede.model.actions import (
    AddToConfig,
    ForceDetach,
    HotPlug,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.domain import Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.pci import PCIBACK, with_original_state
from cede.model.served import Served
from cede.planner.resets import goes_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cede.adapters.ports import Adapters
    from cede.model.actions import Action
    from cede.model.network import Network
    from cede.model.pci import Address, Device, HostUse
    from cede.model.virtual_functions import VirtualFunctions


_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
LIBVIRT_SECONDS = (
    60.0  # below that of looking at the host; libxl's waits hold libvirt's answers up for some 20
)


def observe(adapters: Adapters, *, to_plan: bool = True) -> Inventory:
    """Observe everything that a plan is made from, as it is now, and what cede's journal remembers of it.

    Without `to_plan` it is what a plan is checked against: libvirt's node devices are not asked for.
    Domains come before uses: what their disks and NICs live on is in use. While libvirt gathers its answers, sysfs is
    read. Raises UnreachableError if libvirt or xenstore doesn't answer, HungError if libvirt never does,
    PermanentError if it can't be told what dom0 itself uses, or if the journal can't be read.
    """
    domains_answer = _asking_libvirt(adapters, "listing its domains", adapters.libvirt.domains)
    devices, nodes = adapters.sysfs.devices(), adapters.sysfs.nodes()
    memory = adapters.journal.load_state()
    domains = domains_answer()
    listed_answer = (
        _asking_libvirt(adapters, "listing its node devices", adapters.libvirt.node_devices)
        if to_plan
        else frozenset
    )
    backend = adapters.xenstore.backend()
    network = adapters.links.network()
    uses = find_uses(adapters, network, domains)
    listed = listed_answer()
    if not {served.domid for served in backend} <= {domain.domid for domain in domains}:
        domains = adapters.libvirt.domains()  # one was started meanwhile, or xl made it
    domains = _with_silences(adapters, domains)
    given = {served.address for served in backend}
    # a list without any of the devices that sysfs has isn't plausible, and tells nothing
    known = None if listed.isdisjoint(device.address.node_device for device in devices) else listed
    return Inventory(
        devices=tuple(
            with_original_state(
                device,
                memory.origins.get(device.address),
                node_device=None if known is None else device.address.node_device in known,
                in_guest=_in_guest(device, adapters, given),
                uses=tuple(uses.get(device.address, ())),
                unrestored=network.unrestored(device.interfaces) if device.interfaces else (),
                virtual_functions=_with_settings(device, network),
                nodes=nodes.get(device.address, ()),
            )
            for device in devices
        ),
        domains=domains,
        backend=backend,
        pciback_loaded=adapters.sysfs.pciback_loaded,
        unfinished=memory.unfinished,
        held=memory.held,
        pauses=memory.pauses,
        restarting=memory.restarting,
        restarted=memory.restarted,
        last_applied=memory.last_applied,
        given_before=memory.given,
        quarantined=memory.quarantined,
        origins=memory.each_origin,
        boot=adapters.journal.boot,
        seed=adapters.seed() if any(device.virtual_functions for device in devices) else "",
    )


def _with_settings(device: Device, network: Network) -> VirtualFunctions | None:
    found = device.virtual_functions
    names = device.interfaces
    return found and replace(
        found, settings=network.functions(names), up=not network.any_off(names)
    )


def find_uses(
    adapters: Adapters, network: Network, domains: Collection[Domain]
) -> dict[Address, list[HostUse]]:
    """What dom0 itself uses, and what guests use through dom0 by libvirt's or xenstore's word, whoever started them.

    Raises UnreachableError if xenstore doesn't answer, PermanentError if it can't be told what is in use.
    """
    xenstore = adapters.xenstore
    served = Served(
        disks=_both({d.name: d.host_disks for d in domains}, xenstore.guest_disks()),
        interfaces=_both({d.name: d.host_interfaces for d in domains}, xenstore.guest_interfaces()),
        devices=_both({d.name: d.host_devices for d in domains}, xenstore.guest_devices()),
        pools=_asking_libvirt(
            adapters, "listing its storage pools", adapters.libvirt.storage_pools
        )(),
    )
    return adapters.uses.find(network, served)


def _with_silences(adapters: Adapters, domains: Iterable[Domain]) -> tuple[Domain, ...]:
    """Add why the guest of each running domain can't answer, by Xen's word and by what xenstore has for it."""
    running = tuple(domains)
    if not any(domain.running for domain in running):
        return running
    silences = {**adapters.xenstore.silences(), **adapters.hypervisor.silences()}
    return tuple(
        domain
        if domain.domid is None or domain.domid not in silences
        else replace(domain, silence=silences[domain.domid])
        for domain in running
    )


def _both(
    one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(dict.fromkeys((*one.get(name, ()), *other.get(name, ()))))
        for name in dict.fromkeys((*one, *other))
    }


def _asking_libvirt(adapters: Adapters, what: str, ask: Callable[[], _T]) -> Callable[[], _T]:
    """Begin to ask; what comes back gives the answer, or raises HungError with the name of libvirt's silence."""
    answer = adapters.timeouts.start(f"libvirt, {what},", ask, seconds=LIBVIRT_SECONDS)

    def answered() -> _T:
        try:
            return answer()
        except HungError as hung:
            raise HungError(hung.message, name=LIBVIRT_SILENT, remedy=hung.remedy) from hung

    return answered


def _in_guest(device: Device, adapters: Adapters, given: Collection[Address]) -> bool | None:
    """Whether Xen has given away what is on pciback and, by xenstore, nobody's; None if unknown, and of the others."""
    idle = device.on_pciback and device.address not in given
    return adapters.hypervisor.in_guest(device.address) if idle else None


def observe_host(adapters: Adapters, *, to_plan: bool = True) -> Inventory:
    """Observe, for as long as the administrator would wait; raises HungError if something doesn't answer even then."""
    try:
        inventory = adapters.timeouts.call(
            "looking at the host", lambda: observe(adapters, to_plan=to_plan)
        )
    except (HungError, UnreachableError) as silence:
        raise adapters.daemons.explain(silence) from silence
    _LOG.info("saw %d devices and %d domains", len(inventory.devices), len(inventory.domains))
    return inventory


def look_again(adapters: Adapters, action: Action) -> Inventory:
    """Observe what `planner.recheck` has to know before the action, and no more of the host than that.

    Raises what `observe_host` raises.
    """
    match action:
        case Unplug():  # whose it is may stand in the persistent XML alone
            return _domain(adapters, action.domain, adapters.libvirt.domain)
        case ForceDetach():
            return _domain(adapters, action.domain, adapters.libvirt.running)
        case RemoveFromConfig():
            return _domain(adapters, action.domain, adapters.libvirt.running)
        case AddToConfig():
            return _owners(adapters)
        case ReturnToDom0():
            if adapters.sysfs.driver(action.address) not in {None, PCIBACK}:
                return observe_host(adapters, to_plan=False)
            return _owners(adapters)
        case HotPlug():
            device = adapters.sysfs.device(action.address)
            if device is None or not device.on_pciback or not goes_alone(device):
                return observe_host(adapters, to_plan=False)
            in_guest = adapters.hypervisor.in_guest(device.address)
            return replace(_owners(adapters), devices=(replace(device, in_guest=in_guest),))
        case _:
            return observe_host(adapters, to_plan=False)


def _domain(adapters: Adapters, name: str, read: Callable[[str], Domain | None]) -> Inventory:
    """The one domain, as unreadable if libvirt answers and it can't be read."""
    found: Domain | None
    try:
        found = adapters.timeouts.call(f"reading {name} from libvirt", lambda: read(name))
    except PermanentError as error:
        found = Domain(name=name, uuid=name, kind=GuestKind.HVM, unreadable=error.message)
    domains = () if found is None else (found,)
    return Inventory(
        domains=adapters.timeouts.call(
            "whether guests can answer", lambda: _with_silences(adapters, domains)
        )
    )


def _owners(adapters: Adapters) -> Inventory:
    """Who has which device, by libvirt's and by xenstore's word, and what cede left in a domain."""
    answer = _asking_libvirt(adapters, "listing its domains", adapters.libvirt.domains)
    backend = adapters.timeouts.call("xenstore", adapters.xenstore.backend)
    memory = adapters.journal.load_state()
    return Inventory(
        domains=_with_silences(adapters, answer()),
        backend=backend,
        unfinished=memory.unfinished,
        last_applied=memory.last_applied,
        given_before=memory.given,
        quarantined=memory.quarantined,
    )


_VERSION: Literal[1] = 1
_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHost:
    """A host in a file, as `cede devices --save` writes it and `cede plan --host` reads it."""

    version: Literal[1]
    inventory: Inventory


def save_inventory(inventory: Inventory, path: Path) -> None:
    """Write the inventory as JSON, readable by its owner only; schemas/inventory.schema.json describes it.

    Raises UsageError if the file can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            saved = SavedHost(version=_VERSION, inventory=inventory)
            file.write(serialization.dumps(saved) + "\n")
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror}", name="file-unwritable"
        ) from error


def read_inventory(path: Path) -> Inventory:
    """Read the inventory in a file that `save` wrote; raises UsageError, with the place in it, if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", name="file-unreadable"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not JSON: {error}", name="unreadable-snapshot", remedy=_REMEDY
        ) from error
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise UsageError(
            f"{path} is not a saved host of version {_VERSION}",
            name="unreadable-snapshot",
            remedy=_REMEDY,
        )
    try:
        inventory: Inventory = serialization.build(Inventory, data.get("inventory"), "inventory")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}", name="unreadable-snapshot", remedy=_REMEDY) from error
    return inventory


_REMEDY = "make one with `cede devices --save FILE`"
