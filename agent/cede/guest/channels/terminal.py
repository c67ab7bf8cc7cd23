"""A guest's shell output: plain lines, the text left of the cursor, and the frame around an answer.

Enough of ECMA-48 to read prompts: shells redraw their line, put a second prompt at its right end and go back.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

# ECMA-48: control sequences, control strings up to their end, and escapes with or without intermediate characters
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\-~])"
)

_CONTROL = re.compile(r"[^\n\t -~]")

_TOKEN = re.compile(
    r"\x1b\[(?P<count>[0-9]{0,4})(?P<final>[CDGK])|(?P<other>" + _ESCAPE.pattern + r")|(?P<one>.)",
    re.DOTALL,
)


# a cursor position, the alternate screen, a scrolling region
_FULL_SCREEN = re.compile(r"\x1b\[[0-9]*;[0-9]*[Hf]|\x1b\[\?(?:1049|1047|47)h|\x1b\[[0-9]+;[0-9]+r")
_WIDEST = 4096


# as printk writes it (kernel/printk/printk.c, print_prefix): "[   12.345678] e1000e 0000:00:00.0 eth0: NIC Link is Up"
_KERNEL_MESSAGE = re.compile(rb"\[ {0,8}[0-9]{1,8}\.[0-9]{1,6}\] [^\n]*\n")


def printable(data: bytes) -> str:
    """Return what a terminal would show of `data`, as plain lines: no escapes, no control characters."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def without_kernel_messages(data: bytes | bytearray) -> bytes:
    """Return `data` as if the guest's kernel had printed none of its whole lines into it."""
    return _KERNEL_MESSAGE.sub(b"", data)


def full_screen(data: bytes) -> bool:
    """Return whether `data` paints a full screen, as an editor or a pager does."""
    return _FULL_SCREEN.search(data[-_WIDEST:].decode("ascii", "replace")) is not None


def before_cursor(data: bytes) -> str:
    """Return the text left of the cursor in the last line of `data`, at most 4096 bytes."""
    last = data[-_WIDEST:].rpartition(b"\n")[2].decode("utf-8", "replace")
    return _drawn(last) if _CONTROL.search(last) else last


def _drawn(last: str) -> str:
    """Draw a line as a terminal does, up to its cursor."""
    shown: list[str] = []
    at = 0
    for token in _TOKEN.finditer(last):
        count = int(token["count"] or 0)
        match token["final"] or token["one"] or "":
            case "C" if token["final"]:
                at = min(_WIDEST, at + max(1, count))
            case "D" if token["final"]:
                at = max(0, at - max(1, count))
            case "G" if token["final"]:
                at = min(_WIDEST, max(0, count - 1))
            case "K" if token["final"]:
                if not count:
                    del shown[at:]
            case "\r":
                at = 0
            case "\b":
                at = max(0, at - 1)
            case one if one and _CONTROL.sub("", one):
                shown += " " * (at - len(shown))
                shown[at : at + 1] = one
                at += 1
    return "".join(shown[:at]).ljust(at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The marks of one question."""

    number: str = field(default_factory=lambda: os.urandom(8).hex())

    def quoted_mark(self, name: str) -> str:
        """Return a mark as the shell gets it: quoted inside, so that its echo is not taken for the mark."""
        return f"cede-'{self.number}'-{name}"

    def around(self, command: str) -> str:
        """Return the line for the shell: the command between its marks."""
        return f"echo {self.quoted_mark('begin')}; {command}; echo {self.quoted_mark('end')}"

    def answer(self, said: bytes) -> str | None:
        """Return the plain lines between the marks; None if `said` does not have both."""
        begin, end = f"cede-{self.number}-begin\n", f"cede-{self.number}-end\n"
        if end[:-1].encode() not in said:
            return None
        lines = printable(said).splitlines(keepends=True)
        if begin not in lines:
            return None
        first = lines.index(begin) + 1
        return "".join(lines[first : lines.index(end, first)]) if end in lines[first:] else None
