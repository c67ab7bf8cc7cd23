"""The policy's texts whose shape was found right, kept for the next process, which then needs no JSON Schema for them.

jsonschema is most of what a command imports. What is kept is the digest of a text with all that judged it: cede's
version and the schema.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cede import __version__
from cede.state.key_file import KeyFile

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 100


class KnownShapes:
    """The digests in the file at `path`; a file that can't be read or written only means to judge a text again."""

    def __init__(self, path: Path) -> None:
        self._file = KeyFile(path, _MOST)

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
