"""The adapter to socket units: the sockets that systemd opened, and hands to the service that it starts.

Source: sd_listen_fds(3), systemd.socket(5). A socket stays open in systemd while the service is restarted, so that no
client is refused meanwhile.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = 3  # SD_LISTEN_FDS_START
_MAX_COUNT = 64


def listening_sockets(
    environ: Mapping[str, str], *, pid: int | None = None, first: int = _FIRST
) -> tuple[tuple[str, socket.socket], ...]:
    """Return each listening unix stream socket that was handed over, with its name (`cede.socket`); the caller's now.

    `pid` is this process's. What is no such socket is left alone. The descriptors are not handed on to programs.
    """
    if number(environ.get("LISTEN_PID")) != (os.getpid() if pid is None else pid):
        return ()
    count = number(environ.get("LISTEN_FDS"), most=_MAX_COUNT) or 0
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for place in range(count):
        name = names[place] if place < len(names) else ""
        opened = _listening(first + place)
        if opened is not None:
            found.append((name, opened))
    return tuple(found)


def _listening(descriptor: int) -> socket.socket | None:
    """Return the descriptor as a socket if it is a unix stream socket that listens."""
    try:
        opened = socket.socket(fileno=descriptor)
    except OSError:
        return None
    listens = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if opened.family != socket.AF_UNIX or opened.type != socket.SOCK_STREAM or not listens:
        opened.detach()
        return None
    opened.set_inheritable(False)
    return opened
