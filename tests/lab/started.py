"""A program of this machine that runs beside a test and ends with it."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from xenlab.command import search_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_TIMEOUT = 10


def surroundings(folder: Path) -> dict[str, str]:
    """An environment in which a program finds and leaves nothing but in `folder`."""
    return {
        "GDK_BACKEND": "x11",
        "GSETTINGS_BACKEND": "memory",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PATH": search_path(),
        "XDG_RUNTIME_DIR": str(folder),
    }


@contextmanager
def started(
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """`argv`, running; what it says goes to `log`, its stdout only if that isn't asked for.

    It is ended by its process id, and killed if it has not ended after 10 s; if the test dies it gets SIGTERM.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *argv],
            stdin=stdin,
            stdout=said if stdout is None else stdout,
            stderr=said,
            env=env,
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
