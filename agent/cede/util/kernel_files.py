"""Read the small files of sysfs and procfs, in a tree that changes while it is read.

To most functions, what can't be read does not exist, and they raise nothing. What something irreversible depends on is
asked with those that begin with `existing`, which tell "there is none" from "can't be told". Paths are plain strings
and files are read unbuffered: a host has thousands of such files, and every command reads all of them.
"""

from __future__ import annotations

import errno
import glob
import os

_CHUNK = 65536
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
        said = b""
        while chunk := os.read(descriptor, _CHUNK):
            said += chunk
    finally:
        os.close(descriptor)
    return said.decode("utf-8", errors="replace").strip()


def listing(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a folder, sorted; empty if unreadable."""
    try:
        return sorted(os.listdir(path))
    except (OSError, ValueError):
        return []


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
    """Return what a glob pattern matches below `path`, relative to it, sorted."""
    try:
        return sorted(glob.glob(pattern, root_dir=path))
    except (OSError, ValueError):
        return []


def realpath(path: str | os.PathLike[str]) -> str | None:
    """Resolve all links; None if the path does not exist."""
    try:
        return os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return None
