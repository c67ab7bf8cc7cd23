"""The daemon's one queue, and the listeners that fill it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cede.daemon.triggers import Listener, Trigger, TriggerQueue
from cede.errors import UnreachableError
from unit.conftest import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


def trigger(source: str = "xenstore", what: str = "") -> Trigger:
    return Trigger(source=source, what=what)


def test_of_each_source_one_trigger_waits_however_many_come() -> None:
    triggers = TriggerQueue()
    for number in range(10_000):
        triggers.put(trigger(what=str(number)))
        triggers.put(trigger("kernel"))
    assert triggers.take(0.0) == (trigger(what="0"), trigger("kernel"))
    assert triggers.take(0.0) == ()
    triggers.put(trigger())
    assert triggers.take(0.0) == (trigger(),)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), max_size=60))
def test_whatever_is_put_before_a_take_is_in_it_by_its_source(acts: list[str | None]) -> None:
    triggers, put = TriggerQueue(), set[str]()
    for act in acts:
        if act is None:
            assert {found.source for found in triggers.take(0.0)} == put
            put = set()
        else:
            triggers.put(trigger(act))
            put.add(act)


def test_from_many_threads_none_is_lost() -> None:
    """Whatever was put is seen by a take that ends after it, though puts and takes run into each other."""
    triggers, happened, seen = TriggerQueue(), Counter[str](), Counter[str]()

    def storm(source: str) -> None:
        for number in range(1, 2001):
            happened[source] = number
            triggers.put(trigger(source))
            if number % 20 == 0:  # else later puts would make up for a lost one
                eventually(lambda number=number: seen[source] >= number)  # type: ignore[misc]

    with ThreadPoolExecutor() as threads:
        storms = [threads.submit(storm, source) for source in "abcd"]
        while not all(each.done() for each in storms):
            for taken in triggers.take(0.01):
                seen[taken.source] = happened[taken.source]
    for each in storms:
        each.result()
    assert seen == dict.fromkeys("abcd", 2000)


def test_it_waits_for_the_first_and_not_longer_than_it_was_reported() -> None:
    triggers = TriggerQueue()
    started = time.monotonic()
    assert triggers.take(0.05) == ()
    assert 0.04 < time.monotonic() - started < 2
    threading.Timer(0.05, lambda: triggers.put(trigger())).start()
    assert triggers.take(60.0) == (trigger(),)


def test_a_signal_handler_may_put_while_the_main_thread_waits() -> None:
    triggers = TriggerQueue()
    before = signal.signal(signal.SIGUSR1, lambda *_: triggers.put(trigger("signal")))
    try:
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert triggers.take(60.0) == (trigger("signal"),)
    finally:
        signal.signal(signal.SIGUSR1, before)


class Pipe:
    """A source that tells what is written into it, and is lost when it is told so."""

    name = "pipe"

    def __init__(self) -> None:
        self.ends: tuple[int, int] | None = None
        self.opened = 0
        self.refuses = 0

    def open(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise UnreachableError("nobody is there")
        self.ends = os.pipe()
        self.opened += 1

    def fileno(self) -> int:
        assert self.ends is not None
        return self.ends[0]

    def read(self) -> Collection[str]:
        said = os.read(self.fileno(), 100).decode()
        if said == "lost":
            raise UnreachableError("it was lost")
        return () if said == "chatter" else (said,)

    def close(self) -> None:
        ends, self.ends = self.ends, None
        for end in ends or ():
            os.close(end)

    def say(self, what: str) -> None:
        eventually(lambda: self.ends is not None)
        assert self.ends is not None
        os.write(self.ends[1], what.encode())


def eventually(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not question():
        assert time.monotonic() < end
        time.sleep(0.002)


class Heard:
    def __init__(self) -> None:
        self.source, self.triggers, self.said = Pipe(), TriggerQueue(), list[str]()
        self.pauses: list[int] = []
        self.listener = Listener(self.source, self.triggers, self.said.append, self._pause)

    def _pause(self, times: int) -> float:
        self.pauses.append(times)
        return 0.005


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    made.listener.close()


def test_what_a_source_reports_triggers_and_what_is_of_no_interest_does_not(heard: Heard) -> None:
    heard.listener.start()
    (first,) = heard.triggers.take(10.0)  # it may have missed something
    assert (first.source, first.urgent) == ("pipe", False)
    heard.source.say("chatter")
    assert heard.triggers.take(0.05) == ()
    heard.source.say("pv1 started")
    assert heard.triggers.take(10.0) == (trigger("pipe", "pv1 started"),)
    assert heard.said == []


def test_a_source_that_is_lost_is_opened_again_and_triggers_for_what_was_missed(
    heard: Heard,
) -> None:
    heard.listener.start()
    assert [trigger.urgent for trigger in heard.triggers.take(10.0)] == [False]
    heard.source.say("lost")
    eventually(lambda: heard.source.opened == 2)
    (back,) = heard.triggers.take(10.0)
    assert (back.source, back.urgent) == ("pipe", True)
    eventually(lambda: len(heard.said) == 2)
    assert [line.split()[0] for line in heard.said] == ["pipe", "pipe"]
    assert heard.said[0].endswith("it was lost")


def test_one_that_does_not_open_is_tried_again_with_longer_pauses_and_reported_once(
    heard: Heard,
) -> None:
    heard.source.refuses = 5
    heard.listener.start()
    eventually(lambda: heard.source.opened == 1)
    assert heard.pauses == [1, 2, 3, 4, 5]
    eventually(lambda: len(heard.said) == 2)


def test_a_listener_that_is_closed_leaves_no_thread_and_no_descriptor() -> None:
    before = (threading.active_count(), descriptors())
    for _ in range(3):
        made = Heard()
        made.listener.start()
        eventually(lambda made=made: made.source.opened == 1)  # type: ignore[misc]
        made.listener.close()
    assert (threading.active_count(), descriptors()) == before
