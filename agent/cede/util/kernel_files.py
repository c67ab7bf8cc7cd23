"""Read the small files of sysfs and procfs, in a tree that changes while it is read.

To most functions, what can't be read does not exist, and they raise nothing. What something irreversible depends on is
asked with those that begin with `existing`, which tell "there is none" from "can't be told". Paths are plain strings
and files are read unbuffered: a host has thousands of such files, and every command reads all of them.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from fnmatch import filter as fitting
from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK = 65536
_PAGE = 4096
_MAGIC = frozenset("*?[")
_DELETED = " (deleted)"
# it does not exist, or vanished while it was read; all else is a fault
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO}


def text(path: str | os.PathLike[str]) -> str:
    """Return a file's text without the final newline; empty if unreadable."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return ""


def existing_text(path: str | os.PathLike[str]) -> str:
    """Return a file's text without the final newline; empty if there is no such file. Raises OSError if unreadable."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise


def _read(path: str | os.PathLike[str]) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        said = chunk = os.read(descriptor, _CHUNK)
        # sysfs gives a file as a whole (fs/sysfs/file.c), less than a page; in procfs a short answer may be a part
        while chunk and not (len(chunk) < _PAGE and os.fspath(path).startswith("/sys/")):
            said += (chunk := os.read(descriptor, _CHUNK))
    finally:
        os.close(descriptor)
    return said.decode("utf-8", errors="replace").strip()


def listing(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a folder, sorted; empty if unreadable."""
    try:
        return sorted(os.listdir(path))
    except (OSError, ValueError):
        return []


def beginning(names: Sequence[str], start: str) -> Iterator[str]:
    """Yield those of the sorted `names` that begin so."""
    first = bisect_left(names, start)
    return takewhile(lambda name: name.startswith(start), islice(names, first, None))


def readlink(path: str | os.PathLike[str]) -> str:
    """Return the target of a link as written; empty if there is no such link."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return ""


def link_name(path: str | os.PathLike[str]) -> str | None:
    """Return the last part of a link's target; None if there is no such link."""
    return readlink(path).rpartition("/")[2] or None


def existing_link_name(path: str | os.PathLike[str]) -> str | None:
    """Return the last part of a link's target; None if there is no such link. Raises OSError if unreadable."""
    try:
        return os.readlink(path).rpartition("/")[2] or None
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def matching(path: str | os.PathLike[str], pattern: str) -> list[str]:
    """Return what a glob pattern matches below `path`, relative to it, sorted.

    As glob(7): a star doesn't match a leading dot, and a pattern that ends with a slash matches folders alone. Unlike
    the standard library's, this lists each folder once and asks nothing of what it has listed.
    """
    folder = os.fspath(path)
    *above, last = pattern.split("/")
    found = [""]
    for part in above:
        found = [f"{one}/" for one in _named(folder, found, part)]
    if not last:
        return sorted(one for one in found if os.path.isdir(f"{folder}/{one}"))
    named = _named(folder, found, last)
    return sorted(
        named if _MAGIC & set(last) else filter(lambda n: _exists(f"{folder}/{n}"), named)
    )


def _named(folder: str, found: list[str], part: str) -> list[str]:
    """What is called `part`, which may be a pattern, in each of the folders that were `found` below `folder`."""
    if not _MAGIC & set(part):
        return [f"{one}{part}" for one in found]
    return [
        f"{one}{name}"
        for one in found
        for name in fitting(listing(f"{folder}/{one}"), part)
        if name[0] != "." or part[0] == "."
    ]


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def realpath(path: str | os.PathLike[str]) -> str | None:
    """Resolve all links; None if the path does not exist.

    The kernel resolves the path at once, and tells where it has come to: os.path.realpath asks for each of its parts.
    """
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = os.readlink(f"/proc/self/fd/{opened}")
        finally:
            os.close(opened)
        return found if not found.endswith(_DELETED) else os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return None
