"""Observe: through the adapters, one value of the whole host."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.inventory import Inventory
from cede.model.pci import with_original_state

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.pci import Address, Device, OriginalState


_LOG = logging.getLogger(__name__)


def observe(adapters: Adapters) -> Inventory:
    """Everything a plan is made from, as it is now, and what cede's journal remembers of it.

    Domains come before uses: what their disks and NICs live on is in use. While libvirt gathers its answers, sysfs is
    read. Raises UnreachableError if libvirt or xenstore doesn't answer, HungError if libvirt never does,
    PermanentError if somebody is logged in over ssh and it can't be told on which interface, or if the journal can't
    be read.
    """
    domains_answer = adapters.timeouts.start("listing libvirt's domains", adapters.libvirt.domains)
    devices = adapters.sysfs.devices()
    memory = adapters.journal.load_state()
    domains = domains_answer()
    listed_answer = adapters.timeouts.start(
        "listing libvirt's node devices", adapters.libvirt.node_devices
    )
    uses = adapters.uses.find(
        disks={domain.name: domain.host_disks for domain in domains},
        interfaces={domain.name: domain.host_interfaces for domain in domains},
    )
    backend = adapters.xenstore.backend()
    listed = listed_answer()
    if not {served.domid for served in backend} <= {domain.domid for domain in domains}:
        domains = adapters.libvirt.domains()  # one was started meanwhile, or xl made it
    given = {served.address for served in backend}
    return Inventory(
        devices=tuple(
            replace(
                _known(device, adapters, listed, given, memory.origins.get(device.address)),
                uses=tuple(uses.get(device.address, ())),
            )
            for device in devices
        ),
        domains=domains,
        backend=backend,
        pciback_loaded=adapters.sysfs.pciback_loaded,
        unfinished=memory.unfinished,
        held=memory.held,
        pauses=memory.pauses,
        last_applied=memory.last_applied,
    )


def _known(
    device: Device,
    adapters: Adapters,
    listed: Collection[str],
    given: Collection[Address],
    origin: OriginalState | None,
) -> Device:
    """The device with what libvirt, Xen and the journal know of it.

    A NIC on pciback has no interface to tell its MAC: the journal remembers that of the very same card.
    """
    idle = device.on_pciback and device.address not in given
    return replace(
        with_original_state(device, origin),
        node_device=device.address.node_device in listed,
        in_guest=idle and bool(adapters.hypervisor.in_guest(device.address)),
    )


def observe_host(adapters: Adapters) -> Inventory:
    """Observe, for as long as the administrator would wait; raises HungError if something doesn't answer even then."""
    inventory = adapters.timeouts.call("looking at the host", lambda: observe(adapters))
    _LOG.info("saw %d devices and %d domains", len(inventory.devices), len(inventory.domains))
    return inventory
