"""xenstored's wire protocol, the only code that speaks it: requests in one go, their answers, and watch events.

Xen's own binding (xen.lowlevel.xs) asks for one node at a time, and no package puts it where Python looks. Sources:
xen/docs/misc/xenstore.txt, xen/include/public/io/xs_wire.h, drivers/xen/xenbus/xenbus_dev_frontend.c (the device).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from enum import IntEnum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cede.errors import UnreachableError
from cede.util.log import argument_text, logged_call
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HEADER = struct.Struct("=4I")  # operation, request, transaction, length
_MAX_PAYLOAD = 4096  # XENSTORE_PAYLOAD_MAX
_MAX_EVENTS = 4096  # kept until somebody reads them
_CHUNK = 65536
_TRIES = 10  # of a transaction that somebody else's crosses
_TIMEOUT = 30.0
_REMEDY = "is this dom0 of a running Xen? systemctl status xenstored"


class Operation(IntEnum):
    """What a message is (xsd_sockmsg_type), as far as it is used here."""

    DIRECTORY = 1
    READ = 2
    WATCH = 4
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    WRITE = 11
    RM = 13
    WATCH_EVENT = 15
    ERROR = 16
    DIRECTORY_PART = 22


_MAY_BE_MISSING = frozenset(
    {Operation.DIRECTORY, Operation.DIRECTORY_PART, Operation.READ, Operation.RM}
)
_MAX_PARTS = 1024  # of about 4 KiB each


class _Message(NamedTuple):
    operation: int
    request: int
    payload: bytes
    transaction: int = 0


class Nodes(Protocol):
    """What can be asked of xenstore, in a transaction or without one; see `XenstoreClient`."""

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        """What READ, DIRECTORY or RM of each path is answered with; None for a node that isn't there."""

    def write(self, path: str, value: bytes) -> None:
        """Write a node."""


class XenstoreClient:
    """One connection, opened at the first question, and anew after a failure or a close.

    Whoever asks waits for the answers; several threads may. Every method raises UnreachableError if xenstored isn't
    there, refuses, is silent for `timeout` seconds, or says what the protocol doesn't know. Where xenstored runs in a
    domain of its own, there is no `socket` but only the kernel's `device` (/dev/xen/xenbus).
    """

    def __init__(
        self, socket: Path, device: Path | None = None, *, timeout: float = _TIMEOUT
    ) -> None:
        self._socket = socket
        self._device = device
        self._timeout = timeout
        self._descriptor = -1
        self._writes_many = False
        self._arrived = bytearray()
        self._events: deque[tuple[str, str]] = deque(maxlen=_MAX_EVENTS)
        self._numbers = count(1)
        self._one_at_a_time = threading.Lock()

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        """Return xenstored's answer to READ, DIRECTORY or RM of each path; None for a node that isn't there."""
        return self.exchange([(operation, path.encode() + b"\0") for path in paths])

    def write(self, path: str, value: bytes) -> None:
        """Write a node, and make it and those above it where they aren't there."""
        self.exchange([(Operation.WRITE, path.encode() + b"\0" + value)])

    def in_transaction(self, change: Callable[[Nodes], None]) -> None:
        """Have `change` read and write so that nobody else's writes come between; done again if somebody's did.

        Nothing of it is done if `change` raises.
        """
        for _ in range(_TRIES):
            (number,) = self.exchange([(Operation.TRANSACTION_START, b"\0")])
            transaction = int(number or b"0")
            try:
                change(_Transaction(self, transaction))
            except BaseException:
                self._end(transaction, b"F\0")
                raise
            if self._end(transaction, b"T\0"):
                return
        raise UnreachableError(
            f"xenstore was changed meanwhile, {_TRIES} times", name="xenstore-refused"
        )

    def _end(self, transaction: int, decision: bytes) -> bool:
        """Whether it was done; not if somebody else's change came between."""
        return self.exchange([(Operation.TRANSACTION_END, decision)], transaction) != [None]

    def watch(self, paths: Sequence[str]) -> None:
        """Have each change at or below the paths come as an event, and one event for each path at once."""
        self.exchange([(Operation.WATCH, f"{path}\0{path}\0".encode()) for path in paths])

    def events(self) -> list[tuple[str, str]]:
        """Return each event that has come since: the path that changed, and the path that is watched. Doesn't wait."""
        with self._one_at_a_time:
            if self._descriptor >= 0:
                with self._closing_failures():
                    self._receive()
                    for message in self._messages():
                        raise _nonsense(message)
            found = list(self._events)
            self._events.clear()
        return found

    def fileno(self) -> int:
        """Return the descriptor that is readable when xenstored has said something; -1 while there is no connection."""
        return self._descriptor

    def close(self) -> None:
        """Close the connection, which ends its watches."""
        with self._one_at_a_time:
            self._close()

    def exchange(
        self, requests: Sequence[tuple[Operation, bytes]], transaction: int = 0
    ) -> list[bytes | None]:
        """What each request is answered with; see `ask` and `write`."""
        asked = [
            _Message(operation, next(self._numbers) % 2**32, payload, transaction)
            for operation, payload in requests
        ]
        if any(len(message.payload) > _MAX_PAYLOAD for message in asked):
            raise UnreachableError(
                f"xenstore takes at most {_MAX_PAYLOAD} bytes at once", name="xenstore-refused"
            )
        with (
            logged_call(lambda: _shown(asked)),
            self._one_at_a_time,
            self._closing_failures(),
        ):
            if self._descriptor < 0:
                self._open()
            answers = self._answered(asked)
        return [
            self._in_parts(message.payload, transaction)
            if _is_too_long(message, answer)
            else _payload(message, answer)
            for message, answer in zip(asked, answers, strict=True)
        ]

    def _in_parts(self, path: bytes, transaction: int) -> bytes | None:
        """Return a list of names that is too long for one answer; begun again when it changes meanwhile.

        Each part opens with the node's generation, and the last one ends with an empty name (xenstored_core.c,
        send_directory_part).
        """
        names, generation = b"", b""
        for _ in range(_MAX_PARTS):
            request = (Operation.DIRECTORY_PART, path + f"{len(names)}\0".encode())
            (part,) = self.exchange([request], transaction)
            if part is None:
                return None
            number, _, rest = part.partition(b"\0")
            if names and number != generation:
                names, generation = b"", b""
                continue
            generation = number
            ends = rest in {b"", b"\0"} or rest.endswith(b"\0\0")
            names += rest[:-1] if ends else rest
            if ends:
                return names.rstrip(b"\0")
        raise UnreachableError(
            f"xenstore's list below {_text(path)} has no end",
            name="xenstore-refused",
            remedy=_REMEDY,
        )

    def _answered(self, asked: Sequence[_Message]) -> list[_Message]:
        """The answer to each request; all are under way at once, which saves the way there and back for each."""
        packets = [
            _HEADER.pack(
                message.operation, message.request, message.transaction, len(message.payload)
            )
            + message.payload
            for message in asked
        ]
        outgoing = deque([b"".join(packets)] if self._writes_many else packets)
        answers: list[_Message] = []
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        while True:
            self._send(outgoing)
            for message in self._messages():
                expected = asked[len(answers)] if len(answers) < len(asked) else None
                if expected is None or not _answers(expected, message):
                    raise _nonsense(message)
                answers.append(message)
            if len(answers) == len(asked):
                return answers
            poll.register(self._descriptor, select.POLLIN | (select.POLLOUT if outgoing else 0))
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError(f"it was silent for {self._timeout:.0f} s")
            self._receive()

    def _send(self, outgoing: deque[bytes]) -> None:
        """Write as much as there is room for."""
        with suppress(BlockingIOError):
            while outgoing:
                sent = os.write(self._descriptor, outgoing[0])
                rest = outgoing.popleft()[sent:]
                if rest:
                    outgoing.appendleft(rest)

    def _receive(self) -> None:
        """Read what is there."""
        with suppress(BlockingIOError):
            chunk = os.read(self._descriptor, _CHUNK)
            if not chunk:
                raise ConnectionError("it hung up")
            self._arrived += chunk

    def _messages(self) -> Iterator[_Message]:
        """Every whole message that has arrived; events are put aside."""
        while len(self._arrived) >= _HEADER.size:
            operation, request, _, length = _HEADER.unpack_from(self._arrived)
            if length > _MAX_PAYLOAD:
                raise ConnectionError(f"it sent {length} bytes at once")
            end = _HEADER.size + length
            if len(self._arrived) < end:
                return
            payload = bytes(self._arrived[_HEADER.size : end])
            del self._arrived[:end]
            if operation == Operation.WATCH_EVENT:
                path, _, token = _text(payload.rstrip(b"\0")).partition("\0")
                self._events.append((path, token))
            else:
                yield _Message(operation, request, payload)

    def _open(self) -> None:
        path = self._socket
        if self._device is not None and self._device.exists() and not path.exists():
            path = self._device
        try:
            self._writes_many = not path.is_char_device()
            if self._writes_many:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(self._timeout)
                    connection.connect(str(path))
                    self._descriptor = connection.detach()
            else:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            os.set_blocking(self._descriptor, False)
        except OSError as error:
            raise UnreachableError(
                f"xenstore doesn't answer at {path}: {error}",
                name="xenstore-unreachable",
                remedy=_REMEDY,
            ) from error

    @contextmanager
    def _closing_failures(self) -> Iterator[None]:
        """Give up a connection that has failed, lest its late answers are taken for those to other questions."""
        try:
            yield
        except OSError as error:
            self._close()
            raise UnreachableError(
                f"xenstore gave no answer: {error}", name="xenstore-unreachable", remedy=_REMEDY
            ) from error
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._arrived.clear()
        self._events.clear()
        if descriptor >= 0:
            os.close(descriptor)


class _Transaction:
    """The `Nodes` of one transaction."""

    def __init__(self, client: XenstoreClient, number: int) -> None:
        self._client = client
        self._number = number

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        requests = [(operation, path.encode() + b"\0") for path in paths]
        return self._client.exchange(requests, self._number)

    def write(self, path: str, value: bytes) -> None:
        self._client.exchange([(Operation.WRITE, path.encode() + b"\0" + value)], self._number)


def _shown(asked: Sequence[_Message]) -> str:
    """Some requests as a log may have them: of a value that is written nothing."""
    if not asked:
        return "xenstore: nothing"
    path = argument_text(_text(asked[0].payload.partition(b"\0")[0]))
    more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
    return f"xenstore {Operation(asked[0].operation).name} {path}{more}"


def _answers(asked: _Message, message: _Message) -> bool:
    return message.request == asked.request and message.operation in {
        asked.operation,
        Operation.ERROR,
    }


def _is_too_long(asked: _Message, answer: _Message) -> bool:
    """Whether the answer would be longer than a message may be: some 680 domains (xen/docs/misc/xenstore.txt)."""
    refused = answer.operation == Operation.ERROR and answer.payload.rstrip(b"\0") == b"E2BIG"
    return refused and asked.operation == Operation.DIRECTORY


def _payload(asked: _Message, answer: _Message) -> bytes | None:
    """What was answered; None if there is no such node to read or to remove, or a transaction was crossed."""
    said = answer.payload.rstrip(b"\0")
    if answer.operation == Operation.DIRECTORY_PART:
        return answer.payload
    if answer.operation != Operation.ERROR:
        return said
    if said == b"ENOENT" and asked.operation in _MAY_BE_MISSING:
        return None
    if said == b"EAGAIN" and asked.operation == Operation.TRANSACTION_END:
        return None
    path = _text(asked.payload.partition(b"\0")[0])
    raise UnreachableError(
        f"xenstore refuses {Operation(asked.operation).name} of {path}: {one_line(_text(said))}",
        name="watch-refused" if asked.operation == Operation.WATCH else "xenstore-refused",
        remedy=_REMEDY,
    )


def _nonsense(message: _Message) -> ConnectionError:
    return ConnectionError(
        f"it said what it wasn't asked (operation {message.operation}, request {message.request})"
    )


def _text(payload: bytes) -> str:
    return payload.decode("ascii", errors="replace")
