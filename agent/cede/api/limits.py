"""How much one client, one user and all of them may have of the agent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock

_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes are in bytes, times in seconds.

    `head` is the request line with the headers, `body` one body, `bodies` all bodies that are being received or
    handled; a read-only socket takes none. `request` is the time from a request's first byte to its last, `idle` that
    between two requests of a connection, `response` that in which a client takes a whole response, or the next piece of
    a stream. `connections` are all at once, `read_only` those by the socket that anybody may open, `per_user` those of
    one user.
    """

    head: int = 16 * _KIB
    body: int = 2048 * _KIB
    bodies: int = 4 * 2048 * _KIB
    request: float = 10.0
    idle: float = 30.0
    response: float = 30.0
    connections: int = 128
    read_only: int = 96
    per_user: int = 32


class ConnectionCount:
    """The connections that are open, by who has them. What anybody may open leaves room for who may act."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._of_user: Counter[int] = Counter()
        self._read_only = 0

    def enter(self, uid: int, *, read_only: bool) -> bool:
        """Count one more; false if that is one too many, and then it isn't counted."""
        limits = self._limits
        with self._lock:
            if (
                self._of_user.total() >= limits.connections
                or self._of_user[uid] >= limits.per_user
                or (read_only and self._read_only >= limits.read_only)
            ):
                return False
            self._of_user[uid] += 1
            self._read_only += read_only
            return True

    def leave(self, uid: int, *, read_only: bool) -> None:
        """Count one less."""
        with self._lock:
            self._of_user[uid] -= 1
            self._of_user = +self._of_user
            self._read_only -= read_only


class BodyBudget:
    """The memory that all bodies together may take."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.bodies
        self._lock = Lock()

    def take(self, length: int) -> bool:
        """Take so much; false, and nothing is taken, if that much is not left."""
        with self._lock:
            if length > self._left:
                return False
            self._left -= length
            return True

    def give(self, length: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += length
