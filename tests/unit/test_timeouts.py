"""Deadlines: what a call returns or raises comes through, and one that hangs is left behind."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from cede.errors import HungError, TransientError
from cede.util.clock import ThreadTimeouts
from unit.raises import raises

TIMEOUTS = ThreadTimeouts()


def test_what_the_call_returns_comes_through() -> None:
    for value in (7, None, False, "", [1]):
        assert TIMEOUTS.call("it", partial(repr, value)) == repr(value)


def test_an_error_that_is_returned_is_a_value_and_one_that_is_raised_is_an_error() -> None:
    error = TransientError("busy")
    assert TIMEOUTS.call("it", lambda: error) is error

    def fail() -> None:
        raise error

    with pytest.raises(TransientError) as reported:
        TIMEOUTS.call("it", fail)
    assert reported.value is error


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_errors_of_every_kind_come_through(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind

    with pytest.raises(kind):
        TIMEOUTS.call("it", fail)


def test_who_waits_gives_signs_of_life_meanwhile() -> None:
    signs: list[float] = []
    timeouts = ThreadTimeouts()
    timeouts.interval = 0.01
    with raises(HungError, "hung"):
        timeouts.call(
            "verifying it",
            lambda: threading.Event().wait(1),
            seconds=0.1,
            waiting=lambda: signs.append(time.monotonic()),
        )
    assert len(signs) >= 3
    assert timeouts.call("it", lambda: 7, waiting=signs.clear) == 7
    assert signs


def test_one_that_hangs_is_reported_within_its_time_with_what_hangs() -> None:
    let_go = threading.Event()
    started = time.monotonic()
    with raises(HungError, "hung", "unbinding it") as reported:
        TIMEOUTS.call("unbinding it", lambda: let_go.wait(30), seconds=0.1)
    assert 0.1 <= time.monotonic() - started < 1.0
    assert "dmesg" in reported.value.remedy
    left = next(thread for thread in threading.enumerate() if thread.name == "unbinding it")
    assert left.daemon  # or the process couldn't end
    let_go.set()
    left.join(1.0)
    assert not left.is_alive()


def test_what_a_call_that_was_left_behind_says_later_reaches_nobody() -> None:
    let_go = threading.Event()

    def late() -> str:
        let_go.wait(30)
        return "late"

    with pytest.raises(HungError):
        TIMEOUTS.call("it", late, seconds=0.05)
    let_go.set()
    assert TIMEOUTS.call("it", lambda: "in time") == "in time"


def test_calls_of_several_threads_are_no_matter_of_each_other() -> None:
    found: dict[int, int] = {}

    def ask(number: int) -> None:
        found[number] = TIMEOUTS.call("it", lambda: number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number for number in range(20)}
