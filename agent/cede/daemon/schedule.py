"""When the next pass is due: from what woke, what the timer says, and how the last one ended. Pure, without a clock.

Events only wake: however many there are, one pass observes what they led to. So a burst is waited out, but not for
ever; a world that can't be reached is asked again at growing intervals, not at every event; and events that never end
(a guest can cause them) bring ten passes at once and then one every three seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_SECONDS = 300.0
DEBOUNCE_SECONDS = 0.15
BURST_SECONDS = 1.5
AT_ONCE, REFILL_SECONDS = 10, 3.0
_JITTER = 0.1


class Ended(Enum):
    """How a pass ended, as far as the next one depends on it: the first pause in seconds, and the longest.

    A call that hung may have left a thread behind, so what hangs is asked seldom.
    """

    WELL = (0.0, 0.0)
    BUSY = (0.5, 15.0)
    UNREACHABLE = (1.0, 60.0)
    FAILED = (5.0, 300.0)
    HUNG = (60.0, 3600.0)


def pause(ended: Ended, times: int) -> float:
    """Return the seconds to wait after passes ended so `times` times in a row: doubled each time, up to the longest."""
    first, longest = ended.value
    return float(min(first * 2.0 ** min(times - 1, 30), longest)) if times else 0.0


@dataclass(slots=True, kw_only=True)
class Schedule:
    """`interval` is in seconds; `chance` returns a number from 0 to 1, and shifts the timer by up to a tenth.

    All times are seconds of one clock that never goes back.
    """

    chance: Callable[[], float]
    interval: float = INTERVAL_SECONDS
    _timer: float = 0.0
    _not_before: float = 0.0
    _triggered: float | None = None
    _started: float = 0.0
    _credit: float = float(AT_ONCE)
    _last: Ended = Ended.WELL
    _times: int = 0

    def trigger(self, now: float) -> None:
        """Take note that something happened."""
        if self._triggered is None:
            self._triggered = now

    def expedite(self) -> None:
        """End the pause: what was out of reach is back, or the administrator asks for a pass."""
        self._not_before, self._times = 0.0, 0

    def due(self) -> float:
        """Return when the next pass is to begin."""
        wanted = self._timer if self._triggered is None else min(self._timer, self._triggered)
        return max(wanted, self._not_before)

    def pass_started(self, now: float) -> None:
        """Take note that a pass begins, which sees all that has happened so far."""
        self._triggered = None
        earned = (now - self._started) / REFILL_SECONDS
        self._credit = min(float(AT_ONCE), self._credit + earned) - 1
        self._started = now

    def pass_ended(self, how: Ended, now: float, *, retry: float | None = None) -> None:
        """Take note that a pass has ended; with `retry` the next one is due then, if not earlier."""
        self._times = self._times + 1 if how is self._last else 1
        self._last = how
        owed = max(0.0, 1 - self._credit) * REFILL_SECONDS
        wait = max(pause(how, self._times), owed + self._started - now)
        self._not_before = now + wait
        shift = 1 + _JITTER * (2 * self.chance() - 1)
        self._timer = now + self.interval * shift
        if how is not Ended.WELL:
            self._timer = self._not_before
        elif retry is not None:
            self._timer = min(self._timer, max(retry, now))
