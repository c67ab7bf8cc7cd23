"""Logins for a guest's console, and the secret files that hold their passwords."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from cede.errors import PermanentError

_MAX_BYTES = 4096


_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def first_line_of_secret(path: str) -> str:
    """Read the first line of a secret file. Raises PermanentError if others can read it, or the line is none."""
    with os.fdopen(_opened(path), "rb") as stream:
        line = stream.read(_MAX_BYTES).partition(b"\n")[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text or len(line) == _MAX_BYTES:
        raise PermanentError(
            f"the first line of {path} is no password: plain text without control characters",
            name="no-password",
        )
    return text


def check_secret(path: str) -> None:
    """Raise PermanentError, with the command that fixes the mode, unless only its owner can read the file."""
    os.close(_opened(path))


def _opened(path: str) -> int:
    """Open the file and check the descriptor, so that what was checked is what is read."""
    try:
        # opening a FIFO would block
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise PermanentError(
            f"{path} can't be read: {error.strerror}",
            name="file-unreadable",
            remedy="see the policy's `verify`",
        ) from error
    found = os.fstat(descriptor)
    wrong = _wrong_with(found)
    if wrong is not None:
        os.close(descriptor)
        name, what, remedy = wrong
        raise PermanentError(f"{path} {what}", name=name, remedy=remedy.format(path))
    return descriptor


def _wrong_with(found: os.stat_result) -> tuple[str, str, str] | None:
    """The name of what is wrong, what it is, and the remedy."""
    if not stat.S_ISREG(found.st_mode):
        return "no-file", "is not a regular file", "see the policy's `verify`"
    if found.st_uid not in {0, os.geteuid()}:
        return "foreign-file", "belongs to another user", "chown root: {0} && chmod 600 {0}"
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        return (
            "file-open-to-others",
            f"can be read or written by others (mode {mode:04o})",
            "chmod 600 {0}",
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and a password for one guest; the password is never shown."""

    guest: str
    user: str
    password: str = field(repr=False)

    @property
    def refused(self) -> bool:
        """Whether the guest has refused this login to this process."""
        return self in _refused

    def note_refusal(self) -> None:
        """Remember that the guest refused this login."""
        _refused.add(self)


_refused: set[Login] = set()


def read_login(guest: str, user: str, password_file: str) -> Login:
    """Read the login for `guest` (a domain's UUID). Raises PermanentError as `first_line_of_secret` does."""
    return Login(guest=guest, user=user, password=first_line_of_secret(password_file))
