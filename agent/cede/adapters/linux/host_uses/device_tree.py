"""From a path in sysfs to its PCI functions, in a tree that changes while it is read.

Nothing here raises: what can't be read does not exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cede.model.pci import Address, HostUse
from cede.util.kernel_files import link_name, matching, realpath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FUNCTION = re.compile(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_ROOT_BUS = re.compile(r"^pci[0-9a-f]{4,8}:[0-9a-f]{2}$")

Use = tuple[Address, HostUse]


def children(path: Path, pattern: str) -> list[Path]:
    """Return what `pattern` matches below `path`, sorted."""
    return [path / name for name in matching(path, pattern)]


def real(path: str | Path) -> Path | None:
    """Resolve all links; None if the path does not exist."""
    found = realpath(path)
    return None if found is None else Path(found)


def controllers(path: Path, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
    """Yield the PCI functions that the resolved `path` needs, each with its chain.

    These are the last function on the path, the physical function of a virtual one, and any that has a whole root bus
    behind it (Intel's VMD, whose segments lie beyond Xen's). Bridges have their own guard.
    """
    needed = _needed(path)
    for number, function in enumerate(needed):
        try:
            address = Address.parse(function)
        except ValueError:
            continue
        yield address, HostUse(guard=guard, chain=(*needed[number:], *chain))


def used_for(found: Iterable[Use], guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
    """Yield what was found below something, of which `chain` tells what it is used for."""
    for address, use in found:
        yield address, HostUse(guard=guard, chain=(*use.chain, *chain))


def _needed(path: Path) -> list[str]:
    """Return the functions from the root on, each needed by the next."""
    parts = path.parts
    places = [n for n, part in enumerate(parts) if _FUNCTION.match(part)]
    if not places:
        return []
    above = [parts[n] for n in places[:-1] if _ROOT_BUS.match(parts[n + 1])]
    last = "/".join(("", *parts[1 : places[-1] + 1]))
    physical = link_name(f"{last}/physfn")
    if physical is not None and _FUNCTION.match(physical):
        above.append(physical)
    return [*above, parts[places[-1]]]
