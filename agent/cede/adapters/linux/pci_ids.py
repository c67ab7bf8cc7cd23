"""The adapter to pci.ids, the list of names for PCI ids.

The list is 1.3 MB, and a host needs a few dozen lines; so only those are searched, and nothing else is split or
decoded. Source: https://pci-ids.ucw.cz and pci.ids' own header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cede.model.pci import Identity, Names
from cede.util.text import one_line

_MAX_BYTES = 16 * 1024 * 1024
_MAX_LENGTH = 80
# A line that is not indented begins another vendor or class.
_NEXT_BLOCK = re.compile(rb"\n[^\t\n#]")
_NEXT_SUBCLASS = re.compile(rb"\n\t[^\t]")


class PciIds:
    """The list in the first of `paths` that can be read; without one, nothing has a name."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._text = _content(paths)
        # the classes come last; without this mark the whole text is searched
        self._classes = max(0, self._text.rfind(b"\nC 00  "))
        self._vendors: dict[str, tuple[int, int]] = {}

    def names(self, identity: Identity) -> Names:
        """Return the names for an identity."""
        vendor = self._vendor(identity.vendor)
        device = self._block(*vendor, b"\n\t%s  " % identity.device.encode())
        of_class, of_kind = identity.class_code[:2].encode(), identity.class_code[2:4].encode()
        base = self._block(self._classes, len(self._text), b"\nC %s  " % of_class)
        kind = self._block(*base, b"\n\t%s  " % of_kind)
        return Names(
            kind=self._name(kind) or self._name(base),
            vendor=self._name(vendor),
            device=self._name(device),
        )

    def _vendor(self, vendor: str) -> tuple[int, int]:
        """Return the vendor's block, searched once: that is a walk through the whole text."""
        if vendor not in self._vendors:
            opening = b"\n%s  " % vendor.encode()
            self._vendors[vendor] = self._block(0, self._classes or len(self._text), opening)
        return self._vendors[vendor]

    def _block(self, start: int, end: int, opening: bytes) -> tuple[int, int]:
        """Return where the text behind `opening` begins, and where its block ends; (0, 0) if not found."""
        at = self._text.find(opening, start, end)
        if at < 0:
            return (0, 0)
        begins = at + len(opening)
        following = _NEXT_SUBCLASS if opening.startswith(b"\n\t") else _NEXT_BLOCK
        ends = following.search(self._text, begins, end)
        return (begins, ends.start() if ends else end)

    def _name(self, block: tuple[int, int]) -> str:
        line = self._text[block[0] : block[1]].partition(b"\n")[0][: 4 * _MAX_LENGTH]
        return one_line(line.decode("utf-8", "replace").strip(), _MAX_LENGTH)


def _content(paths: Iterable[Path]) -> bytes:
    for path in paths:
        try:
            with path.open("rb", buffering=0) as file:
                return b"\n" + (file.read(_MAX_BYTES) or b"")
        except OSError:
            continue
    return b""
