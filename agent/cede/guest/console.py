"""A guest's shell, spoken to over a line of text such as its console.

The line carries echo, colours, boot messages and whatever else the guest likes to print. An answer counts only between
two marks that carry a fresh random number, and only up to a size and a time. Nothing that comes back is ever run or
shown raw.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Protocol

from cede.errors import GuestSilentError
from cede.guest import look

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.address import Address

# ECMA-48: control sequences, control strings up to their end, and escapes with or without intermediate characters
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\-~])"
)
_CONTROL = re.compile(r"[^\n\t -~]")
_PROMPT = re.compile(r"[#$%>] ?$")
_LOGIN = re.compile(r"(?:login|[Uu]sername): ?$")
_PASSWORD = re.compile(r"[Pp]assword: ?$")
_CLEAR_LINE_AND_ENTER = b"\x15\r"
_PATIENCE = 2.0
_MOST_BYTES = 256 * 1024


class Line(Protocol):
    """What a console is to this module."""

    def send(self, data: bytes) -> None:
        """Type `data`."""

    def receive(self, seconds: float) -> bytes | None:
        """The next output; None if there is none within `seconds`, b"" at the end of the line."""


def printable(data: bytes) -> str:
    """What a terminal would show of `data`, as plain lines: no escapes, no control characters."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return _CONTROL.sub("", _ESCAPE.sub("", text))


class _Listener:
    """Collects what the line says, within one limit of bytes and one of time."""

    def __init__(self, line: Line, deadline: float, clock: Callable[[], float]) -> None:
        self._line = line
        self._deadline = deadline
        self._clock = clock
        self._bytes = bytearray()

    @property
    def text(self) -> str:
        return printable(bytes(self._bytes))

    def listen(self, patience: float) -> bool:
        """Take in one more piece; False if none came within `patience`.

        Raises GuestSilentError at the deadline, at the end of the line, and when the guest prints without end.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise GuestSilentError("the guest's console gave no answer in time")
        data = self._line.receive(min(patience, left))
        if data is None:
            return False
        if not data:
            raise GuestSilentError("the guest's console was closed from the other side")
        self._bytes += data
        if len(self._bytes) > _MOST_BYTES:
            raise GuestSilentError("the guest's console prints without end")
        return True

    def forget(self) -> None:
        self._bytes.clear()


class Console:
    """A line with a shell at its end, as a channel into the guest."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def look(self, slot: Address, seconds: float) -> str:
        """See `channel.Channel`."""
        return run(self._line, look.command(slot), seconds=seconds)


def run(
    line: Line, command: str, *, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
) -> str:
    """Run `command` in the shell that waits at the line's end, and return what it printed.

    `command` is cede's own text, never a guest's. A half-typed line is cleared first, not entered. Raises
    GuestSilentError if no shell answers within `seconds`, or a login is asked for.
    """
    listener = _Listener(line, clock() + seconds, clock)
    _reach_prompt(line, listener)
    listener.forget()
    number = os.urandom(8).hex()
    # quoted inside, so that the echo of the command can't be taken for its answer
    begin, end = f"cede-'{number}'-begin", f"cede-'{number}'-end"
    line.send(f" echo {begin}; {command}; echo {end}\r".encode())
    answer = re.compile(
        rf"^cede-{number}-begin\n(?P<answer>.*?)^cede-{number}-end$", re.DOTALL | re.MULTILINE
    )
    while True:
        listener.listen(_PATIENCE)
        found = answer.search(listener.text)
        if found is not None:
            return found["answer"]


def _reach_prompt(line: Line, listener: _Listener) -> None:
    while True:
        line.send(_CLEAR_LINE_AND_ENTER)
        while listener.listen(_PATIENCE):
            last = listener.text.rsplit("\n", 1)[-1]
            if _PROMPT.search(last):
                return
            if _LOGIN.search(last) or _PASSWORD.search(last):
                raise GuestSilentError(
                    "the guest's console asks for a login",
                    remedy="log in there and leave the shell open, or set verify: {guest: none}",
                )
