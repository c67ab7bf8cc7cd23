"""Requests and responses as values: all that what answers knows of HTTP, and all that the server knows of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process that opened a connection, as the kernel knew it then; it may have ended since."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, whole.

    `path` is without the query and decoded; `query` are its pairs, decoded, in order; `headers` have names in lower
    case, and a name that came several times has its values joined by `, `. `read_only` tells that the request came by
    the socket that anybody may open.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    peer: Peer
    read_only: bool


class Stream(Protocol):
    """A body that comes bit by bit, for as long as the client listens."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `read` has something to return."""

    def read(self) -> bytes | None:
        """Return what has come, without waiting; None at the end."""

    def close(self) -> None:
        """End it; nobody listens any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response: the whole body, or a stream of it."""

    status: int
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = field(default=())
    body: bytes | Stream = b""


Handler = Callable[[Request], Response]
