"""A few keys that are kept for the next process, in a small file beside the journal, for its owner only."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cede.util.trusted_file import UntrustedFileError, read_trusted

if TYPE_CHECKING:
    from pathlib import Path

_KEY = re.compile(r"[0-9a-f]{64}")
_PRIVATE = 0o600


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
