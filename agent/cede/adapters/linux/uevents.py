"""The adapter to the kernel's uevents: PCI devices that come, go, or get or lose a driver.

A plain socket instead of pyudev: nothing that udev adds is needed.
Sources: lib/kobject_uevent.c, drivers/base/dd.c (bind and unbind), netlink(7).
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from cede.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_NETLINK_KOBJECT_UEVENT = 15
_KERNELS_GROUP = 1  # udev sends its own on group 2
_KERNEL = 0  # as the sender's port
_MAX_LENGTH = 8192  # UEVENT_BUFFER_SIZE is 2048, and the header comes before it
_MAX_AT_ONCE = 256
_WORDS = {
    "add": "came",
    "remove": "went",
    "bind": "got a driver",
    "unbind": "lost its driver",
}


def words(message: bytes) -> str:
    """Return a uevent in words, `0000:01:00.0 got a driver`; empty for other events than these of PCI devices.

    The message is `ACTION@DEVPATH` and then `KEY=VALUE`, each ended by a zero byte.
    """
    fields = message.split(b"\0")[1:]
    pairs = dict(field.partition(b"=")[::2] for field in fields if b"=" in field)
    action = pairs.get(b"ACTION", b"").decode("ascii", "replace")
    if pairs.get(b"SUBSYSTEM") != b"pci" or action not in _WORDS:
        return ""
    place = pairs.get(b"PCI_SLOT_NAME", b"").decode("ascii", "replace")
    return f"{place or 'a PCI device'} {_WORDS[action]}"


def _kernels() -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT
    )
    opened.bind((0, _KERNELS_GROUP))
    return opened


class Uevents:
    """Listens to the kernel alone: what another process sends to this socket is dropped.

    `describe` puts an event into words.
    """

    name = "kernel"

    def __init__(self, describe: Callable[[bytes], str] = words) -> None:
        self._describe = describe
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Open the socket. Raises UnreachableError if the kernel allows none."""
        try:
            self._socket = _kernels()
            self._socket.setblocking(False)
        except OSError as error:
            raise UnreachableError(
                f"cede can't receive the kernel's uevents: {error}", name="uevents-unreachable"
            ) from error

    def fileno(self) -> int:
        """Return the descriptor, readable when an event has come."""
        return self._socket.fileno() if self._socket is not None else -1

    def read(self) -> Collection[str]:
        """Return the events since the last read, in words. Raises UnreachableError if the socket fails."""
        found: list[str] = []
        for _ in range(_MAX_AT_ONCE):
            try:
                came = self._receive()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # more came than the buffer holds
                    found.append("more events than the buffer holds")
                    continue
                raise UnreachableError(
                    f"the socket for the kernel's uevents failed: {error}",
                    name="uevents-unreachable",
                ) from error
            if came is not None and (what := self._describe(came)):
                found.append(what)
        return found

    def close(self) -> None:
        """Close the socket."""
        opened, self._socket = self._socket, None
        if opened is not None:
            with suppress(OSError):
                opened.close()

    def _receive(self) -> bytes | None:
        if self._socket is None:
            raise BlockingIOError
        message, sender = self._socket.recvfrom(_MAX_LENGTH)
        return message if sender[0] == _KERNEL else None
