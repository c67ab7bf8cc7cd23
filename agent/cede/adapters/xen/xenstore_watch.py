"""The adapter to xenstore's watches: every attach and detach at once, whoever did it, and domains that come and go.

A connection of its own, since watch events come unasked between answers. Sources: xen/docs/misc/xenstore.txt (WATCH),
xen/include/public/io/xs_wire.h.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from cede.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SOCKET = "/run/xenstored/socket"
BACKEND = "/local/domain/0/backend/pci"
WATCHED = (BACKEND, "@introduceDomain", "@releaseDomain")
_WATCH, _WATCH_EVENT, _ERROR = 4, 15, 16
_HEADER = struct.Struct("=4I")  # type, request, transaction, length
_MAX_PAYLOAD = 4096
_AT_ONCE = 65536
_SECONDS = 10.0
_WORDS = {"@introduceDomain": "a domain came", "@releaseDomain": "a domain went"}


class XenstoreWatch:
    """Watches PCI's backend nodes and domains; a token is the path that it stands for."""

    name = "xenstore"

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._rest = b""
        self._new: set[str] = set()

    def open(self) -> None:
        """Connect and set the watches. Raises UnreachableError if xenstored doesn't answer or refuses."""
        self._rest = b""
        self._new = set(WATCHED)  # xenstored fires each watch once when it is set
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(self._path)
            for number, path in enumerate(WATCHED):
                payload = f"{path}\0{path}\0".encode()
                header = _HEADER.pack(_WATCH, number, 0, len(payload))
                self._socket.sendall(header + payload)
            self._socket.setblocking(False)
        except OSError as error:
            raise UnreachableError(
                f"xenstore doesn't answer at {self._path}: {error}",
                name="xenstore-unreachable",
                remedy="is this dom0 of a running Xen? systemctl status xenstored",
            ) from error

    def fileno(self) -> int:
        """Readable when xenstored has said something."""
        return self._socket.fileno() if self._socket is not None else -1

    def read(self) -> Collection[str]:
        """What changed since, in words. Raises UnreachableError if xenstored hung up or talks nonsense."""
        if self._socket is None:
            return ()
        try:
            said = self._socket.recv(_AT_ONCE)
        except BlockingIOError:
            return ()
        except OSError as error:
            raise UnreachableError(
                f"xenstore hung up: {error}", name="xenstore-unreachable"
            ) from error
        if not said:
            raise UnreachableError("xenstore hung up", name="xenstore-unreachable")
        self._rest += said
        return tuple(self._events())

    def close(self) -> None:
        """Hang up, which ends the watches."""
        found, self._socket = self._socket, None
        if found is not None:
            with suppress(OSError):
                found.close()

    def _events(self) -> Iterator[str]:
        while len(self._rest) >= _HEADER.size:
            kind, _, _, length = _HEADER.unpack_from(self._rest)
            if length > _MAX_PAYLOAD:
                raise UnreachableError(
                    f"xenstore sent {length} bytes at once", name="xenstore-unreachable"
                )
            if len(self._rest) < _HEADER.size + length:
                return
            payload = self._rest[_HEADER.size : _HEADER.size + length]
            self._rest = self._rest[_HEADER.size + length :]
            if kind == _ERROR:
                said = payload.rstrip(b"\0").decode("ascii", "replace")
                raise UnreachableError(f"xenstore refuses a watch: {said}", name="watch-refused")
            if kind == _WATCH_EVENT:
                path, _, token = payload.rstrip(b"\0").decode("ascii", "replace").partition("\0")
                if token in self._new:
                    self._new.discard(token)
                else:
                    yield _WORDS.get(path) or path.removeprefix("/local/domain/0/")
