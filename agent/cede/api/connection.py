"""One connection: requests one after another, each read whole within its limits, handled, and answered.

The protocol itself is h11's, which keeps its state and rejects what breaks it; time and memory are bounded here.
Source: RFC 9112; https://h11.readthedocs.io
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import h11

from cede import __version__
from cede.api.messages import Handler, Peer, Request, Response
from cede.api.problems import RequestError, problem_response
from cede.errors import CedeError, TransientError, unexpected

if TYPE_CHECKING:
    from cede.api.limits import BodyBudget, Limits
    from cede.api.messages import Stream

_RECEIVE = 8192  # at once: h11 looks at its own limit only when a head is not whole
_MAX_FIELDS = 64
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 8 << 20
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Gone(Exception):  # noqa: N818 - no error: the usual end of a connection
    """The client closed, or let its time pass between two requests."""


@dataclass(slots=True, kw_only=True)
class _Body:
    """A body as it comes, and what it takes of the budget."""

    budget: BodyBudget
    data: bytearray

    def add(self, more: bytes) -> None:
        """Append; raises TransientError if the memory for bodies is used up."""
        if not self.budget.take(len(more)):
            raise TransientError(
                "too many large requests come at once",
                name="too-many-bodies",
                remedy="send the same request again in a second",
            )
        self.data += more

    def drop(self) -> None:
        """Give back what it took."""
        self.budget.give(len(self.data))
        self.data = bytearray()


class Connection:
    """`stopping` is a descriptor that becomes readable when the server ends."""

    def __init__(
        self,
        connected: socket.socket,
        *,
        peer: Peer,
        read_only: bool,
        handler: Handler,
        limits: Limits,
        budget: BodyBudget,
        stopping: int,
    ) -> None:
        self._socket = connected
        self._peer = peer
        self._read_only = read_only
        self._handler = handler
        self._limits = limits
        self._body = _Body(budget=budget, data=bytearray())
        self._stopping = stopping
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._served = 0

    def serve(self) -> None:
        """Serve the client until it or the server has had enough; closes the connection, and raises nothing."""
        with suppress(OSError, _Gone, h11.ProtocolError), self._socket:
            while self._exchange():
                self._served += 1

    def _exchange(self) -> bool:
        """Answer one request; whether another one may follow."""
        method = ""
        try:
            request = self._request()
            method = request.method
            response = self._handler(request)
        except _Gone:
            raise
        except CedeError as error:
            response = problem_response(error)
        except Exception as fault:  # noqa: BLE001 - a fault at one request is answered, and the next one comes
            response = problem_response(unexpected(fault, "a request"))
        finally:
            self._body.drop()
        self._respond(response, head_only=method == "HEAD")
        again = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not again:
            self._linger()
        elif not self._is_stopping():
            self._http.start_next_cycle()
            return True
        return False

    # -- the request

    def _request(self) -> Request:
        """Read one request. Raises RequestError or TransientError for what is no request within the limits."""
        try:
            return self._read()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                raise self._head_too_large() from error
            raise RequestError(
                f"this is no request of HTTP/1.1: {error}",
                name="malformed-request",
                status=_status(error.error_status_hint),
            ) from error

    def _read(self) -> Request:
        head: h11.Request | None = None
        begun = bool(self._http.trailing_data[0]) or not self._served
        deadline = time.monotonic() + (self._limits.request if begun else self._limits.idle)
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = self._receive(deadline)
                if not begun and data:
                    begun, deadline = True, time.monotonic() + self._limits.request
                self._http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
                self._check_head(head)
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]), deadline)
            elif isinstance(event, h11.Data):
                self._check_length(len(self._body.data) + len(event.data))
                self._body.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._whole(head)
            else:
                raise _Gone

    def _receive(self, deadline: float) -> bytes:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            return self._socket.recv(_RECEIVE)
        except TimeoutError as late:
            if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
                raise _Gone from late
            raise RequestError(
                f"the request was not whole within {self._limits.request:g} s",
                name="request-too-slow",
                status=HTTPStatus.REQUEST_TIMEOUT,
            ) from late

    def _check_head(self, head: h11.Request) -> None:
        size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        if size > self._limits.head:
            raise self._head_too_large()
        for name, value in head.headers:
            if name == b"content-length":
                self._check_length(int(value))  # h11 lets only digits through

    def _head_too_large(self) -> RequestError:
        return RequestError(
            f"the request line and the headers are larger than {self._limits.head} bytes",
            name="head-too-large",
            status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        )

    def _check_length(self, length: int) -> None:
        limit = 0 if self._read_only else self._limits.body
        if length > limit:
            raise RequestError(
                f"the body is larger than {limit} bytes",
                name="body-too-large",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )

    def _whole(self, head: h11.Request) -> Request:
        if not head.http_version.startswith(b"1."):
            raise RequestError(
                f"this is version {head.http_version.decode('ascii')} of HTTP",
                name="http-version",
                status=HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
                remedy="use HTTP/1.1",
            )
        path, query = _split(head.target)
        headers: dict[str, str] = {}
        for name, value in head.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=query,
            headers=headers,
            body=bytes(self._body.data),
            peer=self._peer,
            read_only=self._read_only,
        )

    # -- the response

    def _respond(self, response: Response, *, head_only: bool) -> None:
        body, deadline = response.body, time.monotonic() + self._limits.response
        headers = [
            ("date", _date()),
            ("server", f"cede/{__version__}"),
            ("content-type", response.content_type),
            *response.headers,
        ]
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
        if self._is_stopping() or self._http.their_state is not h11.DONE:
            headers.append(("connection", "close"))
        self._send(h11.Response(status_code=response.status, headers=headers), deadline)
        if not isinstance(body, bytes):
            try:
                if not head_only:
                    self._pass_on(body)
            finally:
                body.close()
        elif not head_only:
            self._send(h11.Data(data=body), deadline)
        self._send(h11.EndOfMessage(), time.monotonic() + self._limits.response)

    def _pass_on(self, stream: Stream) -> None:
        """Send what the stream has until it, the client or the server ends."""
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLIN)
        poll.register(self._stopping, select.POLLIN)
        poll.register(self._socket, 0)  # hanging up alone: who has shut one half may listen on
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._socket.fileno() in ready:
                raise _Gone
            if stream.fileno() not in ready:
                return
            data = stream.read()
            if data is None:
                return
            if data:
                self._send(h11.Data(data=data), time.monotonic() + self._limits.response)

    def _send(self, event: h11.Event, deadline: float) -> None:
        for data in self._http.send_with_data_passthrough(event) or ():
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(data)

    def _linger(self) -> None:
        """Take what the client still sends, for a moment: else the kernel may drop the answer before it is read."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline, taken = time.monotonic() + _LINGER_SECONDS, 0
        while taken < _LINGER_BYTES:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(_RECEIVE)
            if not data:
                return
            taken += len(data)

    def _is_stopping(self) -> bool:
        poll = select.poll()
        poll.register(self._stopping, select.POLLIN)
        return bool(poll.poll(0))


def _split(target: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return path and query of a request's target, in origin form or in absolute form (RFC 9112, 3.2)."""
    text = target.decode("ascii")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in {"http", "https"}:
        text = rest[rest.find("/") :] if "/" in rest else "/"
    path, _, query = text.partition("?")
    try:
        if not path.startswith("/"):
            raise ValueError(path)  # noqa: TRY301 - one answer for all that is no target
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS
        ) if query else []  # fmt: skip
        return unquote(path, errors="strict"), tuple(pairs)
    except ValueError as error:
        raise RequestError(
            "the request's target is no path with a query in UTF-8",
            name="malformed-target",
            status=HTTPStatus.BAD_REQUEST,
        ) from error


def _status(hint: int) -> HTTPStatus:
    try:
        return HTTPStatus(hint)
    except ValueError:
        return HTTPStatus.BAD_REQUEST


def _date() -> str:
    """Return now as RFC 9110, 5.6.7, writes it, in English whatever the locale is."""
    now = time.gmtime()
    day, month = _DAYS[now.tm_wday], _MONTHS[now.tm_mon - 1]
    return f"{day}, {now.tm_mday:02} {month} {now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} GMT"
