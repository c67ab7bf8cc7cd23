"""What stands in a function's PCIe configuration space: the serial number that a card was made with.

Sources: PCI Express Base Specification 3.0, 7.9.3 (extended capability header) and 7.12 (device serial number);
pciutils' ls-ecaps.c for the spelling.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEGACY_SIZE = 256
SIZE = 4096
_SERIAL = 0x0003
_HEADER_BYTES, _SERIAL_BYTES = 4, 8
_MOST_CAPABILITIES = (SIZE - LEGACY_SIZE) // _SERIAL_BYTES


def serial_number(read: Callable[[int, int], bytes]) -> str | None:
    """The device serial number as lspci prints it, `00-11-22-33-44-55-66-77`; None if there is none.

    `read(offset, size)` gives the bytes that are there, fewer or none where the space ends. Only the headers of the
    list and the number itself are read: each dword costs a round trip to the card. A list that runs in a circle or
    out of the space ends, and a number of all zeros or all ones is nobody's.
    """
    offset = LEGACY_SIZE
    for _ in range(_MOST_CAPABILITIES):
        header = read(offset, _HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return None
        (word,) = struct.unpack("<I", header)
        if word in {0, 0xFFFFFFFF}:
            return None
        if word & 0xFFFF == _SERIAL:
            return _spell(read(offset + _HEADER_BYTES, _SERIAL_BYTES))
        offset = word >> 20 & ~3
        if offset < LEGACY_SIZE:
            return None
    return None


def _spell(number: bytes) -> str | None:
    if len(number) < _SERIAL_BYTES or set(number) in ({0x00}, {0xFF}):
        return None
    return number[::-1].hex("-")
