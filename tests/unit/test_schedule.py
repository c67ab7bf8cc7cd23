"""When the next pass is due."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.daemon.schedule import Ended, Schedule, pause


def schedule(chance: float = 0.5) -> Schedule:
    return Schedule(chance=lambda: chance, interval=300.0)


def test_the_first_pass_is_due_at_once() -> None:
    assert schedule().due() == 0.0


@pytest.mark.parametrize(("chance", "due"), [(0.0, 1270.0), (0.5, 1300.0), (1.0, 1330.0)])
def test_the_timer_is_shifted_by_up_to_a_tenth(chance: float, due: float) -> None:
    timer = schedule(chance)
    timer.pass_started(1000.0)
    timer.pass_ended(Ended.WELL, 1000.0)
    assert timer.due() == due


def test_what_triggers_makes_it_due_at_once_and_the_pass_has_seen_it() -> None:
    timer = schedule()
    timer.pass_ended(Ended.WELL, 1000.0)
    timer.trigger(1010.0)
    timer.trigger(1011.0)
    assert timer.due() == 1010.0
    timer.pass_started(1011.0)
    assert timer.due() == 1300.0


def test_a_world_out_of_reach_is_asked_at_growing_intervals_whatever_triggers() -> None:
    timer, now, waits = schedule(), 0.0, []
    for _ in range(9):
        timer.pass_started(now)
        timer.pass_ended(Ended.UNREACHABLE, now)
        timer.trigger(now + 0.1)
        waits.append(timer.due() - now)
        now = timer.due()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_is_back_ends_the_pauses() -> None:
    timer = schedule()
    for _ in range(9):
        timer.pass_ended(Ended.UNREACHABLE, 100.0)
    timer.trigger(101.0)
    timer.expedite()
    assert timer.due() == 101.0
    timer.pass_ended(Ended.UNREACHABLE, 101.0)
    assert timer.due() == 102.0


def test_a_pass_that_ends_well_begins_the_count_anew() -> None:
    timer = schedule()
    timer.pass_ended(Ended.HUNG, 0.0)
    timer.pass_ended(Ended.HUNG, 0.0)
    timer.pass_ended(Ended.WELL, 0.0)
    timer.pass_ended(Ended.HUNG, 0.0)
    assert timer.due() == 60.0


def test_a_retry_comes_before_the_timer_but_never_after_it() -> None:
    timer = schedule()
    timer.pass_ended(Ended.WELL, 0.0, retry=10.0)
    assert timer.due() == 10.0
    timer.pass_ended(Ended.WELL, 0.0, retry=900.0)
    assert timer.due() == 300.0
    timer.pass_ended(Ended.WELL, 20.0, retry=10.0)
    assert timer.due() == 20.0


@given(st.sampled_from(Ended), st.integers(min_value=0, max_value=10**9))
def test_a_pause_is_never_longer_than_the_longest(how: Ended, times: int) -> None:
    assert 0 <= pause(how, times) <= how.value[1]


def test_events_without_end_bring_ten_passes_and_then_one_every_three_seconds() -> None:
    timer, now, started = schedule(), 1000.0, []
    while now < 1060:
        timer.trigger(now)
        now = max(now, timer.due())
        started.append(now)
        timer.pass_started(now)
        now += 0.1
        timer.pass_ended(Ended.WELL, now)
    gaps = [b - a for a, b in pairwise(started)]
    assert gaps[:8] == pytest.approx([0.1] * 8)
    assert gaps[12:] == pytest.approx([3.0] * len(gaps[12:]))
    timer.pass_started(2000.0)
    timer.pass_ended(Ended.WELL, 2000.0)
    timer.trigger(2000.1)
    assert timer.due() == 2000.1, "after a quiet time nothing is owed"
