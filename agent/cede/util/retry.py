"""Retries: a transient error is tried again, any other is not.

tenacity's explicit `Retrying` says how long and how often.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from cede.errors import TransientError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from cede.util.clock import Clock

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
STEP_SECONDS = 60.0
_MAX_PAUSE = 5.0
POLL = 0.05


def retry_transient(call: Callable[[], _T], clock: Clock) -> _T:
    """Call, again for at most 60 s while libvirt or Xen is busy or away. Raises the last error.

    `call` must look first at what an earlier try has done: one that was interrupted may have done its work.
    """
    stop = _stop_after(STEP_SECONDS, clock)
    try:
        return call()
    except (TransientError, UnreachableError) as error:
        failed = [error]
    # imported for a second try alone: what mostly works need not wait for it
    from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

    def first_failed() -> _T:
        if failed:
            raise failed.pop()
        return call()

    attempts = Retrying(
        retry=retry_if_exception_type((TransientError, UnreachableError)),
        wait=wait_random_exponential(multiplier=0.5, max=_MAX_PAUSE),
        stop=stop,
        sleep=clock.sleep,
        before_sleep=_log_failure,
        reraise=True,
    )
    return attempts(first_failed)


def _log_failure(state: RetryCallState) -> None:
    if state.outcome is not None and state.next_action is not None:
        error, pause = state.outcome.exception(), state.next_action.sleep
        _LOG.info("trying again in %.1f s: %s", pause, error)


def wait_for(
    question: Callable[[], _T],
    good: Callable[[_T], bool],
    seconds: float,
    clock: Clock,
    *,
    pause: float = POLL,
) -> _T:
    """Ask every `pause` seconds until the answer is good, for at most `seconds`; return the last answer.

    What `question` raises is raised.
    """
    deadline = clock.monotonic() + seconds
    while not good(answer := question()) and clock.monotonic() < deadline:
        clock.sleep(pause)
    return answer


def wait_until(
    question: Callable[[], bool],
    seconds: float,
    clock: Clock,
    *,
    pause: float = POLL,
) -> bool:
    """Ask until the answer is True, as `wait_for` does; return the last answer."""
    return wait_for(question, bool, seconds, clock, pause=pause)


def _stop_after(seconds: float, clock: Clock) -> Callable[[RetryCallState], bool]:
    deadline = clock.monotonic() + seconds
    return lambda _state: clock.monotonic() >= deadline
