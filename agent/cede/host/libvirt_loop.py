"""libvirt's event loop: one a process, in a thread, for streams, keepalive and events of every connection."""

from __future__ import annotations

import threading

import libvirt


def _serve_events() -> None:
    """Run libvirt's event loop for the life of the process."""
    while libvirt.virEventRunDefaultImpl() == 0:
        pass


_event_loop: threading.Thread | None = None
_starting = threading.Lock()


def start_event_loop() -> None:
    """Start it if it doesn't run; it must before the first connection is opened."""
    global _event_loop  # noqa: PLW0603 - libvirt has one default event loop a process
    with _starting:
        if _event_loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _event_loop = threading.Thread(target=_serve_events, name="libvirt-events", daemon=True)
            _event_loop.start()
