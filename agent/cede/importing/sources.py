"""The devices that each source assigns, in one form, and notes on what a policy can't express."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cede.importing import inexpressible
from cede.importing.xl_cfg import Guest, XlDevice
from cede.model.domain import Domain
from cede.model.inventory import Inventory
from cede.model.pci import Address
from cede.model.pciback_options import SPELLING, Hide
from cede.model.policy import When
from cede.planner.hide_mistakes import why_ignored

ON_PCIBACK = "what is on pciback now"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredDevice:
    """One device of a source; without a domain the device is only to be kept on pciback.

    `origin` is the source in words, `notes` what else the source says of the device.
    """

    address: Address
    origin: str
    domain: str | None = None
    permissive: bool = False
    adopt: bool = False
    when: When = When.NOW
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContent:
    """The devices of one source, and notes on what could not be carried over."""

    wanted: tuple[DesiredDevice, ...] = ()
    notes: tuple[str, ...] = ()


def of_guest(guest: Guest, inventory: Inventory) -> SourceContent:
    """Return the devices that an xl.cfg gives to its guest. A `*` stands for the functions that this host has there."""
    wanted: list[DesiredDevice] = []
    notes = list(guest.notes)
    for device in guest.devices:
        addresses = _addresses(device, inventory)
        if not addresses:
            notes.append(f"{device.place}: not carried over: {_unknown(device)}")
        wanted += [
            DesiredDevice(
                address=address,
                origin=str(device.place),
                domain=guest.name,
                permissive=bool(device.spec.permissive),
                notes=tuple(inexpressible.of_device(device)),
            )
            for address in addresses
        ]
    return SourceContent(wanted=tuple(wanted), notes=tuple(notes))


def _addresses(device: XlDevice, inventory: Inventory) -> tuple[Address, ...]:
    address = device.spec.address
    if address is None:
        return ()
    if not device.spec.every_function:
        return (address,)
    return tuple(
        sorted(
            other.address
            for other in inventory.devices
            if address.same_bus(other.address) and other.address.slot == address.slot
        )
    )


def _unknown(device: XlDevice) -> str:
    if device.spec.name is not None:
        return (
            f"only xl knows which device it calls {device.spec.name!a} (`xl pci-assignable-list -n`); "
            "write the device's address instead"
        )
    return f"this host has no function at {str(device.spec.address).removesuffix('.0')}.*"


def of_domains(inventory: Inventory, names: Collection[str] = ()) -> SourceContent:
    """Return the hostdevs that the administrator put into libvirt's domains, to be adopted as they are.

    `names` are the names or UUIDs of the domains to read, all if empty. A hostdev of a running domain stays assigned
    now, one of its persistent XML at its next start.
    """
    wanted: list[DesiredDevice] = []
    notes: list[str] = []
    for domain in sorted(inventory.domains, key=lambda d: d.name):
        if names and domain.name not in names and domain.uuid not in names:
            continue
        for address in sorted({h.address for h in (*domain.live, *domain.config)}):
            if domain.unmanaged(address):
                wanted.append(_hostdev(domain, address))
            else:
                notes.append(f"{address} in {domain.name} is cede's already; left out")
    return SourceContent(wanted=tuple(wanted), notes=tuple(notes))


def _hostdev(domain: Domain, address: Address) -> DesiredDevice:
    live, config = domain.live_hostdev(address), domain.config_hostdev(address)
    hostdevs = [hostdev for hostdev in (live, config) if hostdev is not None]
    notes: list[str] = []
    if config is None:
        notes.append(
            "only the running domain has the device; `cede apply` adds it to the persistent XML"
        )
    elif live is None and domain.running:
        notes.append("only the persistent XML has the device; the domain gets it at its next start")
    if not domain.persistent:
        notes.append("the domain is transient; `virsh define` it first")
    if any(hostdev.managed for hostdev in hostdevs):
        notes.append(
            "managed='yes' stays: libvirt returns the device to its dom0 driver whenever the domain ends"
        )
    return DesiredDevice(
        address=address,
        origin=f"the XML of {domain.name}",
        domain=domain.name,
        permissive=not hostdevs[0].write_filtering,
        adopt=True,
        when=When.NOW if live is not None else When.NEXT_START,
        notes=tuple(notes),
    )


def of_hide(hide: Hide, inventory: Inventory) -> SourceContent:
    """Return the devices that a `hide=` of xen-pciback keeps from dom0's drivers; `hide=` names no guest."""
    if hide.ignored is not None:
        note = f"{hide.place} has no effect: {why_ignored(hide.ignored)}"
        return SourceContent(notes=(note,))
    addresses = hide.addresses([device.address for device in inventory.devices])
    spelling = "" if hide.by_qubes else f"; {SPELLING}"
    notes = [f"{hide.place} can't be read from {hide.bad!a} on{spelling}"] if hide.bad else []
    if hide.trailing:
        notes.append(
            f"{hide.place} ends at the blank before {hide.trailing!a}, which hides nothing"
        )
    return SourceContent(
        wanted=tuple(DesiredDevice(address=address, origin=hide.place) for address in addresses),
        notes=tuple(notes),
    )


def of_pciback(inventory: Inventory) -> SourceContent:
    """Return the devices that are on pciback now, whoever put them there; pciback doesn't know for which guest."""
    return SourceContent(
        wanted=tuple(
            DesiredDevice(address=device.address, origin=ON_PCIBACK)
            for device in inventory.devices
            if device.on_pciback
        )
    )
