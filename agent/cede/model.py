"""The values that everything else speaks in: what a host has, as seen at one moment.

All are frozen, keyword-only and made of plain data, so that a plan can be reasoned about, saved and compared without a
host. Where a value mirrors a file or a node, its docstring names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from cede.address import Address
from cede.memory import Attachment, Pause

PCIBACK = "pciback"
INITIALISED, CONNECTED, CLOSING, RECONFIGURING = 3, 4, 5, 7  # xen/include/public/io/xenbus.h
BRIDGE_CLASS = "06"
NETWORK_CLASS = "02"
OWN_ALIAS = "ua-cede-"
PASSTHROUGH, E820_HOST = "passthrough", "e820_host"
FEATURES = (PASSTHROUGH, E820_HOST)
TRAITS = ("address", "path", "mac", "serial", "physical_function", "vendor", "device", "subsystem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a device says it is, lower-case hex without 0x (PCI Local Bus Specification 3.0, 6.2.1).

    `vendor` and `device` have four digits, `subsystem` is `vvvv:dddd` or empty, `class_code` has six digits.
    """

    vendor: str
    device: str
    subsystem: str = ""
    class_code: str = ""

    def __str__(self) -> str:
        return f"{self.vendor}:{self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """One way in which dom0 itself lives on a device.

    `guard` is the name of the rule (`filesystem`, `swap`, `default-route`, `boot-vga`, `bridge`); `chain` leads from
    the device to what needs it, each link a readable phrase.
    """

    guard: str
    chain: tuple[str, ...]

    def __str__(self) -> str:
        below = (f", which holds {link}" for link in self.chain[2:])
        return " holds ".join(self.chain[:2]) + "".join(below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface of dom0 as `ip -json address` tells it.

    `up` is what the administrator set, `carrier` whether the wire answers; `master` is the bridge or bond that it is a
    port of; `addresses` have a prefix length (`192.0.2.1/24`) and leave out what the kernel or a DHCP client made.
    """

    name: str
    mac: str
    up: bool = False
    carrier: bool = False
    mtu: int | None = None
    master: str | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What dom0 had in a device before cede took it, so that giving it back restores this and not something like it.

    `identity` and `serial` tell whether it is still the same card. `disks` are the ones behind a controller, each by
    its WWID or else its size.
    """

    identity: Identity
    serial: str | None = None
    driver: str | None = None
    links: tuple[Link, ...] = ()
    disks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One PCI function as dom0's sysfs shows it (Documentation/ABI/testing/sysfs-bus-pci).

    `driver` is the name behind the driver link or None; `reset_methods` are the kernel's (`flr`, `pm`, `bus` ...),
    empty if there are none; `in_pciback_slots` tells whether pciback would seize it at the next probe. `serial` is the
    PCIe device serial number (`00-11-22-33-44-55-66-77`), `path` the way from the root bus (`pci0000:00/08.0/00.0`).
    An SR-IOV virtual function names its `physical_function` and its `function_index` there, counted from 0.
    `node_device` tells whether libvirt lists it, and so can take it; `in_guest` that Xen itself says a guest owns it,
    though xenstore names none; `origin` is what dom0 had before cede took it.
    """

    address: Address
    identity: Identity
    driver: str | None = None
    driver_override: str | None = None
    reset_methods: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    mac: str | None = None
    serial: str | None = None
    path: str = ""
    physical_function: Address | None = None
    function_index: int | None = None
    in_pciback_slots: bool = False
    node_device: bool = True
    in_guest: bool = False
    uses: tuple[HostUse, ...] = ()
    origin: Origin | None = None

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge of any kind; libvirt passes endpoints only."""
        return self.identity.class_code.startswith(BRIDGE_CLASS)

    @property
    def on_pciback(self) -> bool:
        """Whether dom0 holds it for guests."""
        return self.driver == PCIBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostdev:
    """A `<hostdev type='pci'>` of a domain (https://libvirt.org/formatdomain.html#host-device-assignment)."""

    address: Address
    alias: str | None = None
    managed: bool = False
    write_filtering: bool = True

    @property
    def ours(self) -> bool:
        """Whether cede put it there: its user alias says so."""
        return self.alias is not None and self.alias.startswith(OWN_ALIAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What cede noted in a domain's metadata about a device it put there, and on whose behalf.

    `policy` is the source of the policy that assigned it (schemas/metadata.rng).
    """

    name: str
    address: Address
    policy: str


class GuestKind(StrEnum):
    """How Xen runs a guest; decides how a device reaches it."""

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A guest as libvirt's Xen driver knows it.

    `domid` is None while it is off. `live` are the hostdevs it runs with, `config` those of its persistent XML.
    `passthrough` tells whether it was started so that a hot-plug can work: libxl decides that at creation;
    `e820_host` whether a PV guest sees the host's memory map, without which a BAR can collide with its memory.
    `features` are the Xen features that its persistent XML switches on, which count from its next start.
    `memory` is the most it can have and `current_memory` what its persistent XML starts it with, in KiB, 0 if unknown.
    `host_disks` are the block devices and `host_interfaces` the interfaces of dom0 that its disks and NICs live on.
    """

    name: str
    uuid: str
    kind: GuestKind
    domid: int | None = None
    paused: bool = False
    persistent: bool = True
    passthrough: bool = True
    e820_host: bool = True
    features: tuple[str, ...] = FEATURES
    memory: int = 0
    current_memory: int = 0
    live: tuple[Hostdev, ...] = ()
    config: tuple[Hostdev, ...] = ()
    marks: tuple[Mark, ...] = ()
    host_disks: tuple[str, ...] = ()
    host_interfaces: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is a live domain to plug into."""
        return self.domid is not None

    @property
    def populated_on_demand(self) -> bool:
        """Whether it starts with less memory than it may have, which libxl does by populate-on-demand for any but PV.

        Source: tools/libs/light/libxl_create.c, libxl__domain_config_setdefault (`pod_enabled`).
        """
        return self.kind is not GuestKind.PV and 0 < self.current_memory < self.memory

    def live_hostdev(self, address: Address) -> Hostdev | None:
        """The live hostdev at `address`, or None."""
        return next((h for h in self.live if h.address == address), None)

    def config_hostdev(self, address: Address) -> Hostdev | None:
        """The persistent hostdev at `address`, or None."""
        return next((h for h in self.config if h.address == address), None)

    def mark(self, address: Address) -> Mark | None:
        """cede's note on the device at `address`, or None; what somebody else put there since is theirs."""
        if self.foreign(address):
            return None
        return next((m for m in self.marks if m.address == address), None)

    @property
    def noted(self) -> tuple[Mark, ...]:
        """cede's notes, and what the alias of a hostdev of cede's still says where its note is lost; by address."""
        found = {
            hostdev.address: Mark(
                name=(hostdev.alias or "").removeprefix(OWN_ALIAS),
                address=hostdev.address,
                policy="",
            )
            for hostdev in (*self.config, *self.live)
            if hostdev.ours
        }
        found.update({mark.address: mark for mark in self.marks if not self.foreign(mark.address)})
        return tuple(found[address] for address in sorted(found))

    def foreign(self, address: Address) -> bool:
        """Whether it has a hostdev at `address` that cede neither put there nor adopted."""
        found = [h for h in (*self.live, *self.config) if h.address == address]
        return bool(found) and not any(h.ours for h in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendDevice:
    """One device that Xen's PCI backend has given to a guest, whoever did it.

    Read from `/local/domain/0/backend/pci/<domid>/0` (xen/include/public/io/pciif.h and
    tools/libs/light/libxl_pci.c): `state` is state-N, `backend_state` and `frontend_state` the xenbus states of the
    connection (4 is Connected), `virtual_slot` where the guest sees it, None as long as that isn't said.
    """

    domid: int
    address: Address
    index: int
    state: int | None = None
    backend_state: int | None = None
    frontend_state: int | None = None
    virtual_slot: Address | None = None
    options: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLine:
    """One line of a kernel's log, of printable characters only, and when it was said."""

    seconds_since_boot: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LibxlNote:
    """What libxl noted of a device that it gave away: xenstore's `/libxl/pci/<DDDD-BB-SS-F>/domid` (libxl_pci.c)."""

    address: Address
    domid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What cede's journal knows to have been begun and not ended: it was killed there, or could not undo it.

    `inward` tells an attach from a release; `domain` is the one that it was about, empty if that was none; `back`
    whether dom0 is to have the device if it comes out of there.
    """

    subject: str
    address: Address
    domain: str = ""
    inward: bool
    back: bool = True
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A device that is not touched until a person asks for it by name: something hung on it."""

    address: Address
    reason: str
    since: str = ""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The whole host at one moment, all that a plan is made from.

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
    attachments: tuple[Attachment, ...] = ()

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
    def _given(self) -> dict[Address, BackendDevice]:
        return {given.address: given for given in reversed(self.backend)}

    @cached_property
    def _left(self) -> dict[tuple[Address, str], Attachment]:
        return {(left.address, left.domain): left for left in self.attachments}

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
    def _by_trait(self) -> dict[tuple[str, object], list[Device]]:
        traits: dict[tuple[str, object], list[Device]] = {}
        for device in self.devices:
            for trait in TRAITS:
                value = getattr(device, trait, None) or getattr(device.identity, trait, None)
                traits.setdefault((trait, value), []).append(device)
        return traits

    @cached_property
    def _noted(self) -> dict[str, list[tuple[Domain, Mark]]]:
        noted: dict[str, list[tuple[Domain, Mark]]] = {}
        for domain in sorted(self.domains, key=lambda d: d.name):
            for mark in domain.noted:
                noted.setdefault(mark.name, []).append((domain, mark))
        return noted

    def device(self, address: Address) -> Device | None:
        """The device at `address`, or None."""
        return self._by_address.get(address)

    def having(self, trait: str, value: object) -> Sequence[Device]:
        """The devices of which one of TRAITS has that value, in listed order."""
        return self._by_trait.get((trait, value), ())

    def noted(self, name: str) -> Sequence[tuple[Domain, Mark]]:
        """cede's notes on devices that it gave under `name`, and in which domain."""
        return self._noted.get(name, ())

    def siblings(self, device: Device) -> tuple[Device, ...]:
        """The other functions on its bus: a secondary bus reset of one resets them all."""
        bus = self._by_bus.get((device.address.segment, device.address.bus), ())
        return tuple(other for other in bus if other.address != device.address)

    def domain(self, name_or_uuid: str) -> Domain | None:
        """The domain of that name, else of that UUID, or None."""
        return self._by_name.get(name_or_uuid) or self._by_name.get(name_or_uuid.lower())

    def left_in(self, address: Address, domain: Domain) -> Attachment | None:
        """Where the last pass left the device in that domain, or None if it didn't, or took it out."""
        return self._left.get((address, domain.uuid))

    def given(self, address: Address) -> BackendDevice | None:
        """Xen's own word on which guest has the device, or None."""
        return self._given.get(address)

    def cut_off(self, address: Address) -> Domain | None:
        """The running domain that Xen still gives the device to after something of cede's was cut off there, or None.

        libvirt no longer lists it, so only cede's own journal tells it from one that `xl` attached.
        """
        given, device = self.given(address), self.device(address)
        for begun in self.unfinished:
            domain = self.domain(begun.domain) if begun.address == address else None
            if domain is None or not domain.running or domain.live_hostdev(address):
                continue
            if given is not None and given.domid == domain.domid:
                return domain
            if given is None and device is not None and device.in_guest:
                return domain
        return None

    def domain_by_id(self, domid: int) -> Domain | None:
        """The running domain with that id as libvirt knows it, or None (made by `xl`, say)."""
        return self._by_id.get(domid)

    def wanting(self, address: Address) -> tuple[Domain, ...]:
        """The domains with a hostdev at `address`, live or persistent."""
        return self._wanting.get(address, ())
