"""Lines of Xen's log and of a kernel's: whose they are, and how they word the faults of a device and its resets.

Sources: Xen, xen/drivers/passthrough/vtd/iommu.c (iommu_page_fault_do_one), amd/iommu_init.c (parse_event_log_entry);
before Xen 4.11 AMD's has the device's number without a segment, and VT-d's, too, before 4.4. Linux, drivers/pci/pci.c
(pci_dev_wait); before Linux 4.13 pci_flr_wait there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The end of a reset: the device came back, or was given up. A line that only says that the kernel is still waiting
# ("not ready 1023ms after FLR; waiting") is neither.
RESET_CAME_BACK = r"ready \d{1,9}ms after [^;]{1,40}$"
RESET_GIVEN_UP = r"(?:not ready \d{1,9}ms after [^;]{1,40}; giving up|[Ff]ailed to return from FLR)"
_AT = r"(?P<segment>[0-9a-f]{4}:)?(?P<at>[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_VTD = re.compile(
    rf"(?:DMAR|INTR-REMAP|UNKNOWN): ?(?:\[[A-Za-z ]{{1,20}}\] )?Request device \[{_AT}\] fault "
)
_AMD = re.compile(rf"AMD-Vi: IO_PAGE_FAULT: {_AT} ")
_AMD_NUMBER = re.compile(r"AMD-Vi: IO_PAGE_FAULT: .{0,40}device id = 0x(?P<number>[0-9a-f]{1,4})\b")
_OWN_LINE = "(XEN) "


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLine:
    """One line of a kernel's log, of printable characters only, and when it was said."""

    seconds_since_boot: float
    text: str


def own_lines(log: str) -> str:
    """Return Xen's own lines of its log, each with its end.

    Guests and dom0 write there too, without the prefix (xen/drivers/char/console.c, guest_console_write), and only a
    line feed ends a line: what else looks like an end may be a guest's.
    """
    return "".join(f"{line}\n" for line in log.split("\n") if line.startswith(_OWN_LINE))


class IommuFault(NamedTuple):
    """One line of Xen's log on a fault, and the device, as the IOMMU names who asked."""

    address: Address
    line: str


def iommu_faults(lines: Iterable[str]) -> Iterator[IommuFault]:
    """Yield each fault in the log, the oldest first.

    Devices behind a PCIe-to-PCI bridge ask with that bridge's requester id, so the address may be no device's.
    """
    for line in lines:
        address = _asker(line)
        if address is not None:
            yield IommuFault(address=address, line=line)


def _asker(line: str) -> Address | None:
    match = _VTD.search(line) or _AMD.search(line)
    if match is not None:
        return Address.parse(f"{match['segment'] or '0000:'}{match['at']}")
    numbered = _AMD_NUMBER.search(line)
    if numbered is None:
        return None
    number = int(numbered["number"], 16)
    return Address(0, number >> 8, number >> 3 & 0x1F, number & 0x7)
