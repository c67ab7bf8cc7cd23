"""Reading the small files that a kernel makes, in a tree that changes under the reader.

Nothing here raises: what can't be read isn't there. Paths are plain strings, and files are read without a buffer in
between: a host has thousands of such files, and every command looks at all of them.
"""

from __future__ import annotations

import glob
import os

_CHUNK = 65536


def text(path: str | os.PathLike[str]) -> str:
    """A file's text without the line end; empty if it can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        said = b""
        while chunk := os.read(descriptor, _CHUNK):
            said += chunk
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return said.decode("utf-8", errors="replace").strip()


def listing(path: str | os.PathLike[str]) -> list[str]:
    """What a folder holds, in order; empty if it can't be read."""
    try:
        return sorted(os.listdir(path))
    except (OSError, ValueError):
        return []


def readlink(path: str | os.PathLike[str]) -> str:
    """What a link names, as it stands there; empty if there is no such link."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return ""


def link_name(path: str | os.PathLike[str]) -> str | None:
    """The last part of what a link names; None if there is no such link."""
    return readlink(path).rpartition("/")[2] or None


def matching(path: str | os.PathLike[str], pattern: str) -> list[str]:
    """What a pattern with several parts fits below `path`, relative to it, in order."""
    try:
        return sorted(glob.glob(pattern, root_dir=path))
    except (OSError, ValueError):
        return []


def realpath(path: str | os.PathLike[str]) -> str | None:
    """Where links lead to; None if nothing is there."""
    try:
        return os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return None
