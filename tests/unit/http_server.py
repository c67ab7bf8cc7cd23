"""The server on a unix socket in a folder, for as long as a test needs it."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cede.api.http_server import HttpServer, ListeningSocket
from cede.api.limits import Limits
from cede.api.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cede.api.messages import Handler, Peer

SLOW = Limits()


@contextmanager
def serving(
    handler: Handler,
    folder: Path,
    limits: Limits = SLOW,
    users: Callable[[socket.socket], Peer] = peer_of,
    *,
    read_only: bool = False,
) -> Iterator[Path]:
    path = folder / "cede.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(512)
        sockets = [ListeningSocket(socket=listening, read_only=read_only)]
        server = HttpServer(handler, sockets, limits=limits, peer_of=users)
        server.start()
        try:
            yield path
        finally:
            server.close(2.0)
            path.unlink()
