"""Uses by the administrator in front of the machine: the display, the only keyboard, consoles and watchdogs.

Sources: Documentation/ABI/testing/sysfs-bus-pci (boot_vga), sysfs-class-drm (boot_display) and sysfs-class-watchdog,
Documentation/fb/fbcon.rst, proc(5) (consoles, iomem), the kernel's drivers/input/input.c (capabilities),
include/uapi/linux/input-event-codes.h and drivers/firmware/sysfb.c (what the firmware's frame buffer is called).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.adapters.linux.host_uses.nodes import Nodes

_KEY_Q, _KEY_P = 16, 25
_LETTERS = sum(1 << key for key in range(_KEY_Q, _KEY_P + 1))
_CONSOLE = re.compile(r"^(\S+) .*?(\d+:\d+)\s*$")
_FRAME_BUFFER = re.compile(r"^fb(\d{1,3})$")
_IOMEM = re.compile(r"^( *)[0-9a-f]+-[0-9a-f]+ : (.*)$")
_FUNCTION = re.compile(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_FIRMWARES = (
    "bootfb",
    "efifb",
    "vesafb",
    "simplefb",
    "simpledrm",
    "simple-framebuffer",
    "efi-framebuffer",
)


class Seat:
    """Finds uses of displays, consoles and input devices below `sys_root`, `proc_root` and `dev_root`."""

    def __init__(self, sys_root: Path, proc_root: Path, dev_root: Path, nodes: Nodes) -> None:
        self._sys = sys_root
        self._proc = proc_root
        self._dev = dev_root
        self._nodes = nodes

    def boot_display(self) -> Iterator[Use]:
        """Yield the device of the display that the firmware booted on."""
        for pattern in ("bus/pci/devices/*/boot_vga", "class/drm/card*/boot_display"):
            for path in children(self._sys, pattern):
                device = real(path.parent)
                if device is not None and text(path) == "1":
                    yield from controllers(device, "boot-vga", ("the boot display",))
        for address in self._with_firmwares_frame_buffer():
            device = real(self._sys / "bus/pci/devices" / address)
            if device is not None:
                yield from controllers(device, "boot-vga", ("the firmware's frame buffer",))

    def _with_firmwares_frame_buffer(self) -> Iterator[str]:
        """Yield the functions in whose memory the firmware's frame buffer is, which the kernel still draws on."""
        above: list[tuple[int, str]] = []
        said = text(self._proc / "iomem")
        drawn_on = said.lower()
        if not any(name in drawn_on for name in _FIRMWARES):
            return  # a big host has thousands of lines
        for line in said.splitlines():
            # `text` strips the first line's indentation, and there is none
            match = _IOMEM.match(line)
            if match is None:
                continue
            depth, name = len(match[1]), match[2].strip()
            above = [(at, what) for at, what in above if at < depth]
            if name.lower().startswith(_FIRMWARES):
                yield from [what for _, what in above if _FUNCTION.match(what)][-1:]
            above.append((depth, name))

    def consoles(self) -> Iterator[Use]:
        """Yield the devices of the kernel's consoles, and of the frame buffers that text consoles are on."""
        for line in text(self._proc / "consoles").splitlines():
            match = _CONSOLE.match(line)
            device = real(f"{self._sys}/dev/char/{match[2]}") if match else None
            if match is not None and device is not None:
                yield from controllers(device, "console", (f"the console {match[1]}",))
        for number in self._text_frame_buffers():
            device = real(self._sys / "class/graphics" / f"fb{number}")
            if device is not None:
                yield from controllers(device, "console", (f"fb{number}", "the text console"))

    def _text_frame_buffers(self) -> list[int]:
        """The frame buffers with text consoles: as the kernel tells, else the first, to which all go by themselves."""
        consoles = children(self._sys, "class/vtconsole/vtcon*")
        if consoles and not any(
            text(console / "bind") == "1" and "frame buffer" in text(console / "name")
            for console in consoles
        ):
            return []
        names = (path.name for path in children(self._sys, "class/graphics/fb*"))
        numbers = sorted(int(match[1]) for name in names if (match := _FRAME_BUFFER.match(name)))
        if not numbers:
            return []
        shown = self._nodes.console_frame_buffers(str(self._dev / f"fb{numbers[0]}"))
        return [number for number in numbers if number in shown] or numbers[:1]

    def watchdogs(self) -> Iterator[Use]:
        """Yield the devices of watchdogs that reset the host once nobody strokes them."""
        for path in children(self._sys, "class/watchdog/watchdog*"):
            device = real(path)
            if device is not None and text(path / "state") == "active":
                yield from controllers(device, "watchdog", (f"the armed {path.name}",))

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
