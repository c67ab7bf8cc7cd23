"""What is kept for the next process in small files of keys beside the journal, for their owner only."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cede import __version__
from cede.errors import PermanentError
from cede.util.trusted_file import UntrustedFileError, read_trusted

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_MOST_SHAPES, _MOST_LOGINS = 100, 1000


class KeyFile:
    """The keys in the file at `path`, each a SHA-256 in hexadecimal, of which the last `most` are kept."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most

    def read(self) -> list[str]:
        """Return the keys, the oldest first; none without a file. Raises OSError if it can't be read, or trusted."""
        try:
            content = read_trusted(self._path, 65 * 2 * self._most)
        except FileNotFoundError:
            return []
        except UntrustedFileError as error:
            raise PermissionError(None, error.text) from error
        lines = content.decode("ascii", "replace").split("\n")
        return [line for line in lines if _KEY.fullmatch(line)]

    def add(self, key: str) -> None:
        """Write the file anew beside, and put that in its place: nobody reads half of it. Raises OSError."""
        kept = [known for known in self.read() if known != key][1 - self._most :]
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, _PRIVATE), "w", encoding="ascii") as file:
            file.write("".join(f"{known}\n" for known in (*kept, key)))
        beside.replace(self._path)


class RefusedLogins:
    """The logins that guests have refused, so that a wrong password is tried once, not once a pass.

    The file at `path`, made with the first of them, holds hashes of who asked whom, and when the password's file was
    last changed; nothing in it tells a password. The last 1,000 are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = KeyFile(path, _MOST_LOGINS)
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


class KnownShapes:
    """The policy's texts whose shape was found right, so that the next process needs no JSON Schema for them.

    jsonschema is most of what a command imports. What is kept is the digest of a text with all that judged it: cede's
    version and the schema. A file at `path` that can't be read or written only means to judge a text again.
    """

    def __init__(self, path: Path) -> None:
        self._file = KeyFile(path, _MOST_SHAPES)

    def __contains__(self, text: tuple[bytes, bytes]) -> bool:
        """Whether this text of a policy has the shape that this schema describes."""
        with suppress(OSError):
            return _digest(*text) in self._file.read()
        return False

    def add(self, text: tuple[bytes, bytes]) -> None:
        """Remember it, where there is a folder for it."""
        with suppress(OSError):
            self._file.add(_digest(*text))


def _digest(text: bytes, schema: bytes) -> str:
    from hashlib import sha256

    judged = sha256(f"{__version__}\0{len(schema)}\0".encode())
    judged.update(schema)
    judged.update(text)
    return judged.hexdigest()
