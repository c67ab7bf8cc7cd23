"""Running a program: a list of arguments, never a shell; bounded in output and in time.

A program whose system call hangs in the kernel can't even be killed; it is left behind, not waited for.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector

from cede.errors import HungError, PermanentError

SECONDS = 60.0
_MOST = 4 * 1024 * 1024
_AT_ONCE = 64 * 1024
_LAST_WORDS = 1.0


def run(*argv: str, stdin: str | None = None, seconds: float = SECONDS) -> str:
    """Run a program and return what it printed, errors included; what goes beyond 4 MiB is dropped.

    `stdin` is a few words, which a pipe takes at once. Raises PermanentError if the program isn't there or fails,
    HungError if it takes longer than `seconds`.
    """
    until = time.monotonic() + seconds
    ours, theirs = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=theirs,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise PermanentError(f"{argv[0]} is not installed, or can't be run: {error}") from error
        finally:
            os.close(theirs)
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write((stdin or "").encode())
        try:
            said = _heard(ours, until).decode("utf-8", "replace")
            process.wait(_left(until))
        except (TimeoutError, subprocess.TimeoutExpired):
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS)
            raise HungError(
                f"{' '.join(argv)} has hung for {seconds:.0f} s",
                remedy="see the end of dom0's kernel log (dmesg)",
            ) from None
    finally:
        os.close(ours)
    if process.returncode != 0:
        raise PermanentError(
            f"{' '.join(argv)} failed ({process.returncode}): {said.strip() or 'without a word'}"
        )
    return said


def _heard(pipe: int, until: float) -> bytes:
    """All that comes before the pipe's end, as far as it is kept; TimeoutError if that isn't there in time."""
    kept = bytearray()
    with DefaultSelector() as selector:
        selector.register(pipe, EVENT_READ)
        while (left := _left(until)) and selector.select(left):
            said = os.read(pipe, _AT_ONCE)
            if not said:
                return bytes(kept)
            kept += said[: _MOST - len(kept)]
    raise TimeoutError


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())
