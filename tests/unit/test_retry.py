"""The one place that retries: what it tries again, how long, and what it leaves alone."""

from __future__ import annotations

import pytest

from cede.errors import CedeError, PermanentError, TransientError, UnsafeError, WorldMovedError
from cede.util.retry import STEP_SECONDS, retry_transient, wait_for, wait_until
from sim.passing_time import SimulatedTime


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime(shortest=0.0)


def test_what_works_is_done_once_without_a_pause(time: SimulatedTime) -> None:
    assert retry_transient(lambda: 7, time.clock) == 7
    assert time.pauses == []


def test_a_busy_world_is_asked_again_until_it_answers(time: SimulatedTime) -> None:
    answers: list[Exception | int] = [TransientError("busy"), TransientError("still busy"), 7]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry_transient(call, time.clock) == 7
    assert len(time.pauses) == 2
    assert all(0 <= pause <= 5 for pause in time.pauses)


@pytest.mark.parametrize("kind", [PermanentError, UnsafeError, WorldMovedError, CedeError, OSError])
def test_nothing_else_is_tried_twice(time: SimulatedTime, kind: type[Exception]) -> None:
    tried: list[int] = []

    def call() -> None:
        tried.append(1)
        raise kind("no")

    with pytest.raises(kind, match="no"):
        retry_transient(call, time.clock)
    assert (len(tried), time.pauses) == (1, [])


def test_it_gives_up_after_a_minute_with_the_last_error_as_it_was(time: SimulatedTime) -> None:
    raised: list[TransientError] = []

    def call() -> None:
        raised.append(TransientError(f"busy {len(raised)}", remedy="wait"))
        raise raised[-1]

    with pytest.raises(TransientError) as caught:
        retry_transient(call, time.clock)
    assert caught.value is raised[-1]
    assert STEP_SECONDS <= time.elapsed <= STEP_SECONDS + 5


def test_a_truth_that_is_there_is_reported_at_once(time: SimulatedTime) -> None:
    assert wait_until(lambda: True, 30.0, time.clock)
    assert time.pauses == []


def test_a_truth_that_comes_is_waited_for(time: SimulatedTime) -> None:
    assert wait_until(lambda: time.elapsed >= 3.0, 30.0, time.clock)
    assert 3.0 <= time.elapsed < 3.2


def test_a_truth_that_never_comes_ends_the_waiting_in_its_time(time: SimulatedTime) -> None:
    assert not wait_until(lambda: False, 2.0, time.clock)
    assert 2.0 <= time.elapsed <= 2.2


def test_no_time_at_all_still_asks_once(time: SimulatedTime) -> None:
    assert wait_until(lambda: True, 0.0, time.clock)
    assert not wait_until(lambda: False, 0.0, time.clock)


def test_the_last_answer_is_had_whether_it_is_good_or_not(time: SimulatedTime) -> None:
    def question() -> float:
        return time.elapsed

    def good(answer: float) -> bool:
        return answer >= 10.0

    assert wait_for(question, good, 30.0, time.clock, pause=4.0) == 12.0
    assert wait_for(question, lambda _: False, 1.0, time.clock, pause=0.5) == 13.0
    assert time.pauses == [4.0, 4.0, 4.0, 0.5, 0.5]


def test_an_error_while_waiting_is_raised_at_once(time: SimulatedTime) -> None:
    def question() -> bool:
        raise TransientError("busy")

    with pytest.raises(TransientError, match="busy"):
        wait_until(question, 30.0, time.clock)
    assert time.pauses == []
