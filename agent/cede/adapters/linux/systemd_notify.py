"""The adapter to systemd: tells it that the daemon is ready, alive, reloading or stopping, and its state in a line.

Sends datagrams to the socket that systemd names. Source: sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_STATUS = 200


class Notify:
    """Sends nothing without NOTIFY_SOCKET. A message that can't be sent is lost, as with sd_notify."""

    def __init__(
        self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._every = _half(environ, os.getpid())
        self._clock = clock
        self._next = 0.0
        self._status = ""

    @property
    def every(self) -> float | None:
        """The longest time between two heartbeats, in seconds; None if systemd expects none."""
        return self._every

    def ready(self) -> None:
        """Report that the daemon has started or reloaded."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that the daemon reloads its policy; `ready` ends that."""
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={stamp}")

    def stopping(self) -> None:
        """Report that the daemon ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Report the state in one line."""
        line = " ".join(text.split())[:_MAX_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Send a heartbeat, unless the last one is recent."""
        now = self._clock()
        if self._every is not None and now >= self._next:
            self._next = now + self._every / 2
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address:
            with (
                suppress(OSError),
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours,
            ):
                ours.connect(self._address)
                ours.send(message.encode())


def _half(environ: Mapping[str, str], pid: int) -> float | None:
    """Return half of systemd's watchdog time, in seconds; None without a watchdog."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return (number(microseconds) or 0) / 2_000_000 or None
