"""PCI addresses: one spelling inside, every spelling at the edge.

Inside cede an address is always the kernel's SBDF form `0000:01:00.0`. People, libvirt, xl and kernel parameters
write it in half a dozen other ways; all of them are read here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_SBDF = re.compile(
    r"^(?:(?P<segment>[0-9a-f]{1,4}):)?(?P<bus>[0-9a-f]{1,2}):(?P<slot>[0-9a-f]{1,2})\.(?P<function>[0-7])$"
)
_NODE_DEVICE = re.compile(
    r"^pci_(?P<segment>[0-9a-f]{4})_(?P<bus>[0-9a-f]{2})_(?P<slot>[0-9a-f]{2})_(?P<function>[0-7])$"
)
_VDEV = re.compile(
    r"^(?P<segment>[0-9a-f]{4}):(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})\.0?(?P<function>[0-7])$"
)
_MAX_SEGMENT, _MAX_BUS, _MAX_SLOT, _MAX_FUNCTION = 0xFFFF, 0xFF, 0x1F, 7


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A PCI function's place: segment, bus, slot (device) and function.

    *Segment* is what libvirt and lspci call the PCI domain; here a domain is always a Xen domain.
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
        found = _SBDF.match(bare) or _NODE_DEVICE.match(bare) or _VDEV.match(bare)
        if found is None:
            raise ValueError(f"{text!r} is not a PCI address; one looks like 0000:01:00.0")
        parts = {name: int(value or "0", 16) for name, value in found.groupdict().items()}
        return cls(parts["segment"], parts["bus"], parts["slot"], parts["function"])

    @classmethod
    def from_devfn(cls, devfn: int) -> Self:
        """The address on bus 0 that a devfn byte means (xenstore's vdevfn-N: slot * 8 + function)."""
        return cls(0, 0, devfn >> 3, devfn & 7)

    @property
    def node_device(self) -> str:
        """The node device's name in libvirt, `pci_0000_01_00_0` (virNodeDeviceGetName)."""
        return f"pci_{self.segment:04x}_{self.bus:02x}_{self.slot:02x}_{self.function}"

    def same_bus(self, other: Address) -> bool:
        """Whether a secondary bus reset of one would reset the other."""
        return (self.segment, self.bus) == (other.segment, other.bus)
