"""One PCI function as a guest describes it, parsed strictly from what its lspci prints, or its sysfs.

There are pciutils' records and details, and busybox' lines; of sysfs the lines of a function's files in sequence, each
recognised by its form. Sources: lspci(8), "Machine readable output"; pciutils' lspci.c and ls-caps.c; busybox'
util-linux/lspci.c; drivers/pci/pci-sysfs.c (resource_show, the uevent), drivers/pci/msi/irqdomain.c (msi_irqs),
include/linux/ioport.h (the flags of a resource).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from cede.model.pci import Address
from cede.util.text import number

Range = tuple[int, int]

_DRIVER = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_RECORD = re.compile(r"^(?P<name>[A-Za-z]+):[\t ]+(?P<value>[!-~]*)$")
_ID = re.compile(r"^[0-9a-f]{4}$")
_UNKNOWN = ("0000:0000", "ffff:ffff")
# 00:00.0 "Class 0200" "8086" "10d3" "8086" "0000" "e1000e"
_BUSYBOX = re.compile(
    r'^(?P<slot>\S+) "Class ([0-9a-f]{4})" "([0-9a-f]{4})" "([0-9a-f]{4})" "([0-9a-f]{4})" "([0-9a-f]{4})"'
    r'(?: "(?P<driver>[^"]*)")?$'
)
# 0000:00:00.0 USB controller [0c03]: Red ... [1b36:000d] (rev 01) (prog-if 30 [XHCI]), with -n: 0c03: 1b36:000d
_HEAD = re.compile(
    r"^(?P<slot>\S+) (?:[^\[\]:]+ \[)?(?P<class>[0-9a-f]{4})\]?: (?:.* \[)?(?P<ids>[0-9a-f]{4}:[0-9a-f]{4})\]?"
    r"(?: \(rev [0-9a-f]{2}\))?(?: \(prog-if (?P<interface>[0-9a-f]{2})(?: \[.*\])?\))?$"
)
_SUBSYSTEM = re.compile(r"^Subsystem: (?:.* \[)?([0-9a-f]{4}:[0-9a-f]{4})\]?$")
_REGION = re.compile(r"^Region [0-9]: (?P<kind>Memory|I/O ports) at (?P<place>\S+)(?P<more>.*)$")
_SIZE = re.compile(r"\[size=([0-9]{1,10})([KMGT]?)\]$")  # an unsigned int
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MSI = re.compile(r"^Capabilities: \[[0-9a-f]+\] (?P<kind>MSI|MSI-X): Enable(?P<on>[+-]) ")
_CAPABILITY = re.compile(r"^Capabilities: \[[0-9a-f]+(?: v[0-9]{1,2})?\] ")
# <access denied>, <available only to root>, <chain looped>, <chain broken>; a card that answers nothing at all
_UNREADABLE = re.compile(
    r"^(?:Capabilities: (?:\[[0-9a-f]+(?: v[0-9]{1,2})?\] )?<|!!! Unknown header type)"
)
_LISTED = re.compile(r"^Status: Cap\+ ")
_SERIAL = re.compile(r"Device Serial Number ((?:[0-9a-f]{2}-){7}[0-9a-f]{2})$")


class Interrupt(StrEnum):
    """How the function is set to interrupt; INTX also where no driver uses it."""

    MSI = "MSI"
    MSIX = "MSI-X"
    INTX = "INTx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What a guest's tool says of one function; None is unknown, an empty `driver` means that none is bound.

    Numbers are spelt as in model.Identity; `class_code` has four digits where the tool leaves out the programming
    interface. `regions` are the first and last addresses of its BARs, `unassigned` how many memory BARs have no
    address. `macs` are those of its interfaces whose MAC was not changed.
    """

    slot: Address
    vendor: str
    device: str
    class_code: str | None = None
    subsystem: str | None = None
    driver: str | None = None
    regions: tuple[Range, ...] | None = None
    unassigned: int | None = None
    interrupt: Interrupt | None = None
    macs: tuple[str, ...] | None = None
    serial: str | None = None
    power_state: str | None = None

    def completed(self, other: Function) -> Function:
        """Return this function, completed by what only `other` knows; the longer class wins."""
        missing = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if getattr(self, field.name) is None
        }
        both = (self.class_code or "", other.class_code or "")
        return replace(self, **(missing | {"class_code": max(both, key=len) or None}))


def of_records(lines: list[str], slot: Address) -> Function | None:
    """Return the function at `slot` in what `lspci -Dvmmnks SLOT` printed: one record, of fields only.

    None if there is none, or its record is malformed.
    """
    function = _of_record([line for line in lines if line])
    return function if function is not None and function.slot == slot else None


def _of_record(lines: list[str]) -> Function | None:
    fields: dict[str, str] = {}
    for line in lines:
        match = _RECORD.match(line)
        if match is None or (match["name"] in fields and match["name"] != "Module"):
            return None
        fields[match["name"]] = match["value"]
    slot, ids = (
        _address(fields.get("Slot", "")),
        (fields.get("Vendor", ""), fields.get("Device", "")),
    )
    kind, interface = fields.get("Class", ""), fields.get("ProgIf", "")
    driver = fields.get("Driver", "")
    if slot is None or not all(_ID.match(word) for word in (*ids, kind)):
        return None
    if driver and not _DRIVER.match(driver):
        return None
    return Function(
        slot=slot,
        vendor=ids[0],
        device=ids[1],
        class_code=kind + interface,
        subsystem=_known_subsystem(f"{fields.get('SVendor', '')}:{fields.get('SDevice', '')}"),
        driver=driver,
    )


def of_busybox(lines: list[str], slot: Address) -> Function | None:
    """Return the function at `slot` in what busybox' `lspci -mk` printed, which leaves out the segment."""
    functions = []
    for line in lines:
        match = _BUSYBOX.match(line)
        place = _address(match["slot"]) if match else None
        if match is None or place is None:
            return None
        _, kind, vendor, device, above, below, driver = match.groups()
        if driver and not _DRIVER.match(driver):
            return None
        functions.append(
            Function(
                slot=place,
                vendor=vendor,
                device=device,
                class_code=kind,
                subsystem=_known_subsystem(f"{above}:{below}"),
                driver=driver or "",
            )
        )
    return _only(functions, slot)


def of_details(lines: list[str], slot: Address) -> Function | None:
    """Return the function at `slot` in what `lspci -Dnvvks SLOT`, or that with `-nn`, printed of that slot alone."""
    head = _HEAD.match(lines[0]) if lines else None
    if head is None or _address(head["slot"]) != slot:
        return None
    rest = [line.strip() for line in lines[1:] if line.strip()]
    drivers = [
        line.partition(": ")[2] for line in rest if line.startswith("Kernel driver in use: ")
    ]
    if len(drivers) > 1 or not all(_DRIVER.match(driver) for driver in drivers):
        return None
    below = [match[1] for match in map(_SUBSYSTEM.match, rest) if match]
    serials = [match[1] for match in map(_SERIAL.search, rest) if match]
    on = [match["kind"] for match in map(_MSI.match, rest) if match and match["on"] == "+"]
    regions, unassigned = _regions(rest)
    vendor, _, device = head["ids"].partition(":")
    return Function(
        slot=slot,
        vendor=vendor,
        device=device,
        class_code=head["class"] + (head["interface"] or "00"),
        subsystem=_known_subsystem(below[0] if len(below) == 1 else ""),
        driver=drivers[0] if drivers else "",
        regions=regions,
        unassigned=unassigned,
        interrupt=_interrupt(on) if _capabilities_readable(rest) else None,
        serial=serials[0] if len(serials) == 1 else None,
    )


def _capabilities_readable(lines: list[str]) -> bool:
    """Whether all of the function's capabilities are there; who isn't root sees the first 64 bytes, and so none."""
    if any(_UNREADABLE.match(line) for line in lines):
        return False
    return any(map(_CAPABILITY.match, lines)) or not any(map(_LISTED.match, lines))


def _interrupt(on: list[str]) -> Interrupt | None:
    """Return how the function interrupts, by the kinds of message that are on; None if that makes no sense."""
    if len(on) > 1:
        return None
    return Interrupt(on[0]) if on else Interrupt.INTX


def _regions(lines: list[str]) -> tuple[tuple[Range, ...] | None, int | None]:
    """Return the BARs that have an address and are enabled, and how many memory BARs are not."""
    found, unassigned = [], 0
    for line in lines:
        region = _REGION.match(line)
        if region is None:
            continue
        size = _SIZE.search(region["more"])
        off = any(word in region["more"] for word in ("[disabled]", "[virtual]"))
        first = number(region["place"], 16) or 0  # <unassigned>, <ignored>
        if off or not first:
            unassigned += region["kind"] == "Memory"
        elif size is None:
            return None, None
        else:
            found.append((first, first + (int(size[1]) << _UNITS[size[2]]) - 1))
    return tuple(found), unassigned


def _known_subsystem(said: str) -> str | None:
    """Return `vvvv:dddd`; empty where a function has no subsystem, None if unknown."""
    if said in _UNKNOWN or said == ":":
        return ""
    vendor, _, device = said.partition(":")
    return said if _ID.match(vendor) and _ID.match(device) else None


def _address(said: str) -> Address | None:
    try:
        return Address.parse(said)
    except ValueError:
        return None


def _only(found: list[Function], slot: Address) -> Function | None:
    functions = [function for function in found if function.slot == slot]
    return functions[0] if len(functions) == 1 else None


_UEVENT = re.compile(r"^(?P<name>[A-Z_0-9]+)=(?P<value>[!-~]+)$")
_IDS = re.compile(r"^([0-9a-f]{4}):([0-9a-f]{4})$")
_CLASS = re.compile(r"^[0-9a-f]{1,6}$")
_RESOURCE = re.compile(r"^0x([0-9a-f]{16}) 0x([0-9a-f]{16}) 0x([0-9a-f]{16})$")
_MAC = re.compile(r"^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$")
_ASSIGN_TYPE = re.compile(r"^[0-3]$")
_SET_LATER = "3"  # NET_ADDR_SET (include/uapi/linux/netdevice.h): by the administrator, or a bond
_IO, _MEMORY, _UNSET = 0x100, 0x200, 0x20000000
_BARS = 6  # then come the ROM and the BARs of virtual functions, which no driver needs
_INTERRUPTS = {"msi": Interrupt.MSI, "msix": Interrupt.MSIX}
_POWER = ("D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error")


def of_sysfs(lines: list[str], slot: Address) -> Function | None:
    """Return the function at `slot`; None if its files do not exist, or one is malformed."""
    event = _event(lines)
    resources = [match.groups() for match in map(_RESOURCE.match, lines) if match]
    kinds = [line for line in lines if line in _INTERRUPTS]
    power = [line for line in lines if line in _POWER]
    macs = [line for line in lines if _MAC.match(line)]
    types = [line for line in lines if _ASSIGN_TYPE.match(line)]
    known = len(event) + len(resources) + len(kinds) + len(power) + len(macs) + len(types)
    if known != len(lines) or len(power) > 1 or len(set(kinds)) > 1:
        return None
    ids = _IDS.match(event.get("PCI_ID", "").lower())
    class_code = event.get("PCI_CLASS", "").lower()
    driver = event.get("DRIVER", "")
    if ids is None or event.get("PCI_SLOT_NAME") != str(slot):
        return None
    if not _CLASS.match(class_code) or (driver and not _DRIVER.match(driver)):
        return None
    regions, unassigned = _assigned(resources)
    return Function(
        slot=slot,
        vendor=ids[1],
        device=ids[2],
        class_code=class_code.zfill(6),
        subsystem=_known_subsystem(event.get("PCI_SUBSYS_ID", "").lower()),
        driver=driver,
        regions=regions,
        unassigned=unassigned,
        interrupt=_INTERRUPTS[kinds[0]] if kinds else Interrupt.INTX,
        macs=_own(macs, types),
        power_state=power[0] if power else None,
    )


def _event(lines: list[str]) -> dict[str, str]:
    """Return the uevent's variables; none of them if one occurs twice."""
    matches = [match for match in map(_UEVENT.match, lines) if match]
    event = {match["name"]: match["value"] for match in matches}
    return event if len(event) == len(matches) else {}


def _assigned(resources: list[tuple[str, ...]]) -> tuple[tuple[Range, ...], int]:
    """Return the assigned BARs, and how many memory BARs are not assigned; I/O ports are seldom needed."""
    regions, unassigned = [], 0
    for words in resources[:_BARS]:
        first, last, flags = (int(word, 16) for word in words)
        if not flags & (_IO | _MEMORY):
            continue
        if flags & _UNSET or not first:
            unassigned += bool(flags & _MEMORY)
        else:
            regions.append((first, last))
    return tuple(regions), unassigned


def _own(macs: list[str], types: list[str]) -> tuple[str, ...] | None:
    """Return the MACs of the function's interfaces that are the card's own, sorted; None if unknown."""
    if len(macs) != len(types):
        return None
    pairs = zip(macs, types, strict=True)
    return tuple(sorted(mac for mac, how in pairs if how != _SET_LATER))
