"""The HTTP server: accepts connections on unix sockets, and serves each in a thread of its own.

Threads have the usual stack, of which only what is used takes memory (25 KiB for a connection): Python counts on that
size to end a recursion before the stack does. Nothing is polled: a thread sleeps in the kernel until a client, a stream
or the end of the server wakes it. The standard library's `http.server` has neither the limits nor a strict parser; h11
has the parser, and leaves reading and writing to its caller (contrib/docs/agent.md has what each costs).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from cede.api.connection import Connection
from cede.api.limits import BodyBudget, ConnectionCount, Limits
from cede.api.messages import Peer
from cede.api.peer import peer_of
from cede.api.problems import problem_response
from cede.errors import TransientError, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cede.api.messages import Handler

_LOG = logging.getLogger(__name__)
_PAUSE_MILLISECONDS = 1000  # when the kernel has no descriptor or thread left
_CLOSING_SECONDS = 5.0
_UNREAD_BYTES, _MAX_UNREAD = 1 << 16, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """A socket that listens; by a `read_only` one nothing is changed, and nothing is shown but to anybody."""

    socket: socket.socket
    read_only: bool


class HttpServer:
    """`peer_of` tells who opened a connection; `handler` runs in many threads at once."""

    def __init__(
        self,
        handler: Handler,
        listening: Sequence[ListeningSocket],
        *,
        limits: Limits | None = None,
        peer_of: Callable[[socket.socket], Peer] = peer_of,
    ) -> None:
        self._handler = handler
        self._listening = {each.socket.fileno(): each for each in listening}
        self._limits = limits or Limits()
        self._peer_of = peer_of
        self._count = ConnectionCount(self._limits)
        self._budget = BodyBudget(self._limits)
        self._stopping, self._stop = os.pipe()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._accepting = threading.Thread(target=self._accept, name="http-accept", daemon=True)
        self._busy = _too_many()

    def start(self) -> None:
        """Begin to accept, in a thread."""
        for each in self._listening.values():
            each.socket.setblocking(False)  # a client may have gone before it is accepted
        self._accepting.start()

    def close(self, seconds: float = _CLOSING_SECONDS) -> None:
        """Accept no more, let requests and streams end for so long, and break off the others.

        The listening sockets stay open: they are the caller's, who may hand them to the next agent.
        """
        os.write(self._stop, b".")
        self._accepting.join(seconds)
        deadline = time.monotonic() + seconds
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            with self._lock:
                left = dict(self._open)
            for connected in left:
                with suppress(OSError):
                    connected.shutdown(how)
            for thread in left.values():
                thread.join(max(0.0, deadline - time.monotonic()))
            deadline = time.monotonic() + 1.0
        if not self._open and not self._accepting.is_alive():
            os.close(self._stopping)
            os.close(self._stop)

    def _accept(self) -> None:
        poll = select.poll()
        for descriptor in (self._stopping, *self._listening):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._stopping in ready:
                return
            for descriptor in ready:
                try:
                    self._accept_one(self._listening[descriptor])
                except BlockingIOError:
                    continue
                except Exception as fault:  # noqa: BLE001 - whatever one connection brings, the next ones come
                    _LOG.debug("%s", unexpected(fault, "accepting a connection").message)
                    if self._pause():
                        return

    def _pause(self) -> bool:
        """Wait a moment; whether the server ends."""
        poll = select.poll()
        poll.register(self._stopping, select.POLLIN)
        return bool(poll.poll(_PAUSE_MILLISECONDS))

    def _accept_one(self, listening: ListeningSocket) -> None:
        connected, _ = listening.socket.accept()
        counted = False
        uid = -1
        try:
            peer = self._peer_of(connected)
            uid = peer.uid
            counted = self._count.enter(uid, read_only=listening.read_only)
            if not counted:
                self._refuse(connected)
                return
            thread = threading.Thread(
                target=self._serve,
                args=(connected, peer, listening),
                name=f"http-{peer.pid}",
                daemon=True,
            )
            with self._lock:
                self._open[connected] = thread
            thread.start()
        except BaseException:
            self._forget(connected)
            if counted:
                self._count.leave(uid, read_only=listening.read_only)
            self._refuse(connected)
            raise

    def _serve(self, connected: socket.socket, peer: Peer, listening: ListeningSocket) -> None:
        try:
            Connection(
                connected,
                peer=peer,
                read_only=listening.read_only,
                handler=self._handler,
                limits=self._limits,
                budget=self._budget,
                stopping=self._stopping,
            ).serve()
        except Exception as fault:  # noqa: BLE001 - a thread that fails is one client's, and no other's
            _LOG.debug("%s", unexpected(fault, "a connection").message)
        finally:
            connected.close()
            self._forget(connected)
            self._count.leave(peer.uid, read_only=listening.read_only)

    def _forget(self, connected: socket.socket) -> None:
        with self._lock:
            self._open.pop(connected, None)

    def _refuse(self, connected: socket.socket) -> None:
        """Say at once that there is no room, without waiting for the request, and without ever waiting.

        What has come of the request is taken first: the kernel resets a connection that is closed on unread data, and
        the client would not see the end of the answer (unix_release_sock in net/unix/af_unix.c).
        """
        with suppress(OSError), connected:
            connected.setblocking(False)
            connected.send(self._busy)
            connected.shutdown(socket.SHUT_WR)
            for _ in range(_MAX_UNREAD):
                if not connected.recv(_UNREAD_BYTES):
                    return


def _too_many() -> bytes:
    """Return the whole response for who comes when there is no room."""
    response = problem_response(
        TransientError(
            "too many connections are open",
            name="too-many-connections",
            remedy="close connections that are not used, or try again in a second",
        )
    )
    body = response.body if isinstance(response.body, bytes) else b""
    http = h11.Connection(h11.SERVER)
    headers = [
        ("content-type", response.content_type),
        ("content-length", str(len(body))),
        ("connection", "close"),
        *response.headers,
    ]
    head = http.send(h11.Response(status_code=response.status, headers=headers)) or b""
    return head + body
