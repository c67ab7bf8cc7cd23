"""Uses of disks by what hands them on without holding them: loop devices, targets for other hosts, open files.

Sources: Documentation/ABI/testing/sysfs-block-loop, the kernel's drivers/target/target_core_configfs.c,
target_core_iblock.c and target_core_pscsi.c (*_show_configfs_dev_params), drivers/nvme/target/configfs.c,
drivers/block/zram (backing_dev).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real
from cede.model.pci import PCIBACK
from cede.util.kernel_files import link_name, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.block_devices import BlockDevices
    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.adapters.linux.host_uses.processes import OpenDevice

_NUMBERS = re.compile(r"Major: (\d+) Minor: (\d+)")
_SCSI = re.compile(r"Channel ID: (\d+) Target ID: (\d+) LUN: (\d+) Host ID: (\d+|PHBA Mode)")
_FILE = re.compile(r"File: (\S+)")
_DELETED = " (deleted)"
_HEARD_ONLY = (
    "control",
    "seq",
    "timer",
)  # a sound server opens a card's controls, and closes them when it goes


class BackingStores:
    """Finds what loop devices, targets and processes have block devices for."""

    def __init__(self, sys_root: Path, blocks: BlockDevices) -> None:
        self._sys = sys_root
        self._blocks = blocks

    def loops(self) -> Iterator[Use]:
        """Yield the devices behind loop devices and compressed memory; a file is on a mounted file system."""
        for pattern in ("block/loop*/loop/backing_file", "block/zram*/backing_dev"):
            for path in children(self._sys, pattern):
                backing = text(path).removesuffix(_DELETED)
                name = path.relative_to(self._sys / "block").parts[0]
                yield from self._blocks.down(self._blocks.node(backing), "backing", (name,))

    def targets(self) -> Iterator[Use]:
        """Yield the devices that the kernel serves to others: SCSI targets (LIO) and NVMe targets."""
        config = self._sys / "kernel/config"
        for store in children(config / "target/core", "*_*/*/"):
            about = text(store / "info")
            numbers = [f"{major}:{minor}" for major, minor in _NUMBERS.findall(about)]
            paths = [text(store / "udev_path"), *_FILE.findall(about)]
            name = f"the SCSI target {store.name}"
            yield from self._served([*numbers, *paths], name)
            yield from self._passed_through(about, name)
        for space in children(config / "nvmet/subsystems", "*/namespaces/*/"):
            name = f"the NVMe target {space.parent.parent.name}"
            if text(space / "enable") != "0":
                yield from self._served([text(space / "device_path")], name)

    def _served(self, paths: Sequence[str], name: str) -> Iterator[Use]:
        for block in dict.fromkeys(map(self._blocks.node, paths)):
            yield from self._blocks.down(block, "backing", (name,))

    def _passed_through(self, about: str, name: str) -> Iterator[Use]:
        """Yield the SCSI device, a tape say, that a target serves as it is; of any host where the target names none."""
        for channel, target, lun, host in _SCSI.findall(about):
            on = host if host.isdecimal() else "*"
            for path in children(self._sys / "bus/scsi/devices", f"{on}:{channel}:{target}:{lun}"):
                device = real(path)
                if device is not None:
                    yield from self._blocks.device(device, "backing", (name,))

    def open_devices(self, opened: Sequence[OpenDevice]) -> Iterator[Use]:
        """Yield the devices that processes have open: block devices, character devices, a card's own memory."""
        for file in opened:
            chain = (f"what {file.process} has open",)
            if file.device is None:
                path = real(f"{self._sys}/{file.resource.removeprefix('/sys/')}")
                # what is on pciback is open for its guest, by the guest's device model
                if path is not None and link_name(path.parent / "driver") != PCIBACK:
                    yield from controllers(path, "open", chain)
            elif file.device.block:
                block = self._blocks.numbered(file.device.number)
                yield from self._blocks.down(block, "open", chain)
            else:
                path = real(f"{self._sys}/dev/char/{file.device.number}")
                if path is not None and not _heard_only(path):
                    yield from self._blocks.device(path, "open", chain)


def _heard_only(path: Path) -> bool:
    """Whether to have it open is to wait for what comes from it: keys, or a sound card's controls."""
    if "input" in path.parts:
        return True
    return "sound" in path.parts and path.name.startswith(_HEARD_ONLY)
