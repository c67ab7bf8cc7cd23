"""The channel through xenstore: a helper in the guest (contrib/guest/cede-guest) probes on request.

The nodes belong to the guest, so their content is not trusted: a fresh random number separates the answers to older
questions, and pieces are counted, limited and of one form. cede removes all of them afterwards.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Protocol

from cede.errors import GuestSilentError
from cede.guest.channels.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.pci import Address

_ROOM = "cede"
_PAUSE = 0.03  # seconds
_AGAIN = 3.0
_MAX_PIECES = 128
_DIGITS = 1024  # in a piece; only the last may be shorter
_COUNT = re.compile(rb"[0-9]{1,3}")
_PIECE = re.compile(rb"(?:[0-9a-f]{2}){1,%d}" % (_DIGITS // 2))


class Nodes(Protocol):
    """xenstore, as this module uses it: the nodes below a guest's own `data`."""

    def read_data(self, domid: int, name: str) -> bytes | None:
        """Return the value of the node; None if there is no such node."""

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """Write the node."""

    def remove_data(self, domid: int, name: str) -> None:
        """Remove the node and all below it, if it exists."""


class XenstoreChannel:
    """cede's helper in a running guest."""

    def __init__(
        self,
        nodes: Nodes,
        domid: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._nodes = nodes
        self._domid = domid
        self._clock = clock
        self._sleep = sleep

    def probe(self, slot: Address, seconds: float) -> str:
        """See `probe.GuestChannel`. Also raises UnreachableError if xenstore does not answer."""
        number = os.urandom(8).hex()
        asked = self._clock()
        deadline = asked + seconds
        request = f"{number} {slot}".encode()
        # left by a cede that was interrupted
        self._nodes.remove_data(self._domid, _ROOM)
        try:
            self._nodes.write_data(self._domid, f"{_ROOM}/request", request)
            answer = f"{_ROOM}/answer/{number}"
            while (end := self._nodes.read_data(self._domid, f"{answer}/end")) is None:
                if self._clock() >= deadline:
                    raise GuestSilentError(
                        "the guest's helper did not answer in time",
                        name="no-answer",
                        remedy="is cede-guest (contrib/guest) running there? or verify by another channel",
                    )
                self._sleep(_PAUSE)
                if self._clock() >= asked + _AGAIN:
                    # ask again: a helper that missed the request reads it now, one that has answered ignores it
                    asked = self._clock()
                    self._nodes.write_data(self._domid, f"{_ROOM}/request", request)
            return self._read(answer, end)
        finally:
            self._nodes.remove_data(self._domid, _ROOM)

    def _read(self, answer: str, end: bytes) -> str:
        count = int(end) if _COUNT.fullmatch(end) else -1
        if not 0 <= count <= _MAX_PIECES:
            raise _nonsense()
        whole = bytearray()
        for index in range(count):
            piece = self._nodes.read_data(self._domid, f"{answer}/{index}") or b""
            cut_off = index < count - 1 and len(piece) != _DIGITS
            if cut_off or not _PIECE.fullmatch(piece):
                raise _nonsense()
            whole += bytes.fromhex(piece.decode("ascii"))
        return printable(bytes(whole))


def _nonsense() -> GuestSilentError:
    return GuestSilentError(
        "the guest's helper wrote no whole answer",
        name="answer-incomplete",
        remedy="install this version's contrib/guest/cede-guest in the guest",
    )
