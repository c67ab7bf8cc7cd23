"""Time for a simulated host: it passes in pauses alone, and nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from cede.util.clock import CALL_SECONDS, Clock

_T = TypeVar("_T")


class SimulatedTime:
    """Each pause lasts `shortest` seconds at least; the wall clock stands still until a test sets it.

    `pauses` tells of all that were made, in seconds as they were asked for.
    """

    def __init__(self, shortest: float = 1.0) -> None:
        self._shortest = shortest
        self._events: list[tuple[float, Callable[[], object]]] = []
        self.elapsed = 0.0
        self.today = datetime(2026, 1, 31, 3, tzinfo=UTC)
        self.pauses: list[float] = []

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.elapsed, now=lambda: self.today, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.elapsed += max(seconds, self._shortest)
        due = [event for at, event in self._events if at <= self.elapsed]
        self._events = [one for one in self._events if one[0] > self.elapsed]
        for event in due:
            event()

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        """Have something happen in so many seconds from now."""
        self._events.append((self.elapsed + seconds, event))


class InlineTimeouts:
    """Each call where it is asked for, one after the other: the same order every time, and no deadline."""

    def call(
        self,
        what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,
        waiting: Callable[[], None] = lambda: None,  # noqa: ARG002 - nobody waits
    ) -> _T:
        return self.start(what, call, seconds=seconds)()

    def start(
        self,
        _what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,  # noqa: ARG002 - as the real one is called
    ) -> Callable[[], _T]:
        answer = call()
        return lambda: answer
