"""The logins that guests have refused, kept for the next process: a wrong password is tried once, not once a pass.

A small file beside the journal, for its owner only. It holds hashes of who asked whom, and when the password's file was
last changed; nothing in it tells a password.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cede.errors import PermanentError
from cede.state.key_file import KeyFile

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_MOST = 1000
_PRIVATE_FOLDER = 0o700


class RefusedLogins:
    """A set of keys in the file at `path`, made with the first of them; the last 1,000 are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = KeyFile(path, _MOST)
        self._own: set[str] = set()

    def __contains__(self, key: object) -> bool:
        """Whether this login was refused. Raises PermanentError if the file is there and can't be read."""
        return key in self._own or key in self._read()

    def add(self, key: str) -> None:
        """Remember a login; where that can't be written, for this process alone."""
        self._own.add(key)
        try:
            self._path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._file.add(key)
        except OSError as error:
            _LOG.warning("cede can't write down a refused login: %s", error)

    def _read(self) -> list[str]:
        try:
            return self._file.read()
        except OSError as error:
            raise PermanentError(
                f"{self._path} can't be read, so that it is unknown which passwords were refused: {error.strerror}",
                name="file-unreadable",
                remedy=f"run as root, or remove {self._path}: each password is then tried once more",
            ) from error
