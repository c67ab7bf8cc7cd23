"""Reading a tree that changes under the reader, and the way from a path in it to PCI functions.

Nothing here raises: what can't be read isn't there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cede.model.pci import Address, HostUse
from cede.util.kernel_files import matching, realpath

if TYPE_CHECKING:
    from collections.abc import Iterator

_FUNCTION = re.compile(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_ROOT_BUS = re.compile(r"^pci[0-9a-f]{4,8}:[0-9a-f]{2}$")

Use = tuple[Address, HostUse]


def children(path: Path, pattern: str) -> list[Path]:
    """What is below `path`, in the order of names."""
    return [path / name for name in matching(path, pattern)]


def real(path: Path) -> Path | None:
    """Where links lead to; None if nothing is there."""
    found = realpath(path)
    return None if found is None else Path(found)


def controllers(path: Path, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
    """The PCI functions that something at the resolved `path` stops without, each with its chain.

    That is the last one on the way, the physical function if that is a virtual one, and any that has a whole root bus
    behind itself (Intel's VMD, whose own segments lie beyond Xen's). Bridges are guarded as such.
    """
    needed = _needed(path)
    for number, function in enumerate(needed):
        try:
            address = Address.parse(function)
        except ValueError:
            continue
        yield address, HostUse(guard=guard, chain=(*needed[number:], *chain))


def _needed(path: Path) -> list[str]:
    """The functions from the root on, each needed by the next."""
    parts = path.parts
    places = [n for n, part in enumerate(parts) if _FUNCTION.match(part)]
    if not places:
        return []
    above = [parts[n] for n in places[:-1] if _ROOT_BUS.match(parts[n + 1])]
    last = Path(*parts[: places[-1] + 1])
    physical = real(last / "physfn")
    if physical is not None and _FUNCTION.match(physical.name):
        above.append(physical.name)
    return [*above, last.name]
