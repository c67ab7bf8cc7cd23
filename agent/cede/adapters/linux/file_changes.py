"""The adapter to changes of files: inotify reports events in their folders, a fingerprint says whether they changed.

Three calls into libc, without a library. A file that does not exist yet is watched for in the nearest existing folder.
Source: inotify(7).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cede.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_ONLYDIR = 0x01000000
_MASK = (
    _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF
    | _MOVE_SELF | _ONLYDIR
)  # fmt: skip
_AT_ONCE = 65536


class FileChanges:
    """Watches the folders of `paths`; `fingerprint()` stays the same as long as nothing changed."""

    name = "policy"

    def __init__(self, paths: Sequence[Path], fingerprint: Callable[[], object]) -> None:
        self._paths = paths
        self._fingerprint = fingerprint
        self._inotify = -1
        self._watched: set[str] = set()
        self._known: object = None

    def open(self) -> None:
        """Start watching. Raises UnreachableError if the kernel has no watch left."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._inotify < 0:
            raise UnreachableError(
                f"the kernel can't watch files: {os.strerror(ctypes.get_errno())}",
                name="watch-failed",
                remedy="raise fs.inotify.max_user_instances with sysctl",
            )
        self._watched = set()
        self._watch(libc)
        self._known = self._fingerprint()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something happened in one of the folders."""
        return self._inotify

    def read(self) -> Collection[str]:
        """Return one event if the files changed since the last read, else none."""
        with suppress(BlockingIOError):
            while len(os.read(self._inotify, _AT_ONCE)) == _AT_ONCE:
                pass
        self._watched = set()  # a folder that was deleted and made again is another one
        self._watch(ctypes.CDLL(None, use_errno=True))
        found = self._fingerprint()
        changed, self._known = found != self._known, found
        return ("the files changed",) if changed else ()

    def close(self) -> None:
        """Stop watching."""
        opened, self._inotify = self._inotify, -1
        if opened >= 0:
            os.close(opened)

    def _watch(self, libc: ctypes.CDLL) -> None:
        """Watch each folder; adding a watched one again changes nothing."""
        for folder in self._folders():
            if folder not in self._watched:
                self._watched.add(folder)
                libc.inotify_add_watch(self._inotify, os.fsencode(folder), _MASK)

    def _folders(self) -> Iterator[str]:
        for path in self._paths:
            inside = path.absolute()
            if inside.is_dir():
                yield str(inside)
            above = inside.parent
            while not above.is_dir() and above != above.parent:
                above = above.parent
            yield str(above)
