"""The client: asks the agent at its socket, and says what it printed. Imports little, since a command waits for that.

Speaks HTTP/1.0 (RFC 1945), in which a connection has one request, and its end is that of the answer: without chunks
there is little to parse, and h11 is a sixth of what a command imports.
A request is sent as JSON to `/v1/NAME`. A question is answered at once with JSON lines; what may change something
becomes an operation, whose events are followed to the end, across a restart of the agent too.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from cede.api.reported_error import AgentError, read_error
from cede.commands.answer import Answer
from cede.commands.exit_status import Exit
from cede.errors import FailureKind, UnreachableError
from cede.util.text import number, one_line

if TYPE_CHECKING:
    from pathlib import Path

JSON_LINES = "application/x-ndjson"
_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 300.0  # above that of any question's own limits
_BACK_SECONDS = 60.0  # in which an agent that ended is there again
_PAUSE = 0.2
_RECEIVE = 65536
_MAX_LINE = 64 << 20
_MAX_HEAD = 64 << 10
_HEAD_END = b"\r\n\r\n"
_MAX_VALUE = 200
_OK, _ACCEPTED, _BUSY = 200, 202, 503
_NOT_UNDERSTOOD = (ValueError, TypeError, KeyError, AttributeError)


class Text(NamedTuple):
    """What the command printed next: a line, or a part of one; `err` is standard error."""

    text: str
    err: bool


class _LostError(Exception):
    """The connection ended before the answer did."""


class AgentClient:
    """Asks the agent whose socket is at `path`; one request at a time, and `cancel` from any thread.

    `sleep` and `clock` are for waiting until an agent is there again.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._sleep = sleep
        self._clock = clock
        self._line: _Connection | None = None
        self._operation = ""
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> bool:
        """Connect; false if no agent listens, or this user may not ask it."""
        try:
            self._line = _Connection(self._path)
        except OSError:
            return False
        return True

    def ask(
        self,
        name: str,
        fields: Mapping[str, object],
        *,
        as_json: bool = False,
        version: str = "",
        requester: str = "",
    ) -> Iterator[Text | Answer]:
        """Yield what the command `name` prints as it is printed, and then its answer.

        `fields` are those of its request, as cede.commands.catalog has it; what is left out has its default.
        `version`, unless empty, is the one that the agent must have. `requester` is on whose behalf root asks. Raises
        AgentError with the name `other-version` for an agent of another version, AgentError as the agent says for a
        request that it refuses, UnreachableError if the agent goes and doesn't come back.
        """
        target = f"/v1/{name}?output={'json' if as_json else 'text'}"
        headers = [("accept", JSON_LINES), ("content-type", "application/json")]
        headers += [("cede-version", version)] if version else []
        headers += [("cede-requester", requester)] if requester else []
        answer = self._send("POST", target, headers, json.dumps(fields).encode())
        if answer.status == _ACCEPTED:
            self._operation = answer.header("location")
            if self._cancelled:
                self.cancel()
            yield from self._follow()
            return
        ended = False
        for event in answer.lines():
            ended = ended or isinstance(event, Answer)
            yield event
        if not ended:
            raise _gone(self._path)

    def get(self, target: str, *, seconds: float) -> object:
        """Return the JSON at `target`; None if the agent says anything else, or nothing for so many seconds."""
        try:
            self._line = _Connection(self._path, seconds)
            answer = self._line.send("GET", target, [], b"", seconds)
            received = b"".join(answer.body()) if answer.status == _OK else b"null"
            read: object = json.loads(received)
        except (OSError, _LostError, ValueError, RecursionError):
            return None
        return read

    def cancel(self) -> None:
        """End the operation that is followed after its present action; nothing happens without one."""
        self._cancelled = True
        if self._operation:
            with suppress(OSError, _LostError):
                connection = _Connection(self._path)
                try:
                    connection.send("DELETE", self._operation, [], b"")
                finally:
                    connection.close()

    def close(self) -> None:
        """Close the connection; an operation goes on."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _send(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> _Response:
        """Send a request, again while the agent has no room; raises AgentError for a problem."""
        deadline = self._clock() + _BACK_SECONDS
        while True:
            try:
                if self._line is None or self._line.used:
                    self.close()
                    self._line = _Connection(self._path)
                answer = self._line.send(method, target, headers, body)
            except (OSError, _LostError) as lost:
                self.close()
                raise _gone(self._path) from lost
            if answer.status in {_OK, _ACCEPTED}:
                return answer
            error = answer.problem()
            self.close()
            if answer.status != _BUSY or self._clock() > deadline:
                raise error
            self._sleep(_PAUSE)

    def _follow(self) -> Iterator[Text | Answer]:
        """Yield the operation's events; if the agent goes meanwhile, from the last one on when it is back."""
        last, deadline, ended = 0, self._clock() + _BACK_SECONDS, False
        while True:
            try:
                answer = self._send("GET", f"{self._operation}/events?after={last}", [], b"")
                for number, event in answer.events():
                    last, deadline = max(last, number), self._clock() + _BACK_SECONDS
                    ended = ended or isinstance(event, Answer)
                    yield event
                if ended:
                    return
            except (UnreachableError, OSError, _LostError) as lost:
                if ended:
                    return
                if self._clock() > deadline:
                    raise _gone(self._path) from lost
            self.close()
            self._sleep(_PAUSE)


class _Connection:
    """A connection for one request."""

    def __init__(self, path: Path | str, seconds: float = _CONNECT_SECONDS) -> None:
        self.used = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def send(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes,
        seconds: float = _ANSWER_SECONDS,
    ) -> _Response:
        """Send a request and read the head of its answer."""
        self.used = True
        self._socket.settimeout(seconds)
        every = [*headers, ("content-length", str(len(body)))]
        lines = [
            f"{method} {target} HTTP/1.0",
            *(f"{k}: {one_line(v, _MAX_VALUE)}" for k, v in every),
        ]
        head = "".join(f"{line}\r\n" for line in (*lines, ""))
        with suppress(BrokenPipeError):  # who was refused at once has an answer all the same
            self._socket.sendall(head.encode("utf-8", "replace") + body)
        received = b""
        while _HEAD_END not in received[:_MAX_HEAD]:
            data = self._socket.recv(_RECEIVE)
            received += data
            if not data or len(received) > _MAX_HEAD + _RECEIVE:
                raise _LostError
        read, _, rest = received.partition(_HEAD_END)
        return _Response(self, read.decode("latin-1"), rest)

    def receive(self) -> bytes:
        """Return what comes next, nothing at the end."""
        return self._socket.recv(_RECEIVE)

    def wait_for_ever(self) -> None:
        """Set no limit for what comes next."""
        self._socket.settimeout(None)

    def close(self) -> None:
        self._socket.close()


class _Response:
    """`head` is the status line and the headers, `rest` what has come of the body."""

    def __init__(self, connection: _Connection, head: str, rest: bytes) -> None:
        status, *lines = head.split("\r\n")
        version, _, code = status.partition(" ")
        if not version.startswith("HTTP/1."):
            raise _LostError
        self.status = number(code[:3]) or 0
        self._connection, self._rest = connection, rest
        pairs = (line.partition(":") for line in lines)
        self._headers = {name.strip().lower(): value.strip() for name, _, value in pairs}

    def header(self, name: str) -> str:
        """Return a header's value, empty if it isn't there."""
        return self._headers.get(name, "")

    def body(self) -> Iterator[bytes]:
        """Yield the body as it comes; raises _LostError if it is shorter than its length."""
        length = number(self.header("content-length"))
        came, data = 0, self._rest
        while True:
            if data:
                yield data
            came += len(data)
            if length is not None and came >= length:
                return
            data = self._connection.receive()
            if not data:
                break
        if length is not None:
            raise _LostError

    def problem(self) -> AgentError:
        """Return the problem document as an error."""
        try:
            read = json.loads(b"".join(self.body()))
            return read_error(read, message=read["reason"])
        except (*_NOT_UNDERSTOOD, _LostError, OSError):
            return _strange(f"HTTP status {self.status}")

    def lines(self) -> Iterator[Text | Answer]:
        """Yield what was printed, and the end."""
        for _, event in self.events():
            yield event

    def events(self) -> Iterator[tuple[int, Text | Answer]]:
        """Yield what was printed, and the end, each with its number."""
        self._connection.wait_for_ever()
        rest = b""
        for data in self.body():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                number, event = _understood(line)
                if event is not None:
                    yield number, event
            if len(rest) > _MAX_LINE:
                raise _LostError


def _understood(line: bytes) -> tuple[int, Text | Answer | None]:
    """Return the number of an event and what it says; raises AgentError if it is none."""
    try:
        read = json.loads(line)
        return int(read.get("n", 0)), _event(read)
    except _NOT_UNDERSTOOD as error:
        raise _strange("lines that are no events") from error


def _strange(what: str) -> AgentError:
    return AgentError(f"the agent answers with {what}", name="agent-error", kind=FailureKind.FAILED)


def _event(read: Mapping[str, Any]) -> Text | Answer | None:
    kind = read.get("kind")
    if kind in {"out", "err"}:
        return Text(text=str(read["text"]), err=kind == "err")
    if kind == "end":
        error = read.get("error")
        return Answer(
            exit=Exit(read["exit"]),
            digest=str(read.get("digest", "")),
            error=None if error is None else read_error(error, message=error["message"]),
        )
    return None  # of a newer agent, or of no interest here


def _gone(path: Path | str) -> UnreachableError:
    return UnreachableError(
        f"the agent at {path} does not answer",
        name="agent-unreachable",
        remedy="`systemctl status cede` shows the agent; with --no-agent the command does the work itself",
    )


__all__ = ["AgentClient", "AgentError", "Text"]
