"""PCI devices as dom0 sees them: addresses, identities, drivers, and what dom0 uses them for.

Inside cede an address is always the kernel's SBDF form `0000:01:00.0`. People, libvirt, xl and kernel parameters
write it in half a dozen other ways; all of them are read here and nowhere else. Where a value mirrors a file, its
docstring names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Literal, Self, TypedDict, Unpack

from cede.model.virtual_functions import VirtualFunctions
from cede.util.json_keywords import Keywords

_SBDF = re.compile(
    r"^(?:(?P<segment>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<slot>[0-9a-f]{1,2})\.(?P<function>[0-7])$"
)

_SLOT = re.compile(r"^([0-9a-f]{1,8}:)?[0-9a-f]{1,2}:[0-9a-f]{1,2}$")

_NODE_DEVICE = re.compile(
    r"^pci_(?P<segment>[0-9a-f]{4,8})_(?P<bus>[0-9a-f]{2})_(?P<slot>[0-9a-f]{2})_(?P<function>[0-7])$"
)

_VDEV = re.compile(
    r"^(?P<segment>[0-9a-f]{4}):(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})\.0?(?P<function>[0-7])$"
)

_MAX_SEGMENT, _MAX_BUS, _MAX_SLOT, _MAX_FUNCTION = 0xFFFFFFFF, 0xFF, 0x1F, 7
MAX_XEN_SEGMENT = 0xFFFF  # xen/include/public/physdev.h (struct physdev_pci_device)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A PCI function's place: segment, bus, slot (device) and function.

    *Segment* is what libvirt and lspci call the PCI domain; here a domain is always a Xen domain. Linux numbers those
    behind Intel's VMD from 0x10000 on (drivers/pci/controller/vmd.c), Xen has no such number (`beyond_xen`). The
    functions of an ARI device above 7 are shown as slots: 8 is 01.0 (PCI Express Base Specification 3.0, 6.13).
    """

    segment: int
    bus: int
    slot: int
    function: int

    def __post_init__(self) -> None:
        for name, value, top in (
            ("segment", self.segment, _MAX_SEGMENT),
            ("bus", self.bus, _MAX_BUS),
            ("slot", self.slot, _MAX_SLOT),
            ("function", self.function, _MAX_FUNCTION),
        ):
            if not 0 <= value <= top:
                raise ValueError(f"PCI {name} {value:#x} is not between 0 and {top:#x}")

    def __str__(self) -> str:
        return f"{self.segment:04x}:{self.bus:02x}:{self.slot:02x}.{self.function}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read any spelling that people and tools use.

        Accepts `0000:01:00.0`, `01:00.0` (segment 0), `(01:00.0)` as in `xen-pciback.hide=`, `pci_0000_01_00_0`
        as libvirt names node devices, and xenstore's `0000:00:00.00` (vdev-N); letters of either case.

        Raises ValueError, with what would have been right, for anything else.
        """
        bare = text.strip().lower()
        if bare.startswith("(") and bare.endswith(")"):
            bare = bare[1:-1]
        match = _SBDF.match(bare) or _NODE_DEVICE.match(bare) or _VDEV.match(bare)
        if match is None:
            raise ValueError(f"{text[:40]!r} is not a PCI address; one looks like 0000:01:00.0")
        parts = {name: int(value or "0", 16) for name, value in match.groupdict().items()}
        return cls(parts["segment"], parts["bus"], parts["slot"], parts["function"])

    @classmethod
    def parse_slot(cls, text: str) -> Self:
        """Read the address of a whole slot: `0000:09:00`, `09:00` (segment 0), or with `.*` as xl has it.

        Return the address of its function 0, which every device has (PCI Local Bus Specification 3.0, 3.2.2.3.4).
        Raises ValueError, with what would have been right, for anything else.
        """
        bare = text.strip().lower().removesuffix(".*")
        if _SLOT.match(bare) is None:
            raise ValueError(
                f"{text[:40]!r} is not the address of a slot; one looks like 0000:09:00"
            )
        return cls.parse(f"{bare}.0")

    @classmethod
    def from_devfn(cls, devfn: int) -> Self:
        """Return the address on bus 0 that a devfn byte means (xenstore's vdevfn-N: slot * 8 + function)."""
        return cls(0, 0, devfn >> 3, devfn & 7)

    @property
    def node_device(self) -> str:
        """The node device's name in libvirt, `pci_0000_01_00_0` (virNodeDeviceGetName)."""
        return f"pci_{self.segment:04x}_{self.bus:02x}_{self.slot:02x}_{self.function}"

    @property
    def beyond_xen(self) -> bool:
        """Whether its segment has no number in Xen, which would take another device for this one."""
        return self.segment > MAX_XEN_SEGMENT

    @property
    def slot_address(self) -> Address:
        """The address of function 0 of its slot, by which a whole slot is named."""
        return replace(self, function=0)

    def same_slot(self, other: Address) -> bool:
        """Return whether both are in one slot; of an ARI device the functions above 7 are shown in other ones."""
        return self.slot_address == other.slot_address

    def same_bus(self, other: Address) -> bool:
        """Return whether a secondary bus reset of one would reset the other."""
        return (self.segment, self.bus) == (other.segment, other.bus)


PCIBACK = "pciback"
BRIDGE_CLASS = "06"
TRAITS = ("address", "path", "mac", "serial", "physical_function", "vendor", "device", "subsystem")

PciId = Annotated[
    str,
    Keywords(
        name="pci_id",
        description="four hex digits without 0x, as `lspci -n` prints them",
        pattern="^[0-9a-f]{4}$",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a device says it is, lower-case hex without 0x (PCI Local Bus Specification 3.0, 6.2.1).

    `subsystem` is vendor and device of the subsystem (`vvvv:dddd`), or empty; `class_code` is class, subclass and
    programming interface, or empty.
    """

    vendor: PciId
    device: PciId
    subsystem: Annotated[str, Keywords(pattern="^([0-9a-f]{4}:[0-9a-f]{4})?$")] = ""
    class_code: Annotated[str, Keywords(pattern="^([0-9a-f]{6})?$")] = ""

    def __str__(self) -> str:
        return f"{self.vendor}:{self.device}"

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge of any kind; libvirt passes endpoints only."""
        return self.class_code.startswith(BRIDGE_CLASS)


UNTOLD = "untold"  # the guard of what a recorded host does not tell; no override passes it
GUARDS = (
    "filesystem", "swap", "member", "backing", "open", "held", "default-route", "route", "connection", "ssh",
    "namespace", "boot-vga", "console", "keyboard", "watchdog", "guest-disk", "guest-network", "guest-device",
    "virtual-function", "protect", "sibling",
)  # fmt: skip
"""The names of the guards that an override can pass, as contrib/docs/policy.md explains them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """One use of a device by dom0 itself.

    `guard` is the name of the rule, one of GUARDS or `bridge`; `chain` leads from the device to what needs it, each
    link a readable phrase.
    """

    guard: str
    chain: Annotated[tuple[str, ...], Keywords(min_items=1)]

    def __str__(self) -> str:
        below = (f", which holds {link}" for link in self.chain[2:])
        return " holds ".join(self.chain[:2]) + "".join(below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface of dom0 as `ip -json address` tells it.

    `name`, `mac` and `mtu` are the kernel's; `up` is what the administrator set; `carrier` tells whether the wire
    answers; `master` is the bridge or bond that it is a port of; `addresses` have a prefix length (`192.0.2.1/24`) and
    leave out what the kernel or a DHCP client made. `random` tells that the driver made the MAC up, so that it is
    another one at each probe (addr_assign_type 1, include/uapi/linux/netdevice.h).
    """

    name: str
    mac: str
    up: bool = False
    carrier: bool = False
    mtu: int | None = None
    master: str | None = None
    addresses: tuple[str, ...] = ()
    random: bool = False


NodeKind = Literal["interface", "disk", "sound card", "display", "USB"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing that dom0 has through a PCI function.

    `kind` is what it is; `name` is the kernel's name for it; `about` is its size and what it calls itself, or empty.
    `id` is a disk's WWID or serial number, or a USB device's vendor, product and serial number with colons, or empty;
    `pluggable` tells that it can be pulled out while the host runs: what is on USB, an SD card, a medium.
    """

    kind: NodeKind
    name: str
    about: str = ""
    id: str = ""
    pluggable: bool = False

    @property
    def on_controller(self) -> bool:
        """Whether it hangs on a controller, and goes with that: a disk, or a USB device."""
        return self.kind in {"disk", "USB"}

    def same_as(self, other: Node) -> bool:
        """Return whether both are one thing, which another name does not change; what has no id goes by its model."""
        mine, theirs = self.id or self.about, other.id or other.about
        return (self.kind, mine) == (other.kind, theirs)

    def __str__(self) -> str:
        called = (
            f"{self.kind} {self.name}".strip() if self.kind == "USB" or not self.name else self.name
        )
        known = ", ".join(filter(None, (self.about, self.id)))
        return f"{called} ({known})" if known else called


SerialNumber = Annotated[str, Keywords(pattern="^[0-9a-f]{2}(-[0-9a-f]{2}){7}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalState:
    """What dom0 had in a device before cede bound it to pciback; the return to dom0 restores this.

    `identity` and `serial` tell whether it is still the same card; `driver` is the one that was bound; `links` are its
    network interfaces, and `unrestored` what they had that isn't brought back; `nodes` are the disks and USB devices
    on a controller. `boot` is the id of dom0's boot in which this was so, empty in an older journal.
    """

    identity: Identity
    serial: SerialNumber | None = None
    driver: str | None = None
    links: tuple[Link, ...] = ()
    unrestored: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()
    boot: str = ""

    @property
    def macs(self) -> tuple[str, ...]:
        """The MACs by which the card can be told from another one."""
        return tuple(link.mac for link in self.links if not link.random)


class Reset(StrEnum):
    """How libvirt resets a function before it gives it to a guest: the first of these that there is.

    `flr` is a function level reset, `pm` a power management reset, each of the function alone; `bus` is a reset of the
    whole bus by the bridge above it. What only the kernel can do (`device_specific`, `acpi` in its reset_method) is
    `none`. Source: libvirt, src/util/virpci.c (virPCIDeviceReset).
    """

    FLR = "flr"
    PM = "pm"
    BUS = "bus"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One PCI function as dom0's sysfs shows it (Documentation/ABI/testing/sysfs-bus-pci).

    `driver` is the name behind the driver link or None (`pciback` holds it for guests); `driver_override` is the only
    driver that may bind, if there is such a rule; `reset` is how libvirt would reset it, None for a bridge and where
    that can't be told (its configuration space can't be read, as without root, or it doesn't answer); `on_root_bus`
    tells that no PCI-to-PCI bridge is above it, whatever the number of its bus; `interfaces` are its network interfaces
    in dom0, and `unrestored` is what they have that a return to dom0 doesn't bring back; `mac` is the MAC address of
    the first of them, None if its driver made it up; `mac_set` tells that it is not the card's own: the administrator
    or a bond gave it; `serial` is the PCIe device serial number (`00-11-22-33-44-55-66-77`), which is unknown if the
    device has been `asleep` since cede began to look: reading it would wake the device; `path` is the way from the root
    bus, bridge by bridge (`pci0000:00/08.0/00.0`), empty if unknown; `ari` tells that all on its bus are functions of
    one device, whose numbers above 7 are shown as slots; `parent` is the function above it, None on a root bus;
    `removable` tells that it is outside of the host's case, as behind Thunderbolt, and may vanish, None where the
    kernel doesn't tell; `nodes` are what dom0 has through it, and loses with it. An SR-IOV virtual function names its
    `physical_function` and its `function_index` there, counted from 0; a function that can have such ones tells of them
    in `virtual_functions`. A conventional PCI function behind a bridge, and what is behind Intel's VMD, names as
    `requester` the function whose requester id stands for all that is behind it. `in_pciback_slots` tells whether
    pciback binds it at the next probe; `node_device` whether libvirt lists it, and so can take it, None if its list
    tells nothing; `in_guest` that Xen itself says a guest owns it, though xenstore names none, None where nobody asked
    or Xen can't tell; `uses` are why the host keeps it; `original_state` is what dom0 had before cede took it, None if
    cede has not, or doesn't know. `off_the_bus` tells that its configuration space reads as all ones, though it isn't
    asleep; `aer_errors` are the uncorrectable errors that the kernel has counted since the device came, as phrases.
    `instance` is the number that the kernel has given to the device when it came: a card
    that is pulled out and put in again, or another one of the same model, has another number; None where that can't be
    told.
    """

    address: Address
    identity: Identity
    driver: str | None = None
    driver_override: str | None = None
    reset: Reset | None = None
    on_root_bus: bool = False
    interfaces: tuple[str, ...] = ()
    unrestored: tuple[str, ...] = ()
    mac: Annotated[str, Keywords(pattern="^[0-9a-f]{2}(:[0-9a-f]{2})+$")] | None = None
    mac_set: bool = False
    serial: SerialNumber | None = None
    asleep: bool = False
    path: str = ""
    ari: bool = False
    parent: Address | None = None
    removable: bool | None = None
    nodes: tuple[Node, ...] = ()
    physical_function: Address | None = None
    function_index: Annotated[int, Keywords(minimum=0)] | None = None
    virtual_functions: VirtualFunctions | None = None
    requester: Address | None = None
    in_pciback_slots: bool = False
    node_device: bool | None = True
    in_guest: bool | None = False
    uses: tuple[HostUse, ...] = ()
    original_state: OriginalState | None = None
    off_the_bus: bool = False
    aer_errors: tuple[str, ...] = ()
    instance: int | None = field(default=None, compare=False)

    def same_card(self, other: Device) -> bool:
        """Return whether both are functions of one device: in one slot, or on one bus of an ARI device."""
        if self.ari and other.ari:
            return self.address.same_bus(other.address)
        return self.address.same_slot(other.address)

    @property
    def taken_before(self) -> bool:
        """Whether cede has bound this very card and not returned it; like cards differ by MAC or serial."""
        if self.original_state is None:
            return False
        macs = self.original_state.macs
        return not macs or self.serial is not None or self.mac in macs

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge of any kind."""
        return self.identity.is_bridge

    @property
    def resets_alone(self) -> bool:
        """Whether a reset of it is known to leave its siblings alone."""
        return self.reset in {Reset.FLR, Reset.PM}

    @property
    def on_pciback(self) -> bool:
        """Whether dom0 holds it for guests."""
        return self.driver == PCIBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a device is called in pci.ids: its `kind`, its `vendor` and `device`, each empty if unknown."""

    kind: str = ""
    vendor: str = ""
    device: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.vendor, self.device) if part)


def with_original_state(
    device: Device,
    origin: OriginalState | None,
    **more: Unpack[KnownElsewhere],
) -> Device:
    """Return the device with what the journal knows of the very same card from when dom0 had it, and with `more`."""
    # a card that sleeps, or whose configuration space is unreadable, shows no serial
    same = (
        origin is not None
        and origin.identity == device.identity
        and device.serial in {None, origin.serial}
    )
    original = origin if same else None
    hidden = original.macs[0] if original and original.macs and device.on_pciback else None
    return replace(device, original_state=original, mac=device.mac or hidden, **more)


class KnownElsewhere(TypedDict, total=False):
    """What others than sysfs tell of a device, as `Device` has it."""

    node_device: bool | None
    in_guest: bool | None
    uses: tuple[HostUse, ...]
    unrestored: tuple[str, ...]
    virtual_functions: VirtualFunctions | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOn:
    """What is on in a function: that it answers at its BARs (`memory`, `io`), may do DMA, and interrupts by message.

    `msix_masked` is the mask over all of its MSI-X interrupts.
    """

    memory: bool
    io: bool
    bus_master: bool
    msi: bool = False
    msix: bool = False
    msix_masked: bool = False

    @property
    def driven(self) -> bool:
        """Whether all is on that a driver needs; one that uses INTx can't be told."""
        return (self.memory or self.io) and self.bus_master and (self.msi or self.msix)

    def __str__(self) -> str:
        names = {"memory": self.memory or self.io, "bus master": self.bus_master}
        by_message = "MSI-X on" if self.msix else "MSI on" if self.msi else "no MSI"
        return ", ".join([*(f"{n} {'on' if on else 'off'}" for n, on in names.items()), by_message])


_UPSTREAM_PORT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What a function does to keep its peers apart (access control services, PCI Express Base Specification 3.0, 6.12).

    `port` is its device/port type (7.8.2), None for a conventional function; `redirects` tells that it checks who sends
    (source validation) and sends all of it up to the IOMMU, instead of to a peer.
    """

    port: int | None
    redirects: bool

    @property
    def is_upstream_port(self) -> bool:
        """Whether it is the upper port of a switch, whose ports below decide for themselves."""
        return self.port == _UPSTREAM_PORT
