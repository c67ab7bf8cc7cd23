"""The logins that guests have refused, kept for the next process: a wrong password is tried once, not once a pass.

A small file beside the journal, for its owner only. It holds hashes of who asked whom, and when the password's file was
last changed; nothing in it tells a password.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

from cede.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_MOST = 1000
_MAX_BYTES = 65 * 2 * _MOST
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700


class RefusedLogins:
    """A set of keys in the file at `path`, made with the first of them; the last 1,000 are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: set[str] = set()

    def __contains__(self, key: object) -> bool:
        """Whether this login was refused. Raises PermanentError if the file is there and can't be read."""
        return key in self._own or key in self._read()

    def add(self, key: str) -> None:
        """Remember a login; where that can't be written, for this process alone."""
        self._own.add(key)
        try:
            kept = [known for known in self._read() if known != key][1 - _MOST :]
            self._write("".join(f"{known}\n" for known in (*kept, key)))
        except (OSError, PermanentError) as error:
            _LOG.warning("cede can't write down a refused login: %s", error)

    def _read(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                lines = file.read(_MAX_BYTES).decode("ascii", "replace").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PermanentError(
                f"{self._path} can't be read, so that it is unknown which passwords were refused: {error.strerror}",
                name="file-unreadable",
                remedy=f"run as root, or remove {self._path}: each password is then tried once more",
            ) from error
        return [line for line in lines if _KEY.fullmatch(line)]

    def _write(self, content: str) -> None:
        """Write it anew beside, and put that in its place: nobody reads half of it."""
        self._path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, _PRIVATE), "w", encoding="ascii") as file:
            file.write(content)
        beside.replace(self._path)
