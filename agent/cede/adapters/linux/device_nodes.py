"""The adapter to what hangs on PCI functions: the disks, interfaces, USB devices and so on that go with a device.

Each class in sysfs is a folder of links, and a link's target names the PCI function.
Sources: Documentation/ABI/testing/sysfs-class-*, sysfs-bus-usb, Documentation/ABI/stable/sysfs-block.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cede.model.pci import Address, Node, NodeKind
from cede.util.kernel_files import listing, realpath, text
from cede.util.text import number, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

# What one chooses a device by. Terminals and inputs are left out: their USB device is listed.
_CLASSES: dict[str, NodeKind] = {
    "net": "interface",
    "block": "disk",
    "sound": "sound card",
    "drm": "display",
}
_FUNCTION = re.compile(r"/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/)")
_CARD = re.compile(r"card\d+")
_USB_HUB = "09"
_SECTOR, _KIB = 512, 1024
_MAX_LENGTH = 60


def device_nodes(sys_root: Path) -> dict[Address, tuple[Node, ...]]:
    """Return by address what hangs on each function below `sys_root` (normally `/sys`). Raises nothing."""
    found: dict[Address, list[Node]] = {}
    for address, node in (*_of_classes(sys_root), *_of_usb(sys_root)):
        found.setdefault(address, []).append(node)
    return {address: tuple(nodes) for address, nodes in found.items()}


def _of_classes(sys_root: Path) -> Iterator[tuple[Address, Node]]:
    for folder, kind in _CLASSES.items():
        for name in listing(sys_root / "class" / folder):
            if folder in {"sound", "drm"} and not _CARD.fullmatch(name):
                continue
            path = realpath(sys_root / "class" / folder / name) or ""
            address = _owner(path)
            if address is None:
                continue
            if folder != "block":
                yield address, Node(kind=kind, name=name)
            elif _is_disk(path):
                yield address, Node(kind=kind, name=name, about=_disk(path))


def _of_usb(sys_root: Path) -> Iterator[tuple[Address, Node]]:
    devices = sys_root / "bus/usb/devices"
    for name in listing(devices):
        path = realpath(devices / name) or ""
        address = _owner(path)
        # an interface of a device (1-1:1.0) has no class of a device
        if address is None or text(f"{path}/bDeviceClass") in {"", _USB_HUB}:
            continue
        maker, product = (text(f"{path}/{part}") for part in ("manufacturer", "product"))
        yield address, Node(kind="USB", name=name, about=_called(maker, product))


def _owner(path: str) -> Address | None:
    """Return the last PCI function on the path: giving that away takes the node along."""
    functions = _FUNCTION.findall(path)
    return Address.parse(functions[-1]) if functions else None


def _is_disk(path: str) -> bool:
    """Whether the path is a whole disk: neither a partition nor an empty card reader."""
    return not text(f"{path}/partition") and text(f"{path}/size") not in {"", "0"}


def _disk(path: str) -> str:
    maker, model = (text(f"{path}/device/{part}") for part in ("vendor", "model"))
    # virtio's vendor is a number
    called = _called("" if maker.startswith("0x") else maker, model)
    return ", ".join(filter(None, (_size(text(f"{path}/size")), called)))


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
    words = " ".join((model if model.startswith(maker) else f"{maker} {model}").split())
    return one_line(words, _MAX_LENGTH)
