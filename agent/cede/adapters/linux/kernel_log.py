"""The adapter to dom0's kernel log: what the kernel said of a device, and when.

Only the kernel log has a driver's refusal, pciback's "assign to virtual slot" and bus errors.
Source: Documentation/ABI/testing/dev-kmsg (Linux).
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from cede.model.log_lines import KernelLine
from cede.util.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

_RECORD = re.compile(rb"^[0-9]{1,10},[0-9]{1,20},(?P<microseconds>[0-9]{1,18}),[^;]*;(?P<text>.*)$")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_MAX_RECORD = 8192  # CONSOLE_EXT_LOG_MAX; a shorter read is refused
_MAX_RECORDS, _MAX_LOG = 262144, 1 << 26  # a log that is written as fast as it is read has no end
_MICROSECONDS = 1_000_000


class KernelLog:
    """Reads the kernel's ring buffer from its oldest line on, and never waits for a new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self, about: str = "") -> tuple[KernelLine, ...] | None:
        """Return every line in the ring buffer that contains `about`, the oldest first.

        None if the log can't be read up to its newest line, for example without root; so too if it has no line at all,
        which no kernel's has that has booted.
        """
        found = self._records()
        if not found:
            return None
        wanted = about.encode()
        lines = b"".join(found).split(b"\n")
        records = (_RECORD.match(line) for line in lines if wanted in line)
        return tuple(
            KernelLine(
                seconds_since_boot=int(match["microseconds"]) / _MICROSECONDS,
                text=_text(match["text"]),
            )
            for match in records
            if match is not None
        )

    def _records(self) -> list[bytes]:
        """Every record; none if one of them can't be read, or no end is found."""
        try:
            log = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        found: list[bytes] = []
        size = 0
        try:
            for _ in range(_MAX_RECORDS):
                try:
                    record = os.read(log, _MAX_RECORD)
                except BrokenPipeError:
                    continue  # overwritten before it was read; the next record is the oldest now
                if not record:
                    return found
                found.append(record)
                size += len(record)
                if size > _MAX_LOG:
                    break
        except OSError as error:
            return found if error.errno == errno.EAGAIN else []  # that was the newest
        finally:
            os.close(log)
        return []


def _text(raw: bytes) -> str:
    """Return the message without escapes and control characters."""
    text = raw.decode("utf-8", "replace")
    if "\\x" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return one_line(text, _MAX_RECORD)
