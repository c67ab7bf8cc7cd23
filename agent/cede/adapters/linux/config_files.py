"""What is read of functions' `config` files in sysfs, and what of it is kept, so that no device is woken in vain.

A card that went and came back has a folder with another inode, its `instance`, and is read anew.
Sources: Documentation/ABI/testing/sysfs-bus-pci, drivers/pci/pci-sysfs.c, drivers/pci/access.c (Linux).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cede.adapters.linux.config_space import LEGACY_SIZE, own_reset, serial_number
from cede.adapters.linux.sysfs_paths import functions
from cede.model.pci import Reset
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_T = TypeVar("_T")

_SUSPENDED = {"suspended", "suspending"}  # Documentation/ABI/testing/sysfs-devices-power
_NO_POWER = "D3cold"
_PCI_BRIDGE = re.compile(r"^(?:0x0604[0-9a-f]{2}|PCI_CLASS=604[0-9A-F]{2})$", re.MULTILINE)


def read_config(path: str, ask: Callable[[int, Callable[[int, int], bytes]], _T]) -> _T | None:
    """Call `ask` with the size and a reader of the function's `config`; None if that can't be read.

    Without root only the first 64 bytes are readable.
    """
    try:
        config = os.open(f"{path}/config", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size = os.fstat(config).st_size
        return ask(size, lambda offset, length: os.pread(config, length, offset))
    except OSError:
        return None  # it vanished while it was read
    finally:
        os.close(config)


def asleep(path: str) -> bool:
    """Whether reading the function's `config` would wake it, or a bridge above it (drivers/pci/access.c).

    A function in D3hot that a driver has not suspended answers as it is.
    """
    return (
        text(f"{path}/power/runtime_status") in _SUSPENDED
        or text(f"{path}/power_state") == _NO_POWER
    )


def serial(path: str) -> str | None:
    """Return the serial number of the function in that folder, for which it is woken; None if it shows none."""
    try:
        if os.stat(f"{path}/config").st_size <= LEGACY_SIZE:
            return None
    except OSError:
        return None  # it vanished
    return read_config(path, lambda _, read: serial_number(read))


class Serials:
    """The serial numbers of this process' looks: one of a card that fell asleep is still that card's."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str]] = {}

    def of(self, path: str, instance: int | None, *, asleep: bool) -> str | None:
        """Return the serial number; of a function that is asleep the one that was read before, if any."""
        if asleep:
            before, number = self._seen.get(path, (None, None))
            return number if before == instance else None
        number = serial(path)
        if number is None or instance is None:
            self._seen.pop(path, None)
        else:
            self._seen[path] = (instance, number)
        return number


class LibvirtReset(NamedTuple):
    """How libvirt would reset a function, None if that can't be told; and whether it finds no bridge above it."""

    reset: Reset | None
    on_root_bus: bool


class Resets:
    """How libvirt would reset each function, found but once: that stays as it is while the function is there.

    So a function that sleeps is woken once at most, and sleeps on afterwards; to wait until it wakes would be to refuse
    it as long as it sleeps. What can't be told is asked again.

    Nothing is kept for other processes. What would tell that a card in the same place is still the same one, its inode
    in sysfs, is a number that another boot gives again, and an address with vendor, device and subsystem names each
    card of a model. A card whose firmware is loaded anew may show other capabilities. A reading is a few dozen bytes,
    the daemon reads once in its life, and a command reads what it decides on.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, LibvirtReset]] = {}

    def of(
        self,
        path: str,
        way: str,
        instance: int | None,
        entries: Collection[str],
        *,
        is_bridge: bool,
    ) -> LibvirtReset:
        """Return how libvirt would reset the function in the folder `path` with these `entries`; of a bridge, None.

        `way` is its real path. libvirt takes for granted that a virtual function has an FLR.
        """
        before, found = self._seen.get(path, (None, None))
        if found is not None and before == instance:
            return found
        root = _on_root_bus(path, way)
        if root is None:
            return LibvirtReset(None, on_root_bus=False)
        own = None
        if "physfn" in entries:
            own = Reset.FLR
        elif not is_bridge:
            own = read_config(path, lambda _, read: own_reset(read))
        reset = Reset.BUS if own is Reset.NONE and not root else own
        answer = LibvirtReset(reset, on_root_bus=root)
        if instance is not None and (is_bridge or own is not None):
            self._seen[path] = (instance, answer)
        return answer


def _on_root_bus(path: str, way: str) -> bool | None:
    """Whether no bridge from PCI to PCI is above the function; None if that can't be told.

    libvirt goes by those bridges' bus numbers (src/util/virpci.c, virPCIDeviceGetParent): of a virtual function on
    another bus than its physical one it finds the same bridge, and behind one to CardBus alone it finds none.
    """
    above = len(functions(way)) - 1
    if above < 0:
        return None
    all_known = True
    for step in range(1, above + 1):
        folder = f"{path}{'/..' * step}"
        code = text(f"{folder}/class") or text(
            f"{folder}/uevent"
        )  # a recorded tree may have but one
        if _PCI_BRIDGE.search(code):
            return False
        all_known = all_known and code != ""
    return True if all_known else None
