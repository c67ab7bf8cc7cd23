"""The adapter to what hangs on PCI functions: the disks, interfaces, USB devices and so on that go with a device.

Each class in sysfs is a folder of links, and a link's target names the PCI function. A multipath NVMe disk is in its
subsystem, which links to its controllers.
Sources: Documentation/ABI/testing/sysfs-class-*, sysfs-bus-usb, sysfs-bus-mmc, Documentation/ABI/stable/sysfs-block,
drivers/nvme/host/multipath.c and sysfs.c, drivers/mmc/core/mmc.c and sd.c (Linux).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.sysfs_paths import owners
from cede.model.pci import Address, Node, NodeKind
from cede.util.kernel_files import beginning, listing, realpath, text
from cede.util.text import number, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What one chooses a device by. Terminals and inputs are left out: their USB device is listed.
_CLASSES: dict[str, NodeKind] = {
    "net": "interface",
    "block": "disk",
    "sound": "sound card",
    "drm": "display",
}
_CARD = re.compile(r"card\d+")
_PLUGGABLE = re.compile(r"/usb\d+/|/mmc_host/")
_USB_HUB = "09"
_SECTOR, _KIB = 512, 1024
_MAX_LENGTH, _MAX_ID = 60, 200  # a WWID with "t10." has the serial number at its end
_IDS = ("wwid", "device/wwid", "device/cid", "serial")  # NVMe, SCSI, MMC and SD, virtio
_MULTIPATH = "nvme-subsys"


def device_nodes(sys_root: Path) -> dict[Address, tuple[Node, ...]]:
    """Return by address what hangs on each function below `sys_root` (normally `/sys`). Raises nothing."""
    found: dict[Address, list[Node]] = {}
    for path, node in (*_of_classes(sys_root), *_of_usb(sys_root)):
        for address in _owners(path):
            found.setdefault(address, []).append(node)
    return {address: tuple(nodes) for address, nodes in found.items()}


def _owners(path: str) -> tuple[Address, ...]:
    """Return the functions that have what is at the path; of a multipath NVMe disk those of all its controllers."""
    direct = owners(path)
    if direct:
        return direct
    subsystem = path.rpartition("/")[0]
    if not subsystem.rpartition("/")[2].startswith(_MULTIPATH):
        return ()
    controllers = (
        realpath(f"{subsystem}/{name}") for name in beginning(listing(subsystem), "nvme")
    )
    each = (address for controller in controllers for address in owners(controller or ""))
    return tuple(dict.fromkeys(each))


def _of_classes(sys_root: Path) -> Iterator[tuple[str, Node]]:
    for folder, kind in _CLASSES.items():
        for name in listing(sys_root / "class" / folder):
            if folder in {"sound", "drm"} and not _CARD.fullmatch(name):
                continue
            path = realpath(sys_root / "class" / folder / name) or ""
            if folder != "block":
                yield path, Node(kind=kind, name=name)
            elif _is_disk(path):
                yield path, _disk(name, path)


def _of_usb(sys_root: Path) -> Iterator[tuple[str, Node]]:
    devices = sys_root / "bus/usb/devices"
    for name in listing(devices):
        path = realpath(devices / name) or ""
        # an interface of a device (1-1:1.0) has no class of a device
        if text(f"{path}/bDeviceClass") in {"", _USB_HUB}:
            continue
        maker, product = (text(f"{path}/{part}") for part in ("manufacturer", "product"))
        ids = [text(f"{path}/{part}") for part in ("idVendor", "idProduct", "serial")]
        yield (
            path,
            Node(
                kind="USB",
                name=name,
                about=_called(maker, product),
                id=_printable(":".join(filter(None, ids)), _MAX_ID),
                pluggable=True,
            ),
        )


def _is_disk(path: str) -> bool:
    """Whether the path is a whole disk: no partition, no empty card reader, and no mere path to a multipath disk."""
    if text(f"{path}/partition") or text(f"{path}/hidden") == "1":
        return False
    return text(f"{path}/size") not in {"", "0"}


def _disk(name: str, path: str) -> Node:
    maker, model = (text(f"{path}/device/{part}") for part in ("vendor", "model"))
    # virtio's vendor is a number; an MMC or SD card has a name
    called = _called("" if maker.startswith("0x") else maker, model or text(f"{path}/device/name"))
    ids = (text(f"{path}/{file}") for file in _IDS)
    return Node(
        kind="disk",
        name=name,
        about=", ".join(filter(None, (_size(text(f"{path}/size")), called))),
        id=_printable(next(filter(None, ids), ""), _MAX_ID),
        pluggable=_PLUGGABLE.search(path) is not None or text(f"{path}/removable") == "1",
    )


def _size(sectors: str) -> str:
    count = number(sectors)
    if count is None:
        return ""
    size, unit = count * _SECTOR / _KIB, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size >= _KIB:
            size, unit = size / _KIB, larger
    return f"{size:.1f} {unit}"


def _called(maker: str, model: str) -> str:
    """Return what a device calls itself, printable and at most 60 characters long, with the maker once."""
    return _printable(model if model.startswith(maker) else f"{maker} {model}")


def _printable(said: str, length: int = _MAX_LENGTH) -> str:
    """Return what a device says in one line, printable and at most `length` characters long."""
    return one_line(" ".join(said.split()), length)
