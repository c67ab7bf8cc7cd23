"""What the agent is made of: feeds, shared answers, adapters that are kept, and the fields of a request."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.api.feed import Feed
from cede.api.fields import from_json, from_query
from cede.api.kept_adapters import KeptAdapters
from cede.api.problems import RequestError
from cede.api.questions import Printed, SharedAnswers
from cede.commands.catalog import COMMANDS
from cede.commands.requests import ApplyRequest, DevicesRequest, HistoryRequest, PauseRequest
from cede.errors import CedeError, PermanentError, TransientError, UnreachableError, UnsafeError
from unit.conftest import descriptors
from unit.http_client import eventually
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Adapters

# -- feeds


def read(feed: Feed, after: int) -> list[Any]:
    follower = feed.follow(after)
    try:
        return [json.loads(line) for line in (follower.read() or b"").splitlines()]
    finally:
        follower.close()


def test_feed_is_followed_from_any_number_that_it_keeps() -> None:
    feed = Feed(1000)
    for text in "abc":
        feed.put({"text": text})
    assert [event["n"] for event in read(feed, 0)] == [1, 2, 3]
    assert [event["text"] for event in read(feed, 2)] == ["c"]
    assert read(feed, 3) == []
    with raises(RequestError, "events-gone"):
        feed.follow(4)


def test_feed_keeps_the_newest_and_who_is_too_slow_is_ended() -> None:
    feed, size = Feed(100), 20
    slow = feed.follow(0)
    for _ in range(50):
        feed.put({"text": "x" * size})
    assert len(feed.lines) <= 100
    with raises(RequestError, "events-gone"):
        feed.follow(1)
    assert [event["n"] for event in read(feed, 49)] == [50]
    assert slow.read() == b""
    assert slow.read() is None
    slow.close()


def test_follower_is_readable_while_there_is_more_and_ends_with_the_feed() -> None:
    import select

    def readable(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])

    held = descriptors()
    feed = Feed(4 << 20)
    follower = feed.follow(0)
    follower.read()
    assert not readable(follower.fileno())
    for _ in range(3):
        feed.put({"text": "x" * 200_000})
    sizes = []
    while readable(follower.fileno()):
        sizes.append(len(follower.read() or b""))
    assert len(sizes) >= 2, "a piece at a time"
    assert sum(sizes) > 600_000
    feed.end()
    assert readable(follower.fileno())
    assert follower.read() == b""
    assert readable(follower.fileno())
    assert follower.read() is None
    follower.close()
    feed.put({})
    assert descriptors() == held


def test_feed_goes_on_where_another_one_ended() -> None:
    first, second = Feed(1000), Feed(1000)
    for text in "ab":
        first.put({"text": text})
    second.restore(first.lines)
    second.put({"text": "c"})
    assert [(event["n"], event["text"]) for event in read(second, 0)] == [(1, "a"), (2, "b"), (3, "c")]  # fmt: skip


# -- shared answers


class Source:
    """Gives a number more at each call, each when a test says so."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return number


def asking(
    shared: SharedAnswers, key: str, make: Callable[[], int], answers: list[int | CedeError]
) -> threading.Thread:
    def ask() -> None:
        try:
            answers.append(shared.get(key, make))
        except CedeError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_who_asks_before_the_observation_begins_shares_it_and_nobody_later() -> None:
    shared, source, answers = SharedAnswers(), Source(), list[int | CedeError]()
    first = asking(shared, "a", source, answers)
    assert source.begun.acquire(timeout=10)
    later = [asking(shared, "a", source, answers) for _ in range(20)]
    eventually(lambda: shared.asking == 21)
    source.go.release(2)
    for thread in (first, *later):
        thread.join(10)
    assert sorted(map(str, answers)) == ["1"] + ["2"] * 20
    assert source.calls == 2
    assert shared.asking == 0


def test_an_error_is_shared_too_and_the_next_one_asks_anew() -> None:
    shared = SharedAnswers()

    def fail() -> int:
        raise UnreachableError("away", name="libvirt-silent")

    with raises(UnreachableError, "libvirt-silent"):
        shared.get("a", fail)
    assert shared.get("a", lambda: 7) == 7


def test_different_questions_wait_for_room_and_not_for_ever() -> None:
    shared, source, answers = SharedAnswers(at_once=1, seconds=0.05), Source(), list[int | CedeError]()  # fmt: skip
    first = asking(shared, "a", source, answers)
    assert source.begun.acquire(timeout=10)
    with raises(TransientError, "too-many-questions"):
        shared.get("b", lambda: 1)
    with raises(TransientError, "too-many-questions"):
        shared.get("a", lambda: 1)
    source.go.release()
    first.join(10)
    assert answers == [1]
    assert shared.get("b", lambda: 3) == 3


def test_answer_has_a_limit() -> None:
    printed = Printed()
    printed.write("x" * (16 << 20), err=False)
    with raises(PermanentError, "answer-too-large"):
        printed.write("x", err=True)


# -- kept adapters


class Opened:
    """Stands for adapters: what the keeper asks of them."""

    def __init__(self) -> None:
        self.journal = self
        self.warnings: list[str] = []
        self.rebuilt = False
        self.closed = False

    def close(self) -> None:
        """The journal is closed, to be opened at its next use."""


class Opening:
    def __init__(self) -> None:
        self.made: list[Opened] = []

    @contextmanager
    def __call__(self, _runtime: Runtime, _access: LibvirtAccess) -> Iterator[Adapters]:
        made = Opened()
        self.made.append(made)
        try:
            yield cast("Adapters", made)
        finally:
            made.closed = True


RUNTIME = cast("Runtime", None)
REQUIRED = LibvirtAccess.REQUIRED


def test_adapters_are_kept_and_belong_to_one_request_at_a_time() -> None:
    opening = Opening()
    kept = KeptAdapters(opening)
    for _ in range(3):
        with kept.open(RUNTIME, REQUIRED):
            pass
    assert len(opening.made) == 1
    with kept.open(RUNTIME, REQUIRED) as one, kept.open(RUNTIME, REQUIRED) as other:
        assert one is not other
        with kept.open(RUNTIME, REQUIRED):
            pass
    assert sum(not made.closed for made in opening.made) == 2
    kept.close()
    assert all(made.closed for made in opening.made)
    with kept.open(RUNTIME, REQUIRED):
        pass
    assert all(made.closed for made in opening.made)


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (UnsafeError("in use", name="in-use"), True),
        (UnreachableError("away", name="libvirt-silent"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_adapters_that_failed_are_closed(error: Exception, stays: bool) -> None:
    opening = Opening()
    kept = KeptAdapters(opening)
    with pytest.raises(type(error)), kept.open(RUNTIME, REQUIRED):
        raise error
    assert opening.made[0].closed is not stays


def test_a_damaged_journal_is_told_once() -> None:
    opening = Opening()
    kept = KeptAdapters(opening)
    with kept.open(RUNTIME, REQUIRED):
        opening.made[0].warnings.append("damaged")
    assert opening.made[0].closed


def test_adapters_for_which_libvirt_may_be_silent_are_not_kept() -> None:
    opening = Opening()
    kept = KeptAdapters(opening)
    with kept.open(RUNTIME, LibvirtAccess.OPTIONAL):
        pass
    assert opening.made[0].closed


# -- fields


def test_fields_of_a_query_and_of_json_are_the_same_request() -> None:
    assert from_query(ApplyRequest, [("wait", "5"), ("prune", "true")]) == from_json(
        ApplyRequest, b'{"wait": 5, "prune": true}'
    )
    assert from_query(DevicesRequest, [("devices", "a"), ("devices", "b"), ("long", "")]) == (
        DevicesRequest(devices=("a", "b"), long=True)
    )
    assert from_json(HistoryRequest, b"") == HistoryRequest()
    assert isinstance(from_json(PauseRequest, b'{"target": "x", "lasting": 60}').lasting, float)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NAMES = st.sampled_from(["policy", "wait", "device", "devices", "log", "most", "long", "target"])


def assert_request_or_refused(kind: type[object], read: Callable[[], object]) -> None:
    refused = ""
    try:
        request = read()
    except RequestError as error:
        refused = error.name
    if refused:
        names = {"unknown-field", "wrong-field", "missing-field", "malformed-body"}
        assert refused in names
    else:
        assert type(request) is kind
        for name, hint in get_type_hints(kind).items():
            assert isinstance(getattr(request, name), get_origin(hint) or hint)


@given(st.sampled_from(list(COMMANDS.values())), st.dictionaries(NAMES | st.text(), JSON_VALUES))
def test_json_is_a_request_of_the_right_types_or_refused(command: Any, found: Any) -> None:  # noqa: ANN401 - any JSON
    assert_request_or_refused(
        command.request, lambda: from_json(command.request, json.dumps(found).encode())
    )


@given(
    st.sampled_from(list(COMMANDS.values())),
    st.lists(st.tuples(NAMES | st.text(), st.text() | st.integers().map(str))),
)
def test_query_is_a_request_of_the_right_types_or_refused(command: Any, pairs: Any) -> None:  # noqa: ANN401 - any query
    assert_request_or_refused(command.request, lambda: from_query(command.request, pairs))
