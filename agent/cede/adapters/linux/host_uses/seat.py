"""Uses by the administrator in front of the machine: the boot display, and the only keyboard.

Sources: Documentation/ABI/testing/sysfs-bus-pci (boot_vga), the kernel's drivers/input/input.c (capabilities) and
include/uapi/linux/input-event-codes.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cede.adapters.linux.host_uses.device_tree import Use

_KEY_Q, _KEY_P = 16, 25
_LETTERS = sum(1 << key for key in range(_KEY_Q, _KEY_P + 1))


class Seat:
    """Finds uses of displays and input devices below `sys_root`."""

    def __init__(self, sys_root: Path) -> None:
        self._sys = sys_root

    def boot_display(self) -> Iterator[Use]:
        """Yield the device of the display that the firmware booted on."""
        for path in children(self._sys, "bus/pci/devices/*/boot_vga"):
            device = real(path.parent)
            if device is not None and text(path) == "1":
                yield from controllers(device, "boot-vga", ("the boot display",))

    def keyboard(self) -> Iterator[Use]:
        """Yield the function behind which all keyboards are, if there is one; a PS/2 keyboard is behind none."""
        ways = []
        for path in children(self._sys, "class/input/input*"):
            device = real(path)
            if device is None or not _is_keyboard(text(device / "capabilities/key")):
                continue
            if "virtual" not in device.parts:  # made by a program
                ways.append(list(controllers(device, "keyboard", ("the only keyboard",))))
        if ways and all(way == ways[0] for way in ways):
            yield from ways[0]


def _is_keyboard(bitmap: str) -> bool:
    """Whether the keys include Q to P; the bitmap is in words of a `long`, the lowest last."""
    try:
        lowest = int(bitmap.rsplit(maxsplit=1)[-1], 16)
    except (IndexError, ValueError):
        return False
    return lowest & _LETTERS == _LETTERS
