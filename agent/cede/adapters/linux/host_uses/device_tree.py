"""From a path in sysfs to its PCI functions, in a tree that changes while it is read.

Nothing here raises: what can't be read does not exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.linux.sysfs_paths import functions, having_a_root_bus, is_function
from cede.model.pci import Address, HostUse
from cede.util.kernel_files import link_name, matching, realpath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    behind it (Intel's VMD). Bridges have their own guard.
    """
    needed = _needed(str(path))
    for number, function in enumerate(needed):
        yield Address.parse(function), HostUse(guard=guard, chain=(*needed[number:], *chain))


def used_for(found: Iterable[Use], guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
    """Yield what was found below something, of which `chain` tells what it is used for."""
    for address, use in found:
        yield address, HostUse(guard=guard, chain=(*use.chain, *chain))


def _needed(path: str) -> list[str]:
    """Return the functions from the root on, each needed by the next."""
    last = functions(path)[-1:]
    if not last:
        return []
    above = having_a_root_bus(path)
    physical = link_name(f"{path[: path.rindex(last[0])]}{last[0]}/physfn")
    if physical is not None and is_function(physical):
        above.append(physical)
    return [*(name for name in above if name not in last), *last]
