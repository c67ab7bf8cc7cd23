"""xenstored's wire protocol, over a real socket: answers in pieces, errors, wrong lengths, silence, and its end."""

from __future__ import annotations

import os
import socket
import threading
import time
import tty
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cede.adapters.xen.xenstore import Xenstore
from cede.adapters.xen.xenstore_client import Nodes, Operation, XenstoreClient
from cede.errors import UnreachableError
from unit.conftest import descriptors
from unit.fake_xenstored import HEADER, FakeXenstored, packet
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = Operation.READ


@pytest.fixture
def client(xenstored: FakeXenstored) -> Iterator[XenstoreClient]:
    made = XenstoreClient(xenstored.path, timeout=60)
    yield made
    made.close()


# -- questions


def test_nodes_are_read_listed_written_and_removed(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    client.write("/a/b", b"one\0two")
    client.write("/a/c", b"")
    assert client.ask(READ, ["/a/b", "/a/c", "/none"]) == [b"one\0two", b"", None]
    assert client.ask(Operation.DIRECTORY, ["/a", "/a/b", "/none"]) == [b"b\0c", b"", None]
    assert client.ask(Operation.RM, ["/a", "/a"]) == [b"OK", None]
    assert xenstored.nodes == {}
    assert client.ask(READ, []) == []


def test_a_list_that_is_too_long_for_one_answer_comes_in_parts(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    names = sorted(str(domid) for domid in range(1500))
    xenstored.nodes = {f"/local/domain/{name}": b"" for name in names} | {"/few/one": b""}
    long, few, none = client.ask(Operation.DIRECTORY, ["/local/domain", "/few", "/none"])
    assert (long or b"").decode().split("\0") == names
    assert (few, none) == (b"one", None)


def test_a_long_list_that_changes_while_it_is_read_is_begun_again(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes = {f"/a/{number}": b"" for number in range(1000, 2500)}
    answers = 0

    def changing(operation: Operation, request: int, payload: bytes) -> bytes | None:
        nonlocal answers
        answers += operation is Operation.DIRECTORY_PART
        if answers == 2:
            xenstored.nodes["/a/0999"] = b""
        return xenstored.properly(operation, request, payload)

    xenstored.answer = changing
    (names,) = client.ask(Operation.DIRECTORY, ["/a"])
    assert (names or b"").decode().split("\0") == sorted(n[3:] for n in xenstored.nodes)


def test_a_transaction_that_somebodys_change_crosses_is_done_again(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes, xenstored.crossed = {"/a": b"1"}, 2
    seen = []

    def change(nodes: Nodes) -> None:
        seen.append(nodes.ask(READ, ["/a"]))
        nodes.write("/b", b"2")
        nodes.ask(Operation.RM, ["/a"])

    client.in_transaction(change)
    assert seen == [[b"1"]] * 3
    assert xenstored.nodes == {"/b": b"2"}


def test_a_transaction_that_is_always_crossed_is_given_up(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.crossed = 1000
    with raises(UnreachableError, "xenstore-refused"):
        client.in_transaction(lambda nodes: nodes.write("/b", b"2"))
    assert xenstored.nodes == {}


def test_nothing_is_done_of_a_transaction_that_raises(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    def change(nodes: Nodes) -> None:
        nodes.write("/b", b"2")
        raise KeyError

    with pytest.raises(KeyError):
        client.in_transaction(change)
    assert xenstored.nodes == {}
    assert client.ask(READ, ["/b"]) == [None]


def test_the_zero_bytes_at_the_end_of_a_value_are_no_part_of_it(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes = {"/a": b"value\0\0"}
    assert client.ask(READ, ["/a"]) == [b"value"]


def test_many_nodes_are_asked_for_before_the_first_is_answered(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    gathered: list[bytes] = []

    def when_all_are_there(operation: Operation, request: int, payload: bytes) -> bytes:
        gathered.append(packet(operation, payload[:9], request))
        return b"".join(gathered) if len(gathered) == 200 else b""

    xenstored.answer = when_all_are_there
    paths = [f"/{number:08}{'a' * 3000}" for number in range(200)]  # more than the socket holds
    assert client.ask(READ, paths) == [path[:9].encode() for path in paths]


def test_more_than_fits_between_the_two_is_asked_and_answered_without_a_deadlock(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    path = "/" + "a" * 3000
    xenstored.nodes = {path: b"x" * 4000}
    assert client.ask(READ, [path] * 500) == [b"x" * 4000] * 500


def test_each_of_many_threads_gets_its_own_answers(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    paths = [f"/{number}" for number in range(100)]
    xenstored.nodes = {path: path.encode() for path in paths}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: client.ask(READ, [path, "/none"]), paths))
    assert found == [[path.encode(), None] for path in paths]
    assert len(xenstored.lines) == 1


@pytest.mark.parametrize("pieces", [1, 7, 16, 17])
def test_answers_that_come_in_pieces_are_put_together(
    client: XenstoreClient, xenstored: FakeXenstored, pieces: int
) -> None:
    xenstored.pieces = pieces
    xenstored.nodes = {"/a": b"value", "/b": b"\x1b[2J"}
    assert client.ask(READ, ["/a", "/none", "/b"]) == [b"value", None, b"\x1b[2J"]


def test_an_event_between_answers_is_no_answer(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes = {"/a": b"value"}
    client.watch(["/a"])
    xenstored.answer = lambda operation, request, payload: (
        xenstored.event("/a/b", "/a") + (xenstored.properly(operation, request, payload) or b"")
    )
    assert client.ask(READ, ["/a", "/a"]) == [b"value", b"value"]
    assert list(client.events()) == [("/a", "/a"), ("/a/b", "/a"), ("/a/b", "/a")]
    assert list(client.events()) == []


# -- refusals


def test_a_refusal_names_the_node_and_the_connection_goes_on(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes = {"/a": b"value"}
    xenstored.refused = {"/secret": "EACCES"}
    with raises(UnreachableError, "xenstore-refused", "refuses READ of /secret: EACCES") as caught:
        client.ask(READ, ["/a", "/secret", "/a"])
    assert caught.value.remedy
    assert client.ask(READ, ["/a"]) == [b"value"]
    assert len(xenstored.lines) == 1


@pytest.mark.parametrize(
    ("operation", "name"),
    [(Operation.WRITE, "xenstore-refused"), (Operation.WATCH, "watch-refused")],
)
def test_what_can_not_be_written_or_watched_is_an_error_also_if_it_is_not_there(
    client: XenstoreClient, xenstored: FakeXenstored, operation: Operation, name: str
) -> None:
    xenstored.answer = lambda _, request, __: packet(Operation.ERROR, b"ENOENT\0", request)
    with raises(UnreachableError, name, f"refuses {operation.name} of /a: ENOENT"):
        client.write("/a", b"") if operation == Operation.WRITE else client.watch(["/a"])


def test_a_refusal_of_any_words_is_one_line_that_no_terminal_obeys(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    said = b"\x1b[2J\nEVIL\xff" * 100
    xenstored.answer = lambda _, request, __: packet(Operation.ERROR, said, request)
    with pytest.raises(UnreachableError) as caught:
        client.ask(READ, ["/a"])
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1100


def test_what_is_too_long_for_xenstored_is_not_sent(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    with raises(UnreachableError, "xenstore-refused", 4096):
        client.write("/a", b"x" * 4094)
    assert xenstored.asked == []
    client.write("/a", b"x" * 4093)


# -- a xenstored that is broken, silent or gone


def wrong(kind: str, operation: Operation, request: int) -> bytes | None:
    """One answer that the protocol doesn't know."""
    answers = {
        "of another request": packet(operation, b"value", request + 1),
        "of another operation": packet(Operation.RM, b"OK\0", request),
        "of no operation": packet(77, b"value", request),
        "too long": packet(operation, b"x" * 4097, request),
        "without end": packet(operation, b"", request, length=2**32 - 1),
        "shorter than it says": packet(operation, b"value", request, length=6),
        "half a header": packet(operation, b"", request)[:9],
    }
    return answers.get(kind)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("of another request", "wasn't asked"),
        ("of another operation", "wasn't asked"),
        ("of no operation", "wasn't asked"),
        ("too long", "4097 bytes at once"),
        ("without end", "4294967295 bytes at once"),
        ("shorter than it says", "silent"),
        ("half a header", "silent"),
        ("none", "hung up"),
    ],
)
def test_an_answer_that_is_wrong_is_no_answer_and_the_next_question_has_a_new_connection(
    xenstored: FakeXenstored, kind: str, why: str
) -> None:
    client = XenstoreClient(xenstored.path, timeout=0.2)
    xenstored.nodes = {"/a": b"value"}
    xenstored.answer = lambda operation, request, _: wrong(kind, operation, request)
    with raises(UnreachableError, "xenstore-unreachable", why) as caught:
        client.ask(READ, ["/a"])
    assert caught.value.remedy
    assert client.fileno() == -1
    xenstored.answer = xenstored.properly
    assert client.ask(READ, ["/a"]) == [b"value"]
    client.close()


def test_an_answer_too_many_is_never_taken_for_the_answer_to_the_next_question(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    xenstored.nodes = {"/a": b"right"}
    xenstored.answer = lambda operation, request, _: (
        packet(operation, b"right", request) + packet(operation, b"one more", request + 1)
    )
    with raises(UnreachableError, "xenstore-unreachable", "wasn't asked"):
        client.ask(READ, ["/a"])
    xenstored.answer = xenstored.properly
    assert client.ask(READ, ["/a"]) == [b"right"]


def test_a_late_answer_is_never_taken_for_the_answer_to_another_question(
    xenstored: FakeXenstored,
) -> None:
    client = XenstoreClient(xenstored.path, timeout=0.1)
    late = threading.Event()

    def slowly(operation: Operation, request: int, payload: bytes) -> bytes | None:
        late.wait(5)
        return xenstored.properly(operation, request, payload)

    xenstored.nodes = {"/a": b"a", "/b": b"b"}
    xenstored.answer = slowly
    with raises(UnreachableError, "xenstore-unreachable", "silent"):
        client.ask(READ, ["/a"])
    xenstored.answer = xenstored.properly
    late.set()
    assert client.ask(READ, ["/b"]) == [b"b"]
    client.close()


def test_a_slow_xenstored_is_waited_for_no_longer_than_its_time_in_all(
    xenstored: FakeXenstored,
) -> None:
    client = XenstoreClient(xenstored.path, timeout=0.3)
    xenstored.nodes = {"/a": b"x" * 1000}
    xenstored.pieces, xenstored.pause = 1, 0.01  # never silent, never done
    started = time.monotonic()
    with raises(UnreachableError, "xenstore-unreachable", "silent"):
        client.ask(READ, ["/a"])
    assert 0.2 < time.monotonic() - started < 3.0
    client.close()


def test_where_no_xenstored_is_the_error_says_where_it_was_looked_for(tmp_path: Path) -> None:
    before = descriptors()
    client = XenstoreClient(tmp_path / "none")
    with raises(UnreachableError, "xenstore-unreachable", f"{tmp_path}/none") as caught:
        client.ask(READ, ["/a"])
    assert "dom0" in caught.value.remedy
    assert list(client.events()) == []
    client.close()
    assert descriptors() <= before


def test_the_connection_is_opened_at_the_first_question_and_after_a_close_anew(
    client: XenstoreClient, xenstored: FakeXenstored
) -> None:
    adapter = Xenstore(client)
    adapter.close()
    assert (client.fileno(), xenstored.lines) == (-1, [])
    adapter.backend()
    adapter.backend()
    assert len(xenstored.lines) == 1
    adapter.close()
    adapter.backend()
    assert len(xenstored.lines) == 2


def test_a_xenstored_in_a_domain_of_its_own_is_asked_through_the_device_one_message_a_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel drops what comes after the first message in a write (xenbus_file_write)."""
    theirs, ours = os.openpty()  # a character device, as /dev/xen/xenbus is
    tty.setraw(theirs)
    tty.setraw(ours)
    writes: list[bytes] = []
    write = os.write

    def spied(descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(descriptor, data)

    def serve() -> None:
        with open(theirs, "rb", buffering=0) as line:  # noqa: PTH123 - a descriptor
            for _ in range(2):
                kind, request, _, length = HEADER.unpack(line.read(HEADER.size))
                write(theirs, packet(kind, line.read(length).rstrip(b"\0"), request))
            served.wait(5)

    served = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    monkeypatch.setattr(os, "write", spied)  # a terminal keeps no borders between writes
    client = XenstoreClient(Path("/nowhere/socket"), Path(os.ttyname(ours)), timeout=5)
    assert client.ask(READ, ["/a", "/b"]) == [b"/a", b"/b"]
    assert [len(sent) for sent in writes] == [HEADER.size + 3] * 2
    client.close()
    served.set()
    thread.join()
    os.close(ours)


FRAMES = st.builds(
    lambda kind, request, payload, missing: packet(
        kind, payload, request, length=len(payload) + missing
    ),
    st.sampled_from([*Operation, 77]),
    st.integers(0, 3),
    st.binary(max_size=30) | st.sampled_from([b"ENOENT\0", b"/a\0/a\0", b""]),
    st.sampled_from([0, 0, 0, 1, 5000]),
)


@settings(max_examples=50)
@given(st.lists(FRAMES | st.binary(max_size=30), max_size=6))
def test_whatever_xenstored_says_is_an_answer_an_event_or_unreachable(said: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    client = XenstoreClient(Path("/nowhere/socket"), timeout=5)
    ours.setblocking(False)
    client._descriptor = ours.detach()
    theirs.sendall(b"".join(said))
    theirs.shutdown(socket.SHUT_WR)
    with suppress(UnreachableError):
        assert len(client.ask(READ, ["/a", "/b"])) == 2
    with suppress(UnreachableError):
        assert len(list(client.events())) <= len(said)
    client.close()
    theirs.close()
