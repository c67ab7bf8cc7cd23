"""The adapter to libvirt's events: a domain started, ended, was redefined, or its metadata changed.

The Xen driver has no device events; xenstore's watches report those. Sources:
https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectDomainEventID, src/libxl/libxl_driver.c.
"""

from __future__ import annotations

import os
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import libvirt

from cede.adapters.libvirt.connection import start_event_loop
from cede.adapters.libvirt.libvirt_errors import classify
from cede.errors import UnreachableError
from cede.util.log import log_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_KEEPALIVE_SECONDS, _KEEPALIVE_TRIES = 5, 3
_MOST = 64  # more are dropped; the event itself still arrives
_WORDS = (
    "was defined", "was undefined", "started", "was suspended", "was resumed", "stopped",
    "shuts down", "sleeps", "crashed",
)  # fmt: skip


class LibvirtEvents:
    """Listens on its own connection. Callbacks run in libvirt's thread and fill a queue."""

    name = "libvirt"

    def __init__(
        self, uri: str, connect: Callable[[str], libvirt.virConnect] = libvirt.openReadOnly
    ) -> None:
        self._connect = connect
        self._uri = uri
        self._connection: libvirt.virConnect | None = None
        self._callbacks: list[int] = []
        self._ready = -1
        self._lost = False
        self._events: SimpleQueue[str] = SimpleQueue()

    def open(self) -> None:
        """Connect and register. Raises UnreachableError if libvirt doesn't answer."""
        start_event_loop()
        self._lost = False
        self._events = SimpleQueue()
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._connection = connection = log_calls(self._connect(self._uri), "libvirt")
            connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_TRIES)
            connection.registerCloseCallback(self._closed, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._metadata),
            ):
                self._callbacks.append(
                    connection.domainEventRegisterAny(None, event, callback, None)
                )
        except libvirt.libvirtError as error:
            said = classify(error.get_error_code() or 0, str(error))
            raise UnreachableError(said.message, name=said.name, remedy=said.remedy) from error

    def fileno(self) -> int:
        """Return the descriptor that is readable when a callback has come."""
        return self._ready

    def read(self) -> Collection[str]:
        """Return the events since the last read. Raises UnreachableError if the connection was closed."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._ready)
        found: list[str] = []
        with suppress(Empty):
            while True:
                found.append(self._events.get_nowait())
        if self._lost:
            raise UnreachableError("libvirt closed the connection", name="libvirt-unreachable")
        return found

    def close(self) -> None:
        """Close the connection; errors no longer matter."""
        connection, self._connection = self._connection, None
        callbacks, self._callbacks = self._callbacks, []
        if connection is not None:
            # on a lost connection the call fails, and drops the callback all the same, which would keep it open
            for number in callbacks:
                with suppress(libvirt.libvirtError):
                    connection.domainEventDeregisterAny(number)
            with suppress(libvirt.libvirtError):
                connection.unregisterCloseCallback()
            with suppress(libvirt.libvirtError):
                connection.close()
        ready, self._ready = self._ready, -1
        if ready >= 0:
            os.close(ready)

    def _add(self, what: str) -> None:
        if self._events.qsize() < _MOST:
            self._events.put(what)
        with suppress(OSError):  # it was closed meanwhile
            if self._ready >= 0:
                os.eventfd_write(self._ready, 1)

    def _lifecycle(
        self,
        _connection: Any,  # noqa: ANN401 - libvirt has no types
        domain: Any,  # noqa: ANN401 - libvirt has no types
        event: int,
        _detail: int,
        _opaque: object,
    ) -> None:
        word = _WORDS[event] if 0 <= event < len(_WORDS) else "changed"
        self._add(f"{domain.name()} {word}")

    def _metadata(
        self,
        _connection: Any,  # noqa: ANN401 - libvirt has no types
        domain: Any,  # noqa: ANN401 - libvirt has no types
        _kind: int,
        _uri: str | None,
        _opaque: object,
    ) -> None:
        self._add(f"the metadata of {domain.name()} changed")

    def _closed(self, _connection: Any, _reason: int, _opaque: object) -> None:  # noqa: ANN401 - no types
        self._lost = True
        self._add("")
