"""What dom0's kernel shows of a device that is broken: it answers no more, or made errors on the bus.

Sources: PCI Express Base Specification 5.0, 2.3.2 (a read that nothing answers returns all ones) and 9.3.4.1 (a virtual
function's vendor and device are all ones, its command register isn't); Linux,
Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.config_files import read_config
from cede.util.kernel_files import text
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Collection

_HEADER = 64
_FATAL, _NONFATAL = "aer_dev_fatal", "aer_dev_nonfatal"
_NAME = re.compile(r"[A-Z][A-Za-z]{1,40}")
_TOTAL = "TOTAL_"
_PROBED = "UnsupReq"  # what a driver that asks for what the device hasn't makes, too


def off_the_bus(path: str) -> bool:
    """Whether all of the header in the function's configuration space reads as ones; it must not be asleep."""
    header = read_config(path, lambda _, read: read(0, _HEADER))
    return header is not None and len(header) == _HEADER and set(header) == {0xFF}


def aer_errors(path: str, entries: Collection[str]) -> tuple[str, ...]:
    """Return the uncorrectable errors of the function with the folder `entries`, as phrases: `2 fatal DLP`."""
    found = []
    for file, severity in ((_FATAL, "fatal"), (_NONFATAL, "non-fatal")):
        if file not in entries:
            continue
        for line in text(f"{path}/{file}").splitlines():
            name, _, count = line.rpartition(" ")
            times = number(count) or 0
            counts = _NAME.fullmatch(name) is not None and not name.startswith(_TOTAL)
            if times and counts and (file == _FATAL or name != _PROBED):
                found.append(f"{times} {severity} {name}")
    return tuple(found)
