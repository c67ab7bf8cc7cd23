"""The HTTP server on real unix sockets, with clients that are slow, greedy, broken or gone."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cede.api.limits import BodyBudget, ConnectionCount, Limits
from cede.api.messages import JSON_LINES, PROBLEM, Peer, Request, Response
from cede.api.peer import user_name
from cede.errors import TransientError, UnsafeError
from unit.conftest import descriptors
from unit.http_client import Answer, RawClient, ask, eventually
from unit.http_server import SLOW, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


QUICK = Limits(request=0.3, idle=0.6, response=0.3)


class Feed:
    """A stream that a test feeds."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.lines: list[bytes | None] = []
        self.closed = threading.Event()

    def put(self, line: bytes | None) -> None:
        self.lines.append(line)
        os.eventfd_write(self.descriptor, 1)

    def fileno(self) -> int:
        return self.descriptor

    def read(self) -> bytes | None:
        os.eventfd_read(self.descriptor)
        lines = self.lines.copy()
        self.lines = self.lines[len(lines) :]
        if lines[-1] is not None:
            return b"".join(line for line in lines if line is not None)
        self.put(None)
        return b"".join(line for line in lines if line is not None) or None

    def close(self) -> None:
        if not self.closed.is_set():
            os.close(self.descriptor)
            self.closed.set()


class Flood(Feed):
    """A stream that always has more."""

    def read(self) -> bytes | None:
        return b"x" * 65536


def echo(request: Request) -> Response:
    return Response(status=200, content_type="text/plain", body=request.path.encode())


def problem(answer: Answer) -> tuple[int, str]:
    """The status and the name, of what has to be a problem document."""
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json["status"] == answer.status
    assert answer.json["type"] == "about:blank"
    assert answer.json["reason"]
    assert answer.json["title"]
    return answer.status, answer.json["name"]


# -- one request


def test_request_reaches_the_handler_whole_and_decoded(tmp_path: Path) -> None:
    came: list[Request] = []

    def keep(request: Request) -> Response:
        came.append(request)
        return Response(status=200, headers=(("cede-exit", "4"),), body=b"{}")

    with serving(keep, tmp_path) as path:
        answer = ask(path, "/v1/pl%C3%A4n?a=1&b=x%20y&a=", "POST", b"hello", "X-A: 1\r\nx-a: 2\r\n")
    (request,) = came
    assert (request.method, request.path) == ("POST", "/v1/plän")
    assert request.query == (("a", "1"), ("b", "x y"), ("a", ""))
    assert (request.headers["x-a"], request.body) == ("1, 2", b"hello")
    assert request.peer == Peer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())
    assert not request.read_only
    assert (answer.status, answer.body, answer.headers["cede-exit"]) == (200, b"{}", "4")
    assert answer.headers["content-type"] == "application/json"


def test_request_by_the_read_only_socket_is_marked(tmp_path: Path) -> None:
    came: list[bool] = []

    def keep(request: Request) -> Response:
        came.append(request.read_only)
        return Response(status=200)

    with serving(keep, tmp_path, read_only=True) as path:
        assert ask(path, "/").status == 200
        assert problem(ask(path, "/", "POST", b"x")) == (413, "body-too-large")
    assert came == [True]


def test_connection_is_kept_and_requests_may_be_sent_ahead(tmp_path: Path) -> None:
    one = b"GET /%d HTTP/1.1\r\nhost: cede\r\n\r\n"
    with serving(echo, tmp_path) as path, RawClient(path) as client:
        assert [client.ask("/a").body, client.ask("/b").body] == [b"/a", b"/b"]
        client.send(one % 1 + one % 2)
        assert [client.answer().body, client.answer().body] == [b"/1", b"/2"]


def test_absolute_target_and_http_1_0_and_head_are_answered(tmp_path: Path) -> None:
    with serving(echo, tmp_path) as path:
        assert ask(path, "http://cede/v1/status?x=1").body == b"/v1/status"
        assert ask(path, "http://cede").body == b"/"
        with RawClient(path) as client:
            head = client.ask("/abc", "HEAD")
            assert (head.headers["content-length"], head.body) == ("4", b"")
            assert client.ask("/next").body == b"/next"
        with RawClient(path) as client:
            assert client.send(b"GET /old HTTP/1.0\r\n\r\n").rest().endswith(b"\r\n\r\n/old")


def test_client_that_waits_for_100_continue_is_told_to(tmp_path: Path) -> None:
    with (
        serving(lambda r: Response(status=200, body=r.body), tmp_path) as path,
        RawClient(path) as client,
    ):
        head = b"POST / HTTP/1.1\r\nhost: c\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        client.send(head % 5)
        assert client.head().startswith(b"HTTP/1.1 100 ")
        assert client.send(b"hello").answer().body == b"hello"
        too_long = client.send(head % (1 << 30)).answer()
        assert problem(too_long) == (413, "body-too-large")


def test_half_closed_client_is_answered(tmp_path: Path) -> None:
    feed = Feed()
    feed.put(b"1\n")
    feed.put(None)
    answers = {"/stream": Response(status=200, body=feed)}
    with serving(lambda r: answers.get(r.path, echo(r)), tmp_path) as path:
        for target, body in (("/plain", b"/plain"), ("/stream", b"1\n")):
            with RawClient(path) as client:
                client.send(f"GET {target} HTTP/1.1\r\nhost: c\r\n\r\n".encode())
                client.socket.shutdown(socket.SHUT_WR)
                assert client.answer().body == body


# -- what is no request within the limits

WHOLE = {"malformed-target", "http-version"}  # after which the connection may go on


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"hello\r\n\r\n", (400, "malformed-request")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "malformed-request")),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", (400, "malformed-request")),
        (b"GET / HTTP/3.0\r\nhost: c\r\n\r\n", (505, "http-version")),
        (b"GET cede HTTP/1.1\r\nhost: c\r\n\r\n", (400, "malformed-target")),
        (b"GET /%ff HTTP/1.1\r\nhost: c\r\n\r\n", (400, "malformed-target")),
        (b"GET /?%ff=1 HTTP/1.1\r\nhost: c\r\n\r\n", (400, "malformed-target")),
        (b"GET /?" + b"a=1&" * 100 + b" HTTP/1.1\r\nhost: c\r\n\r\n", (400, "malformed-target")),
        (b"GET /" + b"a" * 20000, (431, "head-too-large")),
        (b"GET /" + b"a" * 16384 + b" HTTP/1.1\r\nhost: c\r\n\r\n", (431, "head-too-large")),
        (
            b"GET / HTTP/1.1\r\nhost: c\r\n" + b"a: b\r\n" * 3000 + b"\r\n",
            (431, "head-too-large"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 2097153\r\n\r\n",
            (413, "body-too-large"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 99999999999999999999\r\n\r\n",
            (413, "body-too-large"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 40,
            (413, "body-too-large"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            (400, "malformed-request"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ntransfer-encoding: gzip\r\n\r\n",
            (501, "malformed-request"),
        ),
        (
            b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            (400, "malformed-request"),
        ),
    ],
)  # fmt: skip
def test_what_is_no_request_within_the_limits_is_refused_by_name(
    tmp_path: Path, sent: bytes, expected: tuple[int, str]
) -> None:
    with serving(echo, tmp_path) as path:
        with RawClient(path) as client:
            with suppress(BrokenPipeError, ConnectionResetError):
                client.send(sent)
            answer = client.answer()
            assert problem(answer) == expected
            assert (answer.headers.get("connection") == "close") != (expected[1] in WHOLE)
        assert ask(path, "/next").body == b"/next"


@given(sent=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_garbage_harms_nobody(served: Path, sent: bytes) -> None:
    for head in (
        b"",
        b"GET / HTTP/1.1\r\nhost: c\r\n",
        b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 9\r\n\r\n",
    ):
        with RawClient(served) as client:
            client.send(head + sent)
            client.socket.shutdown(socket.SHUT_WR)
            said = client.rest()
            assert not said or int(said.split()[1]) < 500 or said.split()[1] in {b"501", b"505"}
    assert ask(served, "/next").body == b"/next"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    with serving(echo, tmp_path) as path:
        yield path


# -- slow clients


def test_request_has_to_be_whole_in_time_however_slowly_it_comes(tmp_path: Path) -> None:
    with serving(echo, tmp_path, QUICK) as path, RawClient(path) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: c\r\n")
        client.socket.settimeout(0.02)
        began = time.monotonic()
        with suppress(TimeoutError):
            while time.monotonic() - began < 5:
                with suppress(TimeoutError):
                    client.socket.recv(1, socket.MSG_PEEK)
                    break
                client.send(b"a")
        client.socket.settimeout(5)
        assert problem(client.answer()) == (408, "request-too-slow")
        assert 0.25 < time.monotonic() - began < 2


def test_slow_body_is_a_slow_request(tmp_path: Path) -> None:
    with serving(echo, tmp_path, QUICK) as path, RawClient(path) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 5\r\n\r\nhell")
        assert problem(client.answer()) == (408, "request-too-slow")


def test_connection_without_a_request_is_closed_in_time(tmp_path: Path) -> None:
    with serving(echo, tmp_path, QUICK) as path:
        with RawClient(path) as client:
            assert client.rest() == b""
        with RawClient(path) as client:
            assert client.ask("/a").status == 200
            began = time.monotonic()
            assert client.rest() == b""
            assert 0.5 < time.monotonic() - began < 3


def test_client_that_does_not_read_is_left_in_time(tmp_path: Path) -> None:
    left = threading.Semaphore(0)

    def big(_: Request) -> Response:
        left.release()
        return Response(status=200, body=b"x" * (4 << 20))

    with serving(big, tmp_path, replace(QUICK, per_user=1)) as path, RawClient(path) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n")
        left.acquire()
        eventually(lambda: ask(path, "/").status == 200)
        assert len(client.rest()) < 4 << 20


# -- streams


def test_stream_goes_on_while_there_is_more(tmp_path: Path) -> None:
    feed = Feed()
    answers = {"/": Response(status=200, content_type=JSON_LINES, body=feed)}
    with (
        serving(lambda r: answers.get(r.path, echo(r)), tmp_path) as path,
        RawClient(path) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n")
        assert b"application/x-ndjson" in client.head()
        for line in (b"1\n", b"2\n"):
            feed.put(line)
            assert client.chunk() == line
        feed.put(None)
        assert client.chunk() == b""
        assert client.ask("/next").body == b"/next"
    assert feed.closed.is_set()


def test_stream_ends_when_its_client_goes(tmp_path: Path) -> None:
    feed = Feed()
    with serving(lambda _: Response(status=200, body=feed), tmp_path) as path:
        with RawClient(path) as client:
            client.send(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n").head()
        assert feed.closed.wait(5)


def test_stream_that_nobody_reads_ends_in_time(tmp_path: Path) -> None:
    flood = Flood()
    flood.put(b"")
    with (
        serving(lambda _: Response(status=200, body=flood), tmp_path, QUICK) as path,
        RawClient(path) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n").head()
        assert flood.closed.wait(5)


def test_head_of_a_stream_opens_none(tmp_path: Path) -> None:
    feed = Feed()
    with serving(lambda _: Response(status=200, body=feed), tmp_path) as path:
        assert ask(path, "/", "HEAD").status == 200
        assert feed.closed.wait(5)


# -- many


def test_two_hundred_clients_of_whom_fifty_are_slow(tmp_path: Path) -> None:
    def users(connected: socket.socket) -> Peer:
        """Slow clients are another user's."""
        return Peer(uid=next(numbers) if connected else 0, gid=0, pid=1)

    numbers = iter([1000] * 50 + [0] * 1000)
    with serving(echo, tmp_path, users=users) as path:
        slow = [RawClient(path).send(b"GET /") for _ in range(50)]

        def client(number: int) -> int:
            for _ in range(200):
                with suppress(OSError):
                    answer = ask(path, f"/{number}")
                    if answer.status == 200:
                        return 200
                    assert problem(answer) == (503, "too-many-connections")
                time.sleep(0.02)
            return 0

        began = time.monotonic()
        with ThreadPoolExecutor(150) as pool:
            assert set(pool.map(client, range(150))) == {200}
        assert time.monotonic() - began < 10
        for each in slow:
            each.socket.close()


def test_one_user_has_so_many_connections_and_the_next_user_his_own(tmp_path: Path) -> None:
    uids = chain([7, 7, 7, 8], repeat(7))

    def users(_: socket.socket) -> Peer:
        return Peer(uid=next(uids), gid=0, pid=1)

    with serving(echo, tmp_path, replace(SLOW, per_user=2), users) as path:
        with RawClient(path) as first, RawClient(path) as second, RawClient(path) as third:
            assert [first.ask("/").status, second.ask("/").status] == [200, 200]
            refused = third.answer()
            assert problem(refused) == (503, "too-many-connections")
            assert refused.headers["retry-after"] == "1"
            assert third.rest() == b""
            with RawClient(path) as other:
                assert other.ask("/").status == 200
        eventually(lambda: ask(path, "/").status == 200)


def test_who_is_refused_reads_the_answer_to_its_end_though_its_request_was_never_read(
    tmp_path: Path,
) -> None:
    sent = threading.Event()

    def users(_: socket.socket) -> Peer:
        assert sent.wait(10)
        return Peer(uid=7, gid=0, pid=1)

    with serving(echo, tmp_path, replace(SLOW, per_user=0), users) as path:
        for _ in range(5):
            sent.clear()
            with RawClient(path) as client:
                client.send(b"POST / HTTP/1.0\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
                sent.set()
                assert b"503" in client.rest().split(b"\r\n")[0]


def test_who_may_act_finds_room_whatever_all_others_hold() -> None:
    count = ConnectionCount(replace(SLOW, connections=5, read_only=3, per_user=4))
    assert [count.enter(uid, read_only=True) for uid in (1, 2, 3, 4)] == [True, True, True, False]
    assert [count.enter(0, read_only=False) for _ in range(3)] == [True, True, False]
    count.leave(2, read_only=True)
    assert count.enter(5, read_only=True)
    assert not count.enter(0, read_only=False)


def test_bodies_share_one_budget(tmp_path: Path) -> None:
    budget = BodyBudget(replace(SLOW, bodies=10))
    assert [budget.take(6), budget.take(6)] == [True, False]
    budget.give(6)
    assert budget.take(10)
    with serving(echo, tmp_path, replace(SLOW, bodies=8)) as path:
        assert problem(ask(path, "/", "POST", b"x" * 9)) == (503, "too-many-bodies")
        for _ in range(3):
            assert ask(path, "/", "POST", b"x" * 8).status == 200, (
                "what a request took is given back"
            )


# -- faults


def test_fault_of_a_handler_is_a_problem_and_the_connection_goes_on(tmp_path: Path) -> None:
    errors = {
        "/fault": ZeroDivisionError("0"),
        "/busy": TransientError("busy", name="busy", remedy="wait"),
        "/unsafe": UnsafeError("in use", name="in-use"),
    }

    def fail(request: Request) -> Response:
        raise errors[request.path]

    with serving(fail, tmp_path) as path, RawClient(path) as client:
        assert problem(client.ask("/fault")) == (500, "unexpected")
        busy = client.ask("/busy")
        assert problem(busy) == (503, "busy")
        assert busy.headers["retry-after"]
        assert (busy.json["remedy"], busy.json["kind"]) == ("wait", "try-later")
        assert problem(client.ask("/unsafe")) == (409, "in-use")


def test_kernel_without_threads_refuses_and_the_next_one_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    fails = iter([True])

    def no_thread(thread: threading.Thread) -> None:
        if thread.name.startswith("http-") and next(fails, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    with serving(echo, tmp_path) as path:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        with RawClient(path) as client:
            assert problem(client.answer()) == (503, "too-many-connections")
        assert ask(path, "/").status == 200


def test_descriptors_and_threads_do_not_grow(tmp_path: Path) -> None:
    with serving(echo, tmp_path) as path:
        ask(path, "/")
        eventually(lambda: http_threads() == 1)
        gc.collect()
        held = descriptors()
        for number in range(30):
            with RawClient(path) as client:
                client.send(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n" if number % 2 else b"GET")
        # the last client may be gone before it is accepted
        eventually(lambda: (http_threads(), descriptors()) == (1, held))
    assert http_threads() == 0


def http_threads() -> int:
    return sum(thread.name.startswith("http-") for thread in threading.enumerate())


def test_idle_server_wakes_nobody(tmp_path: Path) -> None:
    def switches() -> dict[int, str]:
        threads = [t for t in threading.enumerate() if t.name.startswith("http-")]
        return {
            t.native_id: Path(f"/proc/self/task/{t.native_id}/status").read_text().split("voluntary_ctxt_switches:")[1]
            for t in threads
            if t.native_id is not None
        }  # fmt: skip

    feed = Feed()
    answers = {"/stream": Response(status=200, body=feed)}
    with (
        serving(lambda r: answers.get(r.path, echo(r)), tmp_path) as path,
        RawClient(path) as kept,
        RawClient(path) as listening,
    ):
        kept.ask("/")
        listening.send(b"GET /stream HTTP/1.1\r\nhost: c\r\n\r\n").head()
        last: dict[int, str] = {}

        def quiet() -> bool:
            nonlocal last
            before, last = last, switches()
            return before == last

        eventually(quiet)
        time.sleep(0.5)
        assert switches() == last
        assert len(last) == 3


# -- the end


def test_server_ends_with_idle_connections_streams_and_requests(tmp_path: Path) -> None:
    feed, begun, go = Feed(), threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        if request.path == "/stream":
            return Response(status=200, body=feed)
        if request.path == "/long":
            begun.set()
            go.wait(5)
        return echo(request)

    with serving(handler, tmp_path) as path:
        idle, streaming, working = (RawClient(path) for _ in range(3))
        idle.ask("/")
        streaming.send(b"GET /stream HTTP/1.1\r\nhost: c\r\n\r\n").head()
        working.send(b"GET /long HTTP/1.1\r\nhost: c\r\n\r\n")
        begun.wait(5)
        threading.Timer(0.1, go.set).start()
    assert idle.rest() == b""
    assert streaming.chunk() == b"", "a stream ends as a whole one"
    answer = working.answer()
    assert (answer.body, answer.headers["connection"]) == (b"/long", "close")
    assert feed.closed.is_set()
    for client in (idle, streaming, working):
        client.socket.close()


def test_user_has_a_name_or_a_number() -> None:
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "uid 4000000000"
