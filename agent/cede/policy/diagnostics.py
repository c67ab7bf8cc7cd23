"""All mistakes in some files, collected so that the administrator can fix them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from cede.errors import CedeError, Diagnostic, PolicyError
from cede.model.policy import Place
from cede.util.text import is_plain

Path = tuple[str | int, ...]

# Nobody reads more, and the search for similar names takes time.
MAX_SHOWN = 20
_MAX_QUOTE = 60


def quoted(text: str) -> str:
    """Return `text` quoted, printable and at most 60 characters long."""
    short = text if len(text) <= _MAX_QUOTE else text[: _MAX_QUOTE - 3] + "..."
    return f"'{short}'" if is_plain(short) else ascii(short)


@dataclass(slots=True)
class Diagnostics:
    """Diagnostics about `files`, each with its place and the part of the file's tree (a path of keys)."""

    files: tuple[str, ...]
    _said: list[tuple[tuple[int, int, int], Diagnostic]] = field(default_factory=list)
    _touched: set[tuple[str, Path]] = field(default_factory=set)
    _remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self._said)

    def add(self, place: Place, name: str, text: str, path: Path = ()) -> None:
        """Add a diagnostic with its name and its text about the part at `path`, which is at `place`."""
        order = (self.files.index(place.file), place.line, place.column)
        self._said.append((order, Diagnostic(place=str(place), name=name, text=text)))
        self._touched.update((place.file, path[:length]) for length in range(len(path) + 1))

    def add_unreadable(self, file: str, name: str, text: str, remedy: str) -> None:
        """Add a diagnostic about a `file` that can't be read, with the remedy."""
        order = (self.files.index(file), 0, 0)
        self._said.append((order, Diagnostic(place=file, name=name, text=text)))
        self._touched.add((file, ()))
        self._remedy = self._remedy or remedy

    def touch(self, file: str, path: Path) -> bool:
        """Return whether there is a diagnostic at `path` of `file` or below."""
        return (file, path) in self._touched

    def suggest(self, name: str, known: Iterable[str]) -> str:
        """Return the known name that is similar to `name`, as the end of a sentence; empty if none is."""
        if len(self._said) >= MAX_SHOWN:
            return ""
        near = get_close_matches(name, sorted(known), n=1)
        return f"; did you mean {quoted(near[0])}?" if near else ""

    def error(self, kind: type[CedeError] = PolicyError, remedy: str = "") -> CedeError:
        """Return all diagnostics as one error, in the order of files, lines and columns."""
        ordered = tuple(said for _, said in sorted(self._said, key=lambda c: c[0]))
        lines = list(map(str, ordered[:MAX_SHOWN]))
        if len(ordered) > MAX_SHOWN:
            lines.append(f"{len(ordered) - MAX_SHOWN} more diagnostics after these")
        return kind("\n".join(lines), remedy=remedy or self._remedy, diagnostics=ordered)
