"""Logins for a guest's console, and the secret files that hold their passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cede.errors import PermanentError
from cede.util.trusted_file import UntrustedFileError, open_trusted, read_trusted

_MAX_BYTES = 4096


def first_line_of_secret(path: str) -> str:
    """Read the first line of a secret file. Raises PermanentError if others can read it, or the line is none."""
    with _reported(path):
        content = read_trusted(path, _MAX_BYTES, secret=True)
    line = content.partition(b"\n")[0].removesuffix(b"\r")
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
    """Raise PermanentError, with the command that fixes it, unless only its owner can read or replace the file."""
    with _reported(path):
        os.close(open_trusted(path, secret=True))


@contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except UntrustedFileError as error:
        raise PermanentError(
            f"{path} {error.text}", name=error.name, remedy=error.remedy
        ) from error
    except IsADirectoryError as error:
        raise PermanentError(
            f"{path} is not a regular file", name="no-file", remedy="see the policy's `verify`"
        ) from error
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"{path} can't be read: {getattr(error, 'strerror', None) or error}",
            name="file-unreadable",
            remedy="see the policy's `verify`",
        ) from error


class Refusals(Protocol):
    """Which logins guests have refused, by their keys."""

    def __contains__(self, key: object, /) -> bool:
        """Whether the login of that key was refused."""

    def add(self, key: str, /) -> None:
        """Remember that it was."""


_refused: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and a password for one guest; the password is never shown.

    `changed` is when the password's file was last changed (`st_mtime_ns`); `refusals` are those that are remembered, by
    default for the life of this process.
    """

    guest: str
    user: str
    password: str = field(repr=False)
    changed: int = 0
    refusals: Refusals = field(default_factory=lambda: _refused, repr=False, compare=False)

    @property
    def refused(self) -> bool:
        """Whether the guest has refused this login, and its file has not been changed since."""
        return self._key in self.refusals

    def note_refusal(self) -> None:
        """Remember that the guest refused this login."""
        self.refusals.add(self._key)

    @property
    def _key(self) -> str:
        import hashlib  # and with it OpenSSL, for a guest's login alone

        words = f"{self.guest}\0{self.user}\0{self.changed}"
        return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()


def read_login(guest: str, user: str, password_file: str, refusals: Refusals) -> Login:
    """Read the login for `guest` (a domain's UUID). Raises PermanentError as `first_line_of_secret` does."""
    # before it is read: what is written meanwhile counts as changed
    changed = 0
    with suppress(OSError, ValueError):
        changed = Path(password_file).stat().st_mtime_ns
    password = first_line_of_secret(password_file)
    return Login(guest=guest, user=user, password=password, changed=changed, refusals=refusals)
