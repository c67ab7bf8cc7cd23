"""Read files that say what root is to do: no other user may have written them, or may put others in their place.

Each folder on the way and each link is examined as the path is walked, and the file is opened relative to the last
folder, so that what was examined is what is read (openat(2), as sshd examines authorized_keys: misc.c, safe_path).
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

_MAX_LINKS = 40  # as the kernel follows (path_resolution(7))
_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# a FIFO would block, a terminal become this process's own
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


class UntrustedFileError(Exception):
    """The file is not read: `name` is the rule, `text` what is wrong, `remedy` the command that fixes it."""

    def __init__(self, name: str, text: str, remedy: str) -> None:
        super().__init__(text)
        self.name = name
        self.text = text
        self.remedy = remedy


def read_trusted(path: str | os.PathLike[str], limit: int, *, secret: bool = False) -> bytes:
    """Read at most `limit` bytes of a regular file that is root's or this user's, and that nobody else can write.

    A `secret` may not be readable by others either, nor have a link in its path. Raises UntrustedFileError, or OSError
    and ValueError as `open` does.
    """
    descriptor = open_trusted(path, secret=secret)
    try:
        content = b""
        while len(content) < limit and (chunk := os.read(descriptor, limit - len(content))):
            content += chunk
        return content
    finally:
        os.close(descriptor)


def open_trusted(path: str | os.PathLike[str], *, secret: bool = False) -> int:
    """Open a file for `read_trusted`; whoever asks closes it."""
    walk = _Walk(links=not secret)
    try:
        name = walk.go(path)
        _check_regular(walk.stat(name), walk.at(name), secret=secret)
        descriptor = os.open(name, _FILE, dir_fd=walk.folder)
    finally:
        walk.close()
    try:
        _check_regular(os.fstat(descriptor), os.fspath(path), secret=secret)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise UntrustedFileError if another user can put files into the folder, or another folder in its place."""
    walk = _Walk(links=True)
    try:
        walk.enter(walk.go(path))
    finally:
        walk.close()


class _Walk:
    """The way to a file, folder by folder; `folder` is the open one that it has come to."""

    def __init__(self, *, links: bool) -> None:
        self._links = links
        self._path = Path("/")
        self._link_count = 0
        self.folder = os.open("/", _FOLDER)

    def close(self) -> None:
        os.close(self.folder)

    def at(self, name: str) -> str:
        return str(self._path / name)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.folder, follow_symlinks=False)

    def go(self, path: str | os.PathLike[str]) -> str:
        """Go to the folder of the last part of `path`; return the name that this part has there."""
        self._check()
        left = deque(_parts(Path.cwd() / path))
        while left:
            part = left.popleft()
            found = self.stat(part)
            if stat.S_ISLNK(found.st_mode):
                left.extendleft(reversed(self._target(part, found)))
            elif not left:
                return part
            else:
                self.enter(part)
        return "."

    def _target(self, part: str, found: os.stat_result) -> list[str]:
        """The parts of a link's target."""
        path = self.at(part)
        if not self._links:
            raise UntrustedFileError(
                "link-in-path",
                f"has the symbolic link {path} in its path",
                f"name the file itself: `realpath {path}`",
            )
        self._link_count += 1
        if self._link_count > _MAX_LINKS:
            raise UntrustedFileError(
                "link-in-path", f"leads through more than {_MAX_LINKS} links", "remove the links"
            )
        _check_owner(found, "link", path, f"chown -h root: {path}")
        target = os.readlink(part, dir_fd=self.folder)
        if target.startswith("/"):
            self._replace(os.open("/", _FOLDER), Path("/"))
        return _parts(Path(target))

    def enter(self, part: str) -> None:
        """Go into a folder."""
        path = self._path.parent if part == ".." else self._path / part
        self._replace(os.open(part, _FOLDER, dir_fd=self.folder), path)
        self._check()

    def _replace(self, folder: int, path: Path) -> None:
        os.close(self.folder)
        self.folder, self._path = folder, path

    def _check(self) -> None:
        found = os.fstat(self.folder)
        _check_owner(found, "folder", str(self._path), f"chown root: {self._path}")
        # in a sticky folder only its owner can replace a file
        if found.st_mode & _WRITE and not found.st_mode & stat.S_ISVTX:
            raise UntrustedFileError(
                "folder-open-to-others",
                f"is in {self._path}, where others can write (mode {stat.S_IMODE(found.st_mode):04o})",
                f"chmod go-w {self._path}",
            )


def _parts(path: Path) -> list[str]:
    return [part for part in path.parts if part != "/"]


def _check_owner(found: os.stat_result, what: str, path: str, remedy: str) -> None:
    if found.st_uid not in {0, os.geteuid()}:
        raise UntrustedFileError(
            f"foreign-{what}", f"is at {path}, a {what} that belongs to another user", remedy
        )


def _check_regular(found: os.stat_result, path: str, *, secret: bool) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedFileError("no-file", "is not a regular file", "name a regular file")
    mode = stat.S_IMODE(found.st_mode)
    wanted = "600" if secret else "go-w"
    if found.st_uid not in {0, os.geteuid()}:
        raise UntrustedFileError(
            "foreign-file",
            "belongs to another user",
            f"chown root: {path} && chmod {wanted} {path}",
        )
    if found.st_mode & (_OTHERS if secret else _WRITE):
        what = "read or written" if secret else "written"
        raise UntrustedFileError(
            "file-open-to-others",
            f"can be {what} by others (mode {mode:04o})",
            f"chmod {wanted} {path}",
        )
