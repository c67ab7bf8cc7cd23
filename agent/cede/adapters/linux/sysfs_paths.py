"""Which PCI functions are on a path in sysfs, from the root bus on.

Behind a function there may be a whole root bus: behind Intel's VMD, with a segment of its own. Sources:
drivers/pci/probe.c (pci_setup_device, which names them), drivers/pci/controller/vmd.c.
"""

from __future__ import annotations

import re
from itertools import pairwise

from cede.model.pci import Address

_FUNCTION = re.compile(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")
_ROOT_BUS = re.compile(r"^pci[0-9a-f]{4,8}:[0-9a-f]{2}$")


def is_function(name: str) -> bool:
    """Whether that is how the kernel names a PCI function."""
    return _FUNCTION.match(name) is not None


def is_root_bus(name: str) -> bool:
    """Whether that is how the kernel names a root bus, `pci0000:00`."""
    return _ROOT_BUS.match(name) is not None


def functions(path: str) -> list[str]:
    """Return the names of the functions on the path, the one next to the root first."""
    return [part for part in path.split("/") if is_function(part)]


def having_a_root_bus(path: str) -> list[str]:
    """Return those of the functions on the path that have a whole root bus behind them, and not just a bridge."""
    pairs = pairwise(path.split("/"))
    return [part for part, below in pairs if is_function(part) and is_root_bus(below)]


def owners(path: str) -> tuple[Address, ...]:
    """Return the functions of which each, given away, takes along what is at the path; none if that is virtual.

    These are the last one, and each that has its root bus behind it.
    """
    last = functions(path)[-1:]
    return tuple(map(Address.parse, dict.fromkeys([*having_a_root_bus(path), *last])))
