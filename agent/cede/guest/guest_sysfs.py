"""Parse what the guest's sysfs says of a function: the lines of its files in sequence, each recognised by its form.

Source: drivers/pci/pci-sysfs.c (resource_show, the uevent), drivers/pci/msi/irqdomain.c (msi_irqs),
include/linux/ioport.h (the flags of a resource).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.guest.lspci import DRIVER, known_subsystem
from cede.guest.pci_function import Function, Interrupt

if TYPE_CHECKING:
    from cede.guest.pci_function import Range
    from cede.model.pci import Address

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


def parse(lines: list[str], slot: Address) -> Function | None:
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
    if not _CLASS.match(class_code) or (driver and not DRIVER.match(driver)):
        return None
    regions, unassigned = _regions(resources)
    return Function(
        slot=slot,
        vendor=ids[1],
        device=ids[2],
        class_code=class_code.zfill(6),
        subsystem=known_subsystem(event.get("PCI_SUBSYS_ID", "").lower()),
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


def _regions(resources: list[tuple[str, ...]]) -> tuple[tuple[Range, ...], int]:
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
