"""Which bridge speaks for a function behind it: an IOMMU sees that bridge's requester id for all that is behind it.

Sources: PCI Express to PCI/PCI-X Bridge Specification 1.0, 2.3; drivers/pci/search.c (pci_for_each_dma_alias),
drivers/pci/pci-sysfs.c (pcie_dev_attrs), drivers/pci/pcie/portdrv.c (pcie_portdrv_probe) (Linux).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cede.adapters.linux.config_files import read_config
from cede.adapters.linux.config_space import makes_conventional
from cede.adapters.linux.sysfs_paths import functions, having_a_root_bus
from cede.model.pci import Address
from cede.util.kernel_files import link_name, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

# of PCI Express alone, and of every function
_SPEED, _WHOLE = "max_link_speed", "enable"
_PORT_DRIVER = "pcieport"


class Requesters:
    """Finds the bridge that speaks for a conventional function, looking at each bridge once.

    Where a bridge's capabilities can't be read, as without root, sysfs tells what it can: only PCI Express has a speed,
    and the kernel's driver for ports takes no bridge to conventional PCI. A bridge of PCI
    Express which that driver hasn't, and behind which there is a function without a speed, is taken for one to
    conventional PCI. What a recorded tree has no file of is not told, and then no bridge speaks for the function.
    """

    def __init__(self, devices: str) -> None:
        self._devices = devices
        self._seen: dict[tuple[str, str], bool] = {}

    def of(self, way: str, entries: Sequence[str]) -> Address | None:
        """Return the bridge next to the root behind which all is conventional; None for PCI Express, or unreadable.

        Intel's VMD speaks for all of the root bus behind it (arch/x86/pci/common.c, pci_real_dma_dev). `way` is the
        function's path in sysfs; `entries` are the names in its folder.
        """
        for name in having_a_root_bus(way):
            return Address.parse(name)
        if _SPEED in entries:
            return None
        pairs = pairwise(functions(way))
        bridges = (name for name, below in pairs if self._makes_conventional(name, below))
        return next((Address.parse(name) for name in bridges), None)

    def _makes_conventional(self, name: str, below: str) -> bool:
        if (name, below) not in self._seen:
            path = f"{self._devices}/{name}"
            known = read_config(path, lambda _, read: makes_conventional(read))
            found = self._as_sysfs_tells(path, below) if known is None else known
            self._seen[name, below] = found
        return self._seen[name, below]

    def _as_sysfs_tells(self, path: str, below: str) -> bool:
        entries = listing(path)
        if _SPEED not in entries:
            return _WHOLE in entries
        behind = listing(f"{self._devices}/{below}")
        to_conventional = link_name(f"{path}/driver") != _PORT_DRIVER
        return to_conventional and _SPEED not in behind and _WHOLE in behind
