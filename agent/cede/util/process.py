"""Run a program: a list of arguments, never a shell; limited in output and in time.

A program whose system call hangs in the kernel can't be killed; cede abandons such a process.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING

from cede.errors import HungError, PermanentError
from cede.util.log import argument_text, logged_call

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 60.0
_MAX_BYTES = 4 * 1024 * 1024
_AT_ONCE = 64 * 1024
_LAST_WORDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedProcess:
    """The exit status and the output of a program."""

    status: int
    out: bytes
    err: bytes


def run(
    *argv: str, stdin: str | None = None, seconds: float = SECONDS, most: int = _MAX_BYTES
) -> str:
    """Run a program and return what it printed, errors included; what goes beyond `most` bytes is dropped.

    `stdin` is a few words, which a pipe takes at once. Raises PermanentError if the program isn't there or fails,
    HungError if it takes longer than `seconds`.
    """
    with logged_call(lambda: _shown(argv, stdin)):
        ended = _ended(argv, stdin, seconds, most, apart=False)
    said = ended.out.decode("utf-8", "replace")
    if ended.status != 0:
        raise PermanentError(
            f"{' '.join(argv)} failed ({ended.status}): {said.strip() or 'no output'}",
            name="command-failed",
        )
    return said


def run_apart(
    *argv: str, stdin: str, seconds: float, most: int, environ: Mapping[str, str] | None = None
) -> CompletedProcess:
    """Run a program that may fail, with stdout and stderr apart; output beyond `most` bytes of each is dropped.

    `environ` is its environment, by default that of this process. Raises as `run` does, but not if the program fails.
    """
    with logged_call(lambda: _shown(argv, "")):
        return _ended(argv, stdin, seconds, most, apart=True, environ=environ)


def _shown(argv: tuple[str, ...], stdin: str | None) -> str:
    """The command line as a log may have it."""
    command = " ".join(argument_text(word) for word in argv)
    return f"{command} <<< {argument_text(stdin)}" if stdin else command


def _ended(
    argv: tuple[str, ...],
    stdin: str | None,
    seconds: float,
    most: int,
    *,
    apart: bool,
    environ: Mapping[str, str] | None = None,
) -> CompletedProcess:
    until = time.monotonic() + seconds
    with ExitStack() as pipes:
        reading_ends: list[int] = []
        writing_ends: list[int] = []
        for _ in range(2 if apart else 1):
            reading, writing = os.pipe()
            pipes.callback(os.close, reading)
            reading_ends.append(reading)
            writing_ends.append(writing)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=writing_ends[0],
                stderr=writing_ends[1] if apart else subprocess.STDOUT,
                env=environ,
            )
        except OSError as error:
            raise PermanentError(
                f"cede can't run {argv[0]}: {error}", name="command-missing"
            ) from error
        finally:
            for writing in writing_ends:
                os.close(writing)
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write((stdin or "").encode())
        try:
            said = _heard(reading_ends, until, most)
            process.wait(_left(until))
        except (TimeoutError, subprocess.TimeoutExpired):
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS)
            raise HungError(
                f"{' '.join(argv)} has hung for {seconds:.0f} s",
                remedy="see the end of dom0's kernel log (dmesg)",
            ) from None
    return CompletedProcess(status=process.returncode, out=said[0], err=said[1] if apart else b"")


def _heard(pipes: list[int], until: float, most: int) -> list[bytes]:
    """Read each pipe to its end, keeping `most` bytes. Raises TimeoutError at `until`."""
    kept = {pipe: bytearray() for pipe in pipes}
    with DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, EVENT_READ)
        while (left := _left(until)) and (ready := selector.select(left)):
            for key, _ in ready:
                said = os.read(key.fd, _AT_ONCE)
                kept[key.fd] += said[: most - len(kept[key.fd])]
                if not said:
                    selector.unregister(key.fd)
            if not selector.get_map():
                return [bytes(kept[pipe]) for pipe in pipes]
    raise TimeoutError


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())
