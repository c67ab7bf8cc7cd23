"""The one place that retries: a busy world is tried again, anything else is not.

tenacity's explicit `Retrying` says here, and only here, how long and how often.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
    wait_random_exponential,
)

from cede.errors import TransientError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
STEP_SECONDS = 60.0
_MAX_PAUSE = 5.0
_POLL = 0.05


def retry_transient(call: Callable[[], _T], sleep: Callable[[float], None] = time.sleep) -> _T:
    """Do `deed`, again for at most 60 s while the world is busy or libvirt is away; the last error is raised as it was.

    `deed` must look first at what an earlier try has done: a call that was cut off may have done its work.
    """
    attempts = Retrying(
        retry=retry_if_exception_type((TransientError, UnreachableError)),
        wait=wait_random_exponential(multiplier=0.5, max=_MAX_PAUSE),
        stop=stop_after_delay(STEP_SECONDS),
        sleep=sleep,
        reraise=True,
    )
    return attempts(call)


def wait_until(
    question: Callable[[], bool], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Ask until the answer is yes, for at most `seconds`; returns the last answer."""
    attempts = Retrying(
        retry=retry_if_result(lambda answer: not answer),
        wait=wait_fixed(_POLL),
        stop=stop_after_delay(seconds),
        sleep=sleep,
        retry_error_callback=lambda _state: False,
    )
    return bool(attempts(question))
