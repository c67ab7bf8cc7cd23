"""The inventory: the whole host as seen at one moment, and all that a plan is made from.

All values are frozen, keyword-only and made of plain data, so that a plan can be reasoned about, saved and compared
without a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cede.model.domain import Domain, GuestKind, Ownership
from cede.model.journal_state import (
    Given,
    Held,
    LastApplied,
    Origin,
    Pause,
    Quarantined,
    Restarted,
    Restarting,
    Unfinished,
)
from cede.model.pci import Address, Device, OriginalState

INITIALISING, INITIALISED, CONNECTED, CLOSING, RECONFIGURING = (
    1,
    3,
    4,
    5,
    7,
)  # xen/include/public/io/xenbus.h


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendDevice:
    """One device that Xen's PCI backend has given to a guest, whoever did it.

    Read from `/local/domain/0/backend/pci/<domid>/0` (xen/include/public/io/pciif.h and tools/libs/light/libxl_pci.c).
    `domid` is the guest's id; `index` is the device's number N there; `state` is state-N; `options` is opts-N;
    `backend_state` and `frontend_state` are the xenbus states of the connection (4 is Connected); `virtual_slot` is
    pciback's vdev-N, and `device_model_slot` libxl's vdevfn-N, each None as long as that isn't said.
    """

    domid: int
    address: Address
    index: int
    state: int | None = None
    backend_state: int | None = None
    frontend_state: int | None = None
    virtual_slot: Address | None = None
    device_model_slot: Address | None = None
    options: str = ""

    def slot_in(self, kind: GuestKind) -> Address | None:
        """Return where a guest of that kind sees the device; None as long as that isn't said.

        pcifront takes pciback's word, whatever libxl was told to ask for; the device model plugs a card where it finds
        room among the emulated ones, and pciback's word, always slot 0, is then that of an emulated one.
        """
        return self.virtual_slot if kind is GuestKind.PV else self.device_model_slot

    @property
    def detach_given_up(self) -> bool:
        """Whether the guest let go of it after libxl had stopped waiting (10 s), so that only the nodes are left.

        For a moment each detach of a PV guest's device looks like that, before libxl removes the nodes
        (tools/libs/light/libxl_pci.c, libxl__device_pci_remove_xenstore).
        """
        return (self.state, self.backend_state, self.frontend_state) == (
            CLOSING,
            CONNECTED,
            CONNECTED,
        )

    @property
    def closing(self) -> bool:
        """Whether a detach was asked for; the guest has yet to answer, unless `detach_given_up`."""
        return self.state == CLOSING


@dataclass(frozen=True, slots=True, kw_only=True)
class LibxlNote:
    """libxl's record of a device given to a domain: xenstore's `/libxl/pci/<DDDD-BB-SS-F>/domid` (libxl_pci.c)."""

    address: Address
    domid: int


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The whole host at one moment, all that a plan is made from.

    `devices` are all PCI functions; `domains` are all but dom0; `backend` is what Xen's PCI backend has given away;
    `pciback_loaded` tells whether the module xen-pciback is loaded. The rest is what cede's journal adds; `unfinished`
    are the changes that an earlier cede left unfinished; `held` and `pauses` are what is left alone; `last_applied` is
    where the last pass left devices; `given_before` is which domain cede gave which card to last; `quarantined` are
    the cards that were found broken; `origins` are what dom0 had at an address when cede took the card there; `boot` is
    the id of dom0's present boot; `restarting` are the restarts that were interrupted in it, `restarted` the last ones
    that were not. `seed` is the host's own, made of its machine-id; empty if it has none, or no device with virtual
    functions to make.

    Look-ups are indexed, so that planning for thousands of domains stays linear; what they find is in the order of
    addresses and names, whatever order the host was read in.
    """

    devices: tuple[Device, ...] = ()
    domains: tuple[Domain, ...] = ()
    backend: tuple[BackendDevice, ...] = ()
    pciback_loaded: bool = False
    unfinished: tuple[Unfinished, ...] = ()
    held: tuple[Held, ...] = ()
    pauses: tuple[Pause, ...] = ()
    last_applied: tuple[LastApplied, ...] = ()
    given_before: tuple[Given, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    origins: tuple[Origin, ...] = ()
    boot: str = ""
    restarting: tuple[Restarting, ...] = ()
    restarted: tuple[Restarted, ...] = ()
    seed: str = ""

    @cached_property
    def _by_address(self) -> dict[Address, Device]:
        return {device.address: device for device in self.devices}

    @cached_property
    def _by_name(self) -> dict[str, Domain]:
        return {d.uuid: d for d in self.domains} | {d.name: d for d in self.domains}

    @cached_property
    def _by_id(self) -> dict[int, Domain]:
        return {d.domid: d for d in self.domains if d.domid is not None}

    @cached_property
    def unreadable(self) -> tuple[Domain, ...]:
        """The domains whose XML can't be read: what they have, or reserve, can't be told."""
        return tuple(domain for domain in self.domains if domain.unreadable)

    @cached_property
    def disks_unknown(self) -> Domain | None:
        """The first domain of which it can't be told on which of dom0's disks it lives; None if all can be told."""
        return next((domain for domain in self.domains if domain.disks_unknown), None)

    @cached_property
    def guards_in_use(self) -> frozenset[str]:
        """The guards of all that dom0 uses of any device."""
        return frozenset(use.guard for device in self.devices for use in device.uses)

    @cached_property
    def _origins(self) -> dict[Address, OriginalState]:
        return {origin.address: origin.state for origin in reversed(self.origins)}

    @cached_property
    def _unfinished(self) -> dict[Address, tuple[Unfinished, ...]]:
        found: dict[Address, tuple[Unfinished, ...]] = {}
        for change in self.unfinished:
            found[change.address] = (*found.get(change.address, ()), change)
        return found

    @cached_property
    def _given(self) -> dict[Address, BackendDevice]:
        return {given.address: given for given in reversed(self.backend)}

    @cached_property
    def _last_applied(self) -> dict[tuple[Address, str], LastApplied]:
        return {(left.address, left.domain): left for left in self.last_applied}

    @cached_property
    def _given_before(self) -> dict[Address, Given]:
        return {given.address: given for given in self.given_before}

    @cached_property
    def _wanting(self) -> dict[Address, tuple[Domain, ...]]:
        wanting: dict[Address, dict[str, Domain]] = {}
        for domain in sorted(self.domains, key=lambda d: d.name):
            for hostdev in (*domain.live, *domain.config):
                wanting.setdefault(hostdev.address, {})[domain.uuid] = domain
        return {address: tuple(domains.values()) for address, domains in wanting.items()}

    @cached_property
    def _by_bus(self) -> dict[tuple[int, int], tuple[Device, ...]]:
        buses: dict[tuple[int, int], list[Device]] = {}
        for device in sorted(self.devices, key=lambda d: d.address):
            buses.setdefault((device.address.segment, device.address.bus), []).append(device)
        return {bus: tuple(devices) for bus, devices in buses.items()}

    @cached_property
    def _by_trait(self) -> dict[str, dict[object, list[Device]]]:
        """Filled as traits are asked for: most hosts are asked for one or two."""
        return {}

    @cached_property
    def _owned(self) -> dict[str | Address, list[tuple[Domain, Ownership]]]:
        owned: dict[str | Address, list[tuple[Domain, Ownership]]] = {}
        for domain in sorted(self.domains, key=lambda d: d.name):
            for ownership in domain.owned:
                for key in (ownership.name, ownership.address):
                    owned.setdefault(key, []).append((domain, ownership))
        return owned

    def device(self, address: Address) -> Device | None:
        """Return the device at `address`, or None."""
        return self._by_address.get(address)

    def origin(self, address: Address) -> OriginalState | None:
        """Return what dom0 had at `address` when cede took the card there, or None if it took none."""
        return self._origins.get(address)

    def unfinished_at(self, address: Address) -> Sequence[Unfinished]:
        """Return the changes of the device at `address` that an earlier cede left unfinished."""
        return self._unfinished.get(address, ())

    def having(self, trait: str, value: object) -> Sequence[Device]:
        """Return the devices of which one of TRAITS has that value, in listed order."""
        index = self._by_trait.get(trait)
        if index is None:
            index = {}
            for device in self.devices:
                has = getattr(device, trait, None) or getattr(device.identity, trait, None)
                index.setdefault(has, []).append(device)
            self._by_trait[trait] = index
        return index.get(value, ())

    def owned_as(self, name: str) -> Sequence[tuple[Domain, Ownership]]:
        """Return cede's notes on devices that it gave under `name`, and in which domain."""
        return self._owned.get(name, ())

    def owned_at(self, address: Address) -> Sequence[tuple[Domain, Ownership]]:
        """Return cede's notes on the device at `address`, and in which domain."""
        return self._owned.get(address, ())

    def siblings(self, device: Device) -> tuple[Device, ...]:
        """Return the other functions on its bus: a secondary bus reset of one resets them all."""
        bus = self._by_bus.get((device.address.segment, device.address.bus), ())
        return tuple(other for other in bus if other.address != device.address)

    @cached_property
    def _by_requester(self) -> dict[Address, tuple[Device, ...]]:
        groups: dict[Address, list[Device]] = {}
        for device in sorted(self.devices, key=lambda d: d.address):
            if device.requester is not None:
                groups.setdefault(device.requester, []).append(device)
        return {bridge: tuple(devices) for bridge, devices in groups.items()}

    def sharing_requester(self, device: Device) -> tuple[Device, ...]:
        """The other functions that reach memory under the same requester id: an IOMMU can't tell them apart."""
        group = self._by_requester.get(device.requester, ()) if device.requester else ()
        return tuple(other for other in group if other.address != device.address)

    def domain(self, name_or_uuid: str) -> Domain | None:
        """Return the domain of that name, else of that UUID, or None."""
        return self._by_name.get(name_or_uuid) or self._by_name.get(name_or_uuid.lower())

    def last_applied_in(self, address: Address, domain: Domain) -> LastApplied | None:
        """Return where the last pass left the device in that domain, or None if it didn't, or took it out."""
        return self._last_applied.get((address, domain.uuid))

    def given(self, address: Address) -> BackendDevice | None:
        """Return Xen's own word on which guest has the device, or None."""
        return self._given.get(address)

    def quarantine(self, device: Device) -> Quarantined | None:
        """Return what the journal has of a quarantine of this very card, lifted or not, or None."""
        found = (q for q in self.quarantined if q.address == device.address)
        known = (
            q
            for q in found
            if None in {q.instance, device.instance} or q.instance == device.instance
        )
        return next(known, None)

    def gave(self, address: Address) -> Given | None:
        """Return which domain cede gave the device at `address` to last, or None if it gave it to none."""
        return self._given_before.get(address)

    def forgotten_in(self, address: Address) -> Domain | None:
        """Return the running domain that cede gave the device to and that has it yet, though libvirt forgot that.

        A detach by another tool that failed leaves it so. Without cede's note in the domain it is the other tool's.
        """
        given, before = self.given(address), self.gave(address)
        if given is None or given.closing or before is None or before.domid != given.domid:
            return None
        domain = self.domain_by_id(given.domid)
        if domain is None or domain.unreadable or domain.live_hostdev(address):
            return None
        return domain if domain.name == before.domain and domain.ownership_of(address) else None

    def interrupted_in(self, address: Address) -> Domain | None:
        """Return the running domain in which a change was interrupted, if Xen still gives it the device, else None.

        libvirt no longer lists it, so only cede's own journal tells it from one that `xl` attached. What a guest let go
        of too late is nobody's, whoever had given it.
        """
        forgotten = self.forgotten_in(address)
        if forgotten is not None:
            return forgotten
        given, device = self.given(address), self.device(address)
        if given is not None and given.detach_given_up:
            domain = self.domain_by_id(given.domid)
            unknown = domain is None or domain.unreadable
            return None if unknown or domain is None or domain.live_hostdev(address) else domain
        for started in self.unfinished_at(address):
            domain = self.domain(started.domain) if started.moved else None
            if domain is None or domain.unreadable:
                continue
            if not domain.running or domain.live_hostdev(address):
                continue
            if started.domids and domain.domid not in started.domids:
                continue  # what it has now it was given after its restart
            if given is not None and given.domid == domain.domid:
                return domain
            if given is None and device is not None and device.in_guest:
                return domain
        return None

    def unreadable_holder(self, address: Address) -> Domain | None:
        """Return the domain with an unreadable XML that may have the device or reserve it; None if none is known to.

        What it has is xenstore's word. What it reserves is what can be made out of its XML, and what cede left there,
        or was about to.
        """
        given = self.given(address)
        begun = {started.domain for started in self.unfinished_at(address)}
        for domain in self.unreadable:
            has = given is not None and given.domid == domain.domid
            listed = domain.live_hostdev(address) or domain.config_hostdev(address)
            recorded = any(note.address == address for note in domain.ownership)
            left = self.last_applied_in(address, domain)
            if has or listed or recorded or left or domain.name in begun or domain.uuid in begun:
                return domain
        return None

    def owner_unknown(self, address: Address) -> bool:
        """Return whether a guest owns the device by Xen's word, and neither xenstore nor the journal says which."""
        device = self.device(address)
        owned = device is not None and device.in_guest is True
        return owned and self.given(address) is None and self.interrupted_in(address) is None

    def owner_untold(self, address: Address) -> bool:
        """Tell whether a guest may own the device: it is idle on pciback, and Xen can't be asked."""
        device = self.device(address)
        idle = device is not None and device.on_pciback and self.given(address) is None
        return idle and device is not None and device.in_guest is None

    def given_outside(self, address: Address, domains: Iterable[Domain]) -> BackendDevice | None:
        """Return what Xen gave to a guest other than those `domains` that run with it; not what an attach left."""
        given = self.given(address)
        if given is None or self.interrupted_in(address) is not None:
            return None
        listed = any(d.domid == given.domid and d.live_hostdev(address) for d in domains)
        return None if listed else given

    def domain_by_id(self, domid: int) -> Domain | None:
        """Return the running domain with that id as libvirt knows it, or None (made by `xl`, say)."""
        return self._by_id.get(domid)

    def wanting(self, address: Address) -> tuple[Domain, ...]:
        """Return the domains with a hostdev at `address`, live or persistent."""
        return self._wanting.get(address, ())
