"""Observe: through the doors, one value of the whole host."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.inventory import Inventory
from cede.model.pci import remembered
from cede.util.timeouts import begin, within

if TYPE_CHECKING:
    from cede.adapters.composition import Doors
    from cede.model.pci import Address, Device, Origin


def observe(doors: Doors) -> Inventory:
    """Everything a plan is made from, as it is now, and what cede's journal remembers of it.

    Domains come before uses: what their disks and NICs live on is in use. While libvirt gathers its answers, sysfs is
    read. Raises UnreachableError if libvirt or xenstore doesn't answer, HungError if libvirt never does,
    PermanentError if somebody is logged in over ssh and it can't be told on which interface, or if the journal can't
    be read.
    """
    domains_told = begin("listing libvirt's domains", doors.libvirt.domains)
    devices = doors.sysfs.devices()
    memory = doors.journal.memory()
    domains = domains_told()
    listed_told = begin("listing libvirt's node devices", doors.libvirt.node_devices)
    uses = doors.uses.find(
        disks={domain.name: domain.host_disks for domain in domains},
        interfaces={domain.name: domain.host_interfaces for domain in domains},
    )
    backend = doors.xenstore.backend()
    listed = listed_told()
    if not {served.domid for served in backend} <= {domain.domid for domain in domains}:
        domains = doors.libvirt.domains()  # one was started meanwhile, or xl made it
    given = {served.address for served in backend}
    return Inventory(
        devices=tuple(
            replace(
                _known(device, doors, listed, given, memory.origins.get(device.address)),
                uses=tuple(uses.get(device.address, ())),
            )
            for device in devices
        ),
        domains=domains,
        backend=backend,
        pciback_loaded=doors.sysfs.pciback_loaded,
        unfinished=memory.unfinished,
        held=memory.held,
        pauses=memory.pauses,
        attachments=memory.attachments,
    )


def _known(
    device: Device,
    doors: Doors,
    listed: Collection[str],
    given: Collection[Address],
    origin: Origin | None,
) -> Device:
    """The device with what libvirt, Xen and the journal know of it.

    A NIC on pciback has no interface to tell its MAC: the journal remembers that of the very same card.
    """
    idle = device.on_pciback and device.address not in given
    return replace(
        remembered(device, origin),
        node_device=device.address.node_device in listed,
        in_guest=idle and bool(doors.hypervisor.in_guest(device.address)),
    )


def look_around(doors: Doors) -> Inventory:
    """Observe, for as long as a person would wait; raises HungError if something doesn't answer even then."""
    return within("looking at the host", lambda: observe(doors))
