"""Uses of devices that guests have through dom0 and that are no disk of theirs, and of storage pools.

Sources: Documentation/ABI/testing/sysfs-bus-usb and stable/sysfs-bus-usb (busnum, devnum, idVendor, idProduct),
Documentation/ABI/testing/sysfs-class-fc_host (port_name), the kernel's drivers/scsi/scsi_sysfs.c (host:channel:id:lun).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, real
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.block_devices import BlockDevices
    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.adapters.linux.host_uses.nodes import Nodes

# names of devices that are folders of sysfs
_FOLDERS = (
    (re.compile(r"^usb:(\d{1,4}-\d{1,4}(?:\.\d{1,4})*)$"), r"bus/usb/devices/\1"),
    (re.compile(r"^scsi:(\d{1,6}:\d{1,6}:\d{1,6}:\d{1,20})$"), r"bus/scsi/devices/\1"),
    (re.compile(r"^scsi_host:(\d{1,6})$"), r"class/scsi_host/host\1"),
    (re.compile(r"^pci:([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$"), r"bus/pci/devices/\1"),
)
# and of those that are known by two of their files
_BY_FILES = (
    (re.compile(r"^usb:(\d{1,4})\.(\d{1,4})$"), "bus/usb/devices/*", ("busnum", "devnum")),
    (re.compile(r"^usb:([0-9a-f]{4}):([0-9a-f]{4})$"), "bus/usb/devices/*", ("idVendor", "idProduct")),
    (re.compile(r"^fc:([0-9a-f]{16})()$"), "class/fc_host/*", ("port_name", "")),
)  # fmt: skip


class ServedDevices:
    """Finds what the names of `model/served.py::Served` stand for, below `sys_root` and `dev_root`."""

    def __init__(self, sys_root: Path, dev_root: Path, blocks: BlockDevices, nodes: Nodes) -> None:
        self._sys, self._dev = sys_root, dev_root
        self._blocks, self._nodes = blocks, nodes

    def of_guests(self, devices: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices behind which there is what a guest uses."""
        for domain, names in devices.items():
            yield from self._uses(names, "guest-device", (f"what {domain} uses",))

    def of_pools(self, pools: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices behind which there is what a storage pool is made of."""
        for pool, names in pools.items():
            yield from self._uses(names, "guest-disk", (f"the storage pool {pool}",))

    def _uses(self, names: Sequence[str], guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        for name in names:
            block = self._blocks.node(name)
            yield from self._blocks.down(block, guard, chain)
            for path in () if block else self._found(name):
                yield from self._blocks.device(path, guard, chain)

    def _found(self, name: str) -> Iterator[Path]:
        """Yield the folders in sysfs of what a name stands for, their links resolved."""
        folders = [
            match.expand(folder) for known, folder in _FOLDERS if (match := known.match(name))
        ]
        if name.startswith("/dev/"):
            node = self._nodes.number(str(self._dev / name.removeprefix("/dev/")))
            folders += [f"dev/char/{node.number}"] if node and not node.block else []
        for known, pattern, files in _BY_FILES:
            match = known.match(name)
            for path in children(self._sys, pattern) if match else ():
                said = tuple(_plain(text(path / file)) if file else "" for file in files)
                if match and said == tuple(map(_plain, match.groups())):
                    folders.append(str(path))
        for folder in folders:
            device = real(self._sys / folder)
            if device is not None:
                yield device


def _plain(number: str) -> str:
    return number.lower().removeprefix("0x").lstrip("0")
