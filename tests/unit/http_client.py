"""A bare HTTP client on a unix socket, which can be as slow, broken and impolite as a test wants."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON is any
        return json.loads(self.body)


class RawClient:
    """One connection."""

    def __init__(self, path: Path, seconds: float = SECONDS) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(str(path))
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def ask(self, path: str, method: str = "GET", body: bytes = b"", headers: str = "") -> Answer:
        length = f"content-length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: cede\r\n{length}{headers}\r\n"
        with suppress(BrokenPipeError):  # who is refused at once has an answer all the same
            self.send(head.encode() + body)
        return self.answer(bodiless=method == "HEAD")

    def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one response."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = b""
        if "content-length" in headers and not bodiless:
            body = self._exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked" and not bodiless:
            body = b"".join(iter(self.chunk, b""))
        return Answer(status=int(head[0].split()[1]), headers=headers, body=body)

    def chunk(self) -> bytes:
        """Read one piece of a stream; empty at its end."""
        size = int(self._until(b"\r\n"), 16)
        return self._exactly(size + 2)[:size]

    def head(self) -> bytes:
        """Read what stands before the body."""
        return self._until(b"\r\n\r\n")

    def rest(self) -> bytes:
        """Read until the server closes."""
        while data := self.socket.recv(65536):
            self._buffer += data
        rest, self._buffer = self._buffer, b""
        return rest

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found + end

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError(self._buffer)
        self._buffer += data


def ask(
    path: Path, target: str, method: str = "GET", body: bytes = b"", headers: str = ""
) -> Answer:
    """Make one request on a connection of its own."""
    with RawClient(path) as client:
        return client.ask(target, method, body, headers)


def eventually(so: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until it is so, which it has to be in time."""
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)
