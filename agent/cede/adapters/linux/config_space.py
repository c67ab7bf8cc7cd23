"""Parse a function's configuration space: its serial number, what is switched on, what keeps it apart, its reset.

Sources: PCI Express Base Specification 3.0, 7.9.3 (extended capability header), 7.12 (device serial number), 6.12 and
7.16 (access control services, judged as pci_acs_flags_enabled in the kernel's drivers/pci/pci.c does); pciutils'
ls-ecaps.c for the spelling; PCI Local Bus Specification 3.0, 6.2.2 (command), 6.7 (capabilities), 6.8 (MSI). How it
resets is judged as libvirt does (src/util/virpci.c, virPCIDeviceDetectFunctionLevelReset and
virPCIDeviceDetectPowerManagementReset) by PCI Express Base Specification 3.0, 7.8.3 (device capabilities), the ECN
Advanced Capabilities for Conventional PCI, and PCI Bus Power Management Interface Specification 1.2, 3.2.4.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cede.model.pci import Isolation, Reset, SwitchedOn

if TYPE_CHECKING:
    from collections.abc import Callable

LEGACY_SIZE = 256
SIZE = 4096
_SERIAL, _ACS = 0x0003, 0x000D
_HEADER_BYTES, _SERIAL_BYTES = 4, 8
_MAX_CAPABILITIES = (SIZE - LEGACY_SIZE) // _SERIAL_BYTES

_COMMAND, _STATUS, _FIRST_CAPABILITY = 0x04, 0x06, 0x34
_IO, _MEMORY, _BUS_MASTER = 0x1, 0x2, 0x4
_HAS_CAPABILITIES = 0x10
_POWER, _MSI, _EXPRESS, _MSIX, _ADVANCED_FEATURES = 0x01, 0x05, 0x10, 0x11, 0x13
_EXPRESS_FLR = 1 << 28  # in the dword at 4 of the capability
_ADVANCED_FLR = 0x02  # in the byte at 3
_NO_SOFT_RESET = 0x08  # in the word at 4
_TO_CONVENTIONAL = 7  # PCI Express to PCI/PCI-X Bridge (PCI Express Base Specification 3.0, 7.8.2)
_MSI_ON, _MSIX_ON, _MSIX_MASKED = 0x0001, 0x8000, 0x4000
_HEADER_END, _MAX_LEGACY_CAPABILITIES = 0x40, 48
_CAPABILITY_BYTES, _LEAST_BYTES = 8, 4
_NOBODY = 0xFFFF
_ACS_BYTES = 4
# source validation, request and completion redirect, upstream forwarding (drivers/iommu/iommu.c, REQ_ACS_FLAGS)
_ACS_NEEDED = 0x01 | 0x04 | 0x08 | 0x10


def switched_on(read: Callable[[int, int], bytes]) -> SwitchedOn | None:
    """Return what a driver has switched on; None if the function does not answer (gone, or in D3cold).

    None, too, if it has capabilities and they can't be read, as by others than root.

    `read(offset, size)` returns the bytes there, as for `serial_number`.
    """
    command, status = _word(read, _COMMAND), _word(read, _STATUS)
    if command is None or status is None or command == _NOBODY:
        return None
    if status & _HAS_CAPABILITIES and not read(_HEADER_END, 1):
        return None
    msi = msix = masked = False
    capabilities, _ = _capabilities(read, status)
    for capability in capabilities:
        kind, control = capability[0], _control(capability)
        msi = msi or (kind == _MSI and bool(control & _MSI_ON))
        msix = msix or (kind == _MSIX and bool(control & _MSIX_ON))
        masked = masked or (kind == _MSIX and bool(control & _MSIX_MASKED))
    return SwitchedOn(
        memory=bool(command & _MEMORY),
        io=bool(command & _IO),
        bus_master=bool(command & _BUS_MASTER),
        msi=msi,
        msix=msix,
        msix_masked=masked,
    )


def makes_conventional(read: Callable[[int, int], bytes]) -> bool | None:
    """Whether the bridge has a conventional PCI bus behind it: it is a conventional one, or one from PCI Express to it.

    `read(offset, size)` is as for `serial_number`. None for a bridge that does not answer, and where its capabilities
    can't be read to their end.
    """
    status = _word(read, _STATUS)
    if status is None or status == _NOBODY:
        return None
    port = _port_type(read, status)
    if port is not None:
        return port == _TO_CONVENTIONAL
    _, whole = _capabilities(read, status)
    return True if whole else None


def isolation(read: Callable[[int, int], bytes]) -> Isolation | None:
    """Return what keeps the function's peers apart; None if it does not answer, or not all of it can be read.

    `read(offset, size)` is as for `serial_number`. What a function can't control it does by itself.
    """
    status = _word(read, _STATUS)
    if status is None or status == _NOBODY or not read(_HEADER_END, 1):
        return None
    port = _port_type(read, status)
    if port is None:
        return Isolation(port=None, redirects=False)
    if not read(LEGACY_SIZE, 1):
        return None
    at = _extended(read, _ACS)
    said = b"" if at is None else read(at + _HEADER_BYTES, _ACS_BYTES)
    if len(said) < _ACS_BYTES:
        return Isolation(port=port, redirects=False)
    controllable, on = struct.unpack("<HH", said)
    needed = _ACS_NEEDED & controllable
    return Isolation(port=port, redirects=on & needed == needed)


def own_reset(read: Callable[[int, int], bytes]) -> Reset | None:
    """Return by which reset libvirt resets the function alone: FLR, PM, or NONE; None if that can't be told.

    `read(offset, size)` is as for `serial_number`. It can't be told of a function that does not answer, and where the
    list of capabilities can't be read to its end (without root, the kernel gives out the first 64 bytes only). libvirt
    takes the first capability of each kind, and asks neither for the power state nor for the kernel's opinion.
    """
    header = read(0, _HEADER_END)
    if len(header) < _HEADER_END or header.startswith(b"\xff\xff"):
        return None
    capabilities, whole = _capabilities(read, int.from_bytes(header[_STATUS:8], "little"))
    if not whole:
        return None
    first = {capability[0]: capability for capability in reversed(capabilities)}
    express, features, power = (first.get(kind) for kind in (_EXPRESS, _ADVANCED_FEATURES, _POWER))
    if any(len(used) < _CAPABILITY_BYTES for used in (express, power) if used):
        return None
    if (express and _dword(express) & _EXPRESS_FLR) or (features and features[3] & _ADVANCED_FLR):
        return Reset.FLR
    return Reset.PM if power and not _dword(power) & _NO_SOFT_RESET else Reset.NONE


def _port_type(read: Callable[[int, int], bytes], status: int) -> int | None:
    """The function's device/port type (7.8.2); None for a conventional one."""
    capabilities, _ = _capabilities(read, status)
    controls = (_control(found) for found in capabilities if found[0] == _EXPRESS)
    control = next(controls, None)
    return None if control is None else control >> 4 & 0xF


def _capabilities(read: Callable[[int, int], bytes], status: int) -> tuple[list[bytes], bool]:
    """Return the first bytes of each capability in order, and whether the list was read to its end.

    A list that loops, runs into what reads as all ones, or leaves the space, ends there.
    """
    found: list[bytes] = []
    first = read(_FIRST_CAPABILITY, 1) if status & _HAS_CAPABILITIES else b"\0"
    if not first:
        return found, False
    offset = first[0] & ~3
    while offset >= _HEADER_END:
        capability = read(offset, _CAPABILITY_BYTES)
        silent = capability[:2] == b"\xff\xff"
        if len(capability) < _LEAST_BYTES or silent or len(found) == _MAX_LEGACY_CAPABILITIES:
            return found, False
        found.append(capability)
        offset = capability[1] & ~3
    return found, True


def _control(capability: bytes) -> int:
    """The word behind a capability's header."""
    return int.from_bytes(capability[2:4], "little")


def _dword(capability: bytes) -> int:
    """The dword behind a capability's first one."""
    return int.from_bytes(capability[4:], "little")


def _word(read: Callable[[int, int], bytes], offset: int) -> int | None:
    said = read(offset, 2)
    return int.from_bytes(said, "little") if len(said) == 2 else None  # noqa: PLR2004 - a word is two bytes


def serial_number(read: Callable[[int, int], bytes]) -> str | None:
    """Return the device serial number as lspci prints it, `00-11-22-33-44-55-66-77`; None if there is none.

    `read(offset, size)` returns the bytes there, fewer or none where the space ends. Reads only the list's headers and
    the number: each dword is a round trip to the card. A number of all zeros or all ones is none.
    """
    at = _extended(read, _SERIAL)
    return None if at is None else _spell(read(at + _HEADER_BYTES, _SERIAL_BYTES))


def _extended(read: Callable[[int, int], bytes], wanted: int) -> int | None:
    """Return where that extended capability is; None if there is none. A list that loops or leaves the space ends."""
    offset = LEGACY_SIZE
    for _ in range(_MAX_CAPABILITIES):
        header = read(offset, _HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return None
        (word,) = struct.unpack("<I", header)
        if word in {0, 0xFFFFFFFF}:
            return None
        if word & 0xFFFF == wanted:
            return offset
        offset = word >> 20 & ~3
        if offset < LEGACY_SIZE:
            return None
    return None


def _spell(number: bytes) -> str | None:
    if len(number) < _SERIAL_BYTES or set(number) in ({0x00}, {0xFF}):
        return None
    return number[::-1].hex("-")
