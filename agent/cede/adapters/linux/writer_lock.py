"""One writer: a lock that ends with its process, and names its holder.

Source: flock(2); the kernel drops the lock when the last descriptor closes, however the process ended.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cede.errors import LockedError, PermanentError
from cede.util.clock import Clock
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MODE = 0o600
_POLL = 0.2


@contextmanager
def one_writer(
    holder_text: str,
    *,
    path: Path,
    seconds: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Iterator[None]:
    """Hold the lock at `path`; `holder_text` is what another one is told meanwhile.

    Waits at most `seconds`, after telling `waiting` whom for. Raises LockedError, naming the holder, if it isn't
    free by then, PermanentError if the file can't be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except OSError as error:
        raise PermanentError(
            f"cede can't open the lock {path}: {error.strerror}",
            name="lock-unusable",
            remedy="run as root",
        ) from error
    try:
        _take(descriptor, path, seconds, waiting, clock or Clock())
        with suppress(OSError):  # the lock also holds without its holder's name
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, holder_text.encode("utf-8", "backslashreplace"), 0)
        yield
    finally:
        os.close(descriptor)


def _take(
    descriptor: int,
    path: Path,
    seconds: float,
    waiting: Callable[[str], None],
    clock: Clock,
) -> None:
    def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    if taken():
        return
    if seconds > 0:
        waiting(_busy(descriptor, path).message)
        if wait_until(taken, seconds, clock, pause=_POLL):
            return
    raise _busy(descriptor, path)


def _busy(descriptor: int, path: Path) -> LockedError:
    holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another cede"
    return LockedError(
        holder,
        remedy=f"try again after that cede has ended, or wait longer with --wait (`fuser {path}`)",
    )
