"""Numbered events that any number of clients follow, each from the number on that it has seen last."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING

from cede.api.problems import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_AT_ONCE = 256 * 1024


class Feed:
    """Keeps the newest events, as lines of JSON, of at most `most` bytes in all.

    `mark` makes of an event's number the members that tell it: `n`, if nothing else is said. The first event has the
    number `first`.
    """

    def __init__(
        self,
        most: int,
        mark: Callable[[int], dict[str, object]] = lambda number: {"n": number},
        *,
        first: int = 1,
    ) -> None:
        self._most = most
        self._mark = mark
        self._lock = Lock()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._next = first
        self._ended = False
        self._followers: set[Follower] = set()

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._next - 1

    @property
    def lines(self) -> bytes:
        """All lines that are kept."""
        with self._lock:
            return b"".join(self._lines)

    def put(self, event: Mapping[str, object]) -> None:
        """Append an event, and notify who follows; the oldest ones go if there is no room for all."""
        with self._lock:
            line = json.dumps({**self._mark(self._next), **event}).encode() + b"\n"
            self._next += 1
            self._lines.append(line)
            self._size += len(line)
            while self._size > self._most and len(self._lines) > 1:
                self._size -= len(self._lines.popleft())
            for follower in self._followers:
                follower.notify()

    def restore(self, lines: bytes) -> None:
        """Begin with lines that another feed had; their numbers go on."""
        with self._lock:
            self._lines.extend(lines.splitlines(keepends=True))
            self._size = len(lines)
            if self._lines:
                self._next = int(json.loads(self._lines[-1])["n"]) + 1

    def end(self) -> None:
        """Append nothing more: who follows ends after the last event."""
        with self._lock:
            self._ended = True
            for follower in self._followers:
                follower.notify()

    def follow(
        self, after: int | None, greeting: Callable[[int], bytes] = lambda _: b""
    ) -> Follower:
        """Return the stream of the events after number `after`, of those to come if that is None.

        It begins with what `greeting` makes of that number.

        Raises RequestError, `events-gone`, if some of them are no longer kept, or `after` is not yet so far.
        """
        with self._lock:
            after = self._next - 1 if after is None else after
            if not self._next - 1 - len(self._lines) <= after <= self._next - 1:
                raise RequestError(
                    f"the events after number {after} are not kept",
                    name="events-gone",
                    status=HTTPStatus.GONE,
                    remedy="look at the state as it is now, and follow from there on",
                )
            follower = Follower(self, after, greeting(after))
            self._followers.add(follower)
            follower.notify()
            return follower

    def since(self, after: int) -> tuple[bytes, int, bool, bool]:
        """Return the lines after number `after` as far as they are sent at once, the last one's number, and two facts.

        These are whether that is all there is for now, and whether no more will come.
        """
        with self._lock:
            first = self._next - len(self._lines)
            if after < first - 1:
                return b"", after, True, True  # too slow: what it missed is gone
            taken, size = [], 0
            for place in range(after + 1 - first, len(self._lines)):
                taken.append(self._lines[place])
                size += len(taken[-1])
                if size >= _MAX_AT_ONCE:
                    break
            last = after + len(taken)
            whole = last == self._next - 1
            return b"".join(taken), last, whole, whole and self._ended

    def leave(self, follower: Follower) -> None:
        """Wake that one no more."""
        with self._lock:
            self._followers.discard(follower)


class Follower:
    """One client's stream of a feed (`messages.Stream`)."""

    def __init__(self, feed: Feed, after: int, greeting: bytes) -> None:
        self._feed = feed
        self._after = after
        self._greeting = greeting
        self._ended = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def notify(self) -> None:
        """Have `read` called."""
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """See `Stream`."""
        return self._event

    def read(self) -> bytes | None:
        """See `Stream`."""
        if self._ended:
            return None
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        lines, self._after, whole, self._ended = self._feed.since(self._after)
        if not whole or self._ended:
            self.notify()
        greeting, self._greeting = self._greeting, b""
        return greeting + lines

    def close(self) -> None:
        """See `Stream`."""
        self._feed.leave(self)
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)
