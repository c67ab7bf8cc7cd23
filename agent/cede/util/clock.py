"""Time: the clock that is handed in, and time limits, so that no call can hang cede.

A call into libvirt, sysfs or a guest runs in a thread of its own. A call that does not return in time is abandoned (an
`unbind` may never return from the kernel) and reported, and cede does nothing more with that device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from cede.errors import HungError


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """`monotonic` is in seconds and never goes back, `now` is the wall clock's UTC, `sleep` waits so many seconds."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _utc
    sleep: Callable[[float], None] = time.sleep


_T = TypeVar("_T")
CALL_SECONDS = 90.0


class Timeouts(Protocol):
    """How calls are made that may hang."""

    def call(
        self,
        what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,
        waiting: Callable[[], None] = lambda: None,
    ) -> _T:
        """Return or raise what `call` does. Raises HungError, naming `what`, if `call` takes longer than `seconds`.

        `waiting` is called every second meanwhile, in the thread that waits.
        """

    def start(
        self, what: str, call: Callable[[], _T], *, seconds: float = CALL_SECONDS
    ) -> Callable[[], _T]:
        """Begin `call` and go on; what comes back is asked once for its answer, and gives it as `call` does."""


_INTERVAL_SECONDS = 1.0


def _hung(what: str, seconds: float) -> HungError:
    return HungError(
        f"{what} has hung for {seconds:.0f} s, and cede no longer waits",
        remedy="see the end of dom0's kernel log (dmesg); a hung driver mostly needs a reboot of the host",
    )


class ThreadTimeouts:
    """Each call in a thread of its own, on which the process doesn't wait to end.

    `interval` is how often `waiting` is called, in seconds.
    """

    interval = _INTERVAL_SECONDS

    def call(
        self,
        what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,
        waiting: Callable[[], None] = lambda: None,
    ) -> _T:
        """See `Timeouts`."""
        return self._begun(what, call, seconds, waiting)()

    def start(
        self, what: str, call: Callable[[], _T], *, seconds: float = CALL_SECONDS
    ) -> Callable[[], _T]:
        """See `Timeouts`."""
        return self._begun(what, call, seconds, lambda: None)

    def _begun(
        self, what: str, call: Callable[[], _T], seconds: float, waiting: Callable[[], None]
    ) -> Callable[[], _T]:
        due = time.monotonic() + seconds
        ended: SimpleQueue[tuple[bool, object]] = SimpleQueue()

        def run() -> None:
            try:
                ended.put((True, call()))
            except BaseException as error:  # noqa: BLE001 - it is raised again where it was called
                ended.put((False, error))

        def answer() -> _T:
            while True:
                left = max(0.0, due - time.monotonic())
                try:
                    returned, value = ended.get(timeout=min(left, self.interval))
                    break
                except Empty:
                    if left <= self.interval:
                        raise _hung(what, seconds) from None
                    waiting()
            if isinstance(value, BaseException) and not returned:
                raise value
            return value  # type: ignore[return-value]

        threading.Thread(target=run, name=what, daemon=True).start()
        return answer
