"""The one place that retries: a busy world is tried again, anything else is not.

tenacity's explicit `Retrying` says here, and only here, how long and how often.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_not_result,
    wait_fixed,
    wait_random_exponential,
)

from cede.errors import TransientError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
STEP_SECONDS = 60.0
_MAX_PAUSE = 5.0
POLL = 0.05


def retry_transient(
    call: Callable[[], _T],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _T:
    """Call, again for at most 60 s while the world is busy or libvirt is away; the last error is raised as it was.

    `call` must look first at what an earlier try has done: one that was cut off may have done its work.
    """
    attempts = Retrying(
        retry=retry_if_exception_type((TransientError, UnreachableError)),
        wait=wait_random_exponential(multiplier=0.5, max=_MAX_PAUSE),
        stop=_stop_at(clock() + STEP_SECONDS, clock),
        sleep=sleep,
        reraise=True,
    )
    return attempts(call)


def wait_for(
    question: Callable[[], _T],
    good: Callable[[_T], bool],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    *,
    pause: float = POLL,
    clock: Callable[[], float] = time.monotonic,
) -> _T:
    """Ask until the answer is good, for at most `seconds`, every `pause` seconds; returns the last answer, good or not.

    What `question` raises is raised.
    """

    def last_answer(state: RetryCallState) -> _T:
        if state.outcome is None:
            raise AssertionError  # it was asked at least once
        answer: _T = state.outcome.result()
        return answer

    attempts = Retrying(
        retry=retry_if_not_result(good),
        wait=wait_fixed(pause),
        stop=_stop_at(clock() + seconds, clock),
        sleep=sleep,
        retry_error_callback=last_answer,
    )
    return attempts(question)


def wait_until(
    question: Callable[[], bool],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    *,
    pause: float = POLL,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Ask until the answer is yes, as `wait_for` does; returns the last answer."""
    return wait_for(question, bool, seconds, sleep, pause=pause, clock=clock)


def _stop_at(deadline: float, clock: Callable[[], float]) -> Callable[[RetryCallState], bool]:
    return lambda _state: clock() >= deadline
