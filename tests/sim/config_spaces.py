"""The first 256 bytes of real cards' configuration spaces, as `lspci -xxx` shows them.

None is a copy of a dump: each is built of what `lspci -vvnn` of such a card prints (which capabilities it has, where,
and what they say) by the layouts of PCI Local Bus Specification 3.0, 6.1 and 6.7, PCI Bus Power Management Interface
Specification 1.2, 3.2, PCI Express Base Specification 3.0, 7.8, and the ECN Advanced Capabilities for Conventional PCI.
Base addresses and the like are zeros. A capability is its offset, its kind, and what follows its two bytes of header.
"""

from __future__ import annotations

import struct

POWER, MSI, VENDOR, EXPRESS, MSIX, ADVANCED = 0x01, 0x05, 0x09, 0x10, 0x11, 0x13
SOFT_RESET_LOST, NO_SOFT_RESET = 0x0000, 0x0008  # NoSoftRst- and NoSoftRst+, in D0
FLR = 0x1000_0000
_STATUS_LIST = 0x0010


def space(identity: str, class_code: int, *capabilities: tuple[int, int, bytes]) -> bytes:
    """A header of type 0 and the list of these capabilities, each with its offset, kind and body."""
    vendor, device = (int(word, 16) for word in identity.split(":"))
    said = bytearray(256)
    status = _STATUS_LIST if capabilities else 0
    struct.pack_into("<HHHHI", said, 0, vendor, device, 0x0107, status, class_code << 8)
    link = 0x34
    for at, kind, body in capabilities:
        said[link] = at
        said[at] = kind
        said[at + 2 : at + 2 + len(body)] = body
        link = at + 1
    return bytes(said)


def power(control: int, capabilities: int = 0xC803) -> bytes:
    """Power management: its capabilities, control and status."""
    return struct.pack("<HHH", capabilities, control, 0)


def express(port: int, device_capabilities: int) -> bytes:
    """PCI Express, version 2: its port type and device capabilities."""
    return struct.pack("<HI", 2 | port << 4, device_capabilities)


def message(control: int) -> bytes:
    """MSI or MSI-X: its control word, nothing programmed."""
    return struct.pack("<HII", control, 0, 0)


ENDPOINT, LEGACY_ENDPOINT, INTEGRATED = 0, 1, 9

# Cayman XT, Radeon HD 6970: [50] power management, NoSoftRst-; [58] legacy endpoint, FLReset-; [a0] MSI
RADEON_HD_6970 = space(
    "1002:6718",
    0x030000,
    (0x50, POWER, power(SOFT_RESET_LOST, 0x0603)),
    (0x58, EXPRESS, express(LEGACY_ENDPOINT, 0x0000_8FA1)),
    (0xA0, MSI, message(0x0080)),
)
# its sound, Cayman/Antilles HDMI Audio, the same capabilities
RADEON_HD_6970_SOUND = space(
    "1002:aa80",
    0x040300,
    (0x50, POWER, power(SOFT_RESET_LOST, 0x0603)),
    (0x58, EXPRESS, express(LEGACY_ENDPOINT, 0x0000_8FA1)),
    (0xA0, MSI, message(0x0080)),
)
# a graphics card that keeps its state in D3hot: as the above, with NoSoftRst+
NO_SOFT_RESET_GRAPHICS = space(
    "10de:1c82",
    0x030000,
    (0x60, POWER, power(NO_SOFT_RESET, 0x0003)),
    (0x68, MSI, message(0x0080)),
    (0x78, EXPRESS, express(LEGACY_ENDPOINT, 0x0000_8DE1)),
)
# 82576 Gigabit (igb): [40] power management, NoSoftRst-; [50] MSI; [70] MSI-X; [a0] endpoint, FLReset+
IGB = space(
    "8086:10c9",
    0x020000,
    (0x40, POWER, power(SOFT_RESET_LOST)),
    (0x50, MSI, message(0x0180)),
    (0x70, MSIX, message(0x0009)),
    (0xA0, EXPRESS, express(ENDPOINT, 0x0000_8CC2 | FLR)),
)
# 82574L (e1000e) with its driver: [c8] power management, NoSoftRst-; [d0] MSI; [e0] endpoint, FLReset-; [a0] MSI-X, on
E1000E = space(
    "8086:10d3",
    0x020000,
    (0xC8, POWER, power(SOFT_RESET_LOST)),
    (0xD0, MSI, message(0x0080)),
    (0xE0, EXPRESS, express(ENDPOINT, 0x0000_8CC1)),
    (0xA0, MSIX, message(0x8004)),
)
# 82540EM (e1000) as QEMU makes it: no capabilities at all
E1000 = space("8086:100e", 0x020000)
# ICH10 EHCI: [50] power management, NoSoftRst+; [58] debug port; [98] PCI Advanced Features, TP+ FLR+
EHCI = space(
    "8086:3a3a",
    0x0C0320,
    (0x50, POWER, power(NO_SOFT_RESET, 0xC9C2)),
    (0x58, 0x0A, struct.pack("<H", 0x20A0)),
    (0x98, ADVANCED, struct.pack("<BBBB", 6, 0x03, 0, 0)),
)
# 82576 virtual function: no vendor and device (SR-IOV 1.1, 3.4.1.1), [70] MSI-X; [a0] endpoint, and no FLR told
VIRTUAL_FUNCTION = space(
    "ffff:ffff",
    0x020000,
    (0x70, MSIX, message(0x0002)),
    (0xA0, EXPRESS, express(ENDPOINT, 0x0000_8CC2)),
)
# a SATA controller of an Arrow Lake's second root bus: [70] power management, NoSoftRst+; [80] MSI
SATA = space(
    "8086:7f62",
    0x010601,
    (0x80, MSI, message(0x0000)),
    (0x70, POWER, power(NO_SOFT_RESET, 0x4003)),
)
# the wireless part of that chipset, 80:14.3: integrated endpoint, FLReset+
INTEGRATED_WIRELESS = space(
    "8086:7f70",
    0x028000,
    (0xC8, POWER, power(NO_SOFT_RESET)),
    (0xD0, MSI, message(0x0080)),
    (0x40, EXPRESS, express(INTEGRATED, 0x1000_8EC0)),
    (0x80, MSIX, message(0x000F)),
)
SILENT = b"\xff" * 256
