"""Who has a guest's pseudo terminal open, lock or no lock, by the kernel's word.

Always have it: xenconsoled or the device model at the other end, and libvirt's daemon, whose sessions hold the lock of
`virsh console`. Source: proc(5), /proc/pid/fd and /proc/pid/exe.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cede.util.kernel_files import link_name, listing, text
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_HOME = re.compile(r"(?:xenconsoled|libvirtd|virtxend|qemu-[a-z0-9_-]+)(?: \(deleted\))?")
_INIT = 1  # starts sessions and has none; a container's may be out of its root's sight
UNKNOWN = "it can't be told who: not all of /proc/*/fd is readable"


def terminal_holders(path: str, proc: str = "/proc") -> tuple[str, ...]:
    """Return the names and numbers of the other processes that have the terminal at `path` open.

    Where the kernel doesn't let cede see that of a process, `UNKNOWN` is among them.
    """
    try:
        terminal = Path(path).stat()
    except OSError:
        return ()  # which opening it tells
    found = (_holder(proc, name, path, terminal) for name in listing(proc) if number(name))
    return tuple(holder for holder in found if holder)


def _holder(proc: str, pid: str, path: str, terminal: os.stat_result) -> str:
    if int(pid) in {_INIT, os.getpid()}:
        return ""
    try:
        if not any(_same(f"{proc}/{pid}/fd/{name}", path, terminal) for name in _open(proc, pid)):
            return ""
    except PermissionError:
        return UNKNOWN
    program = link_name(f"{proc}/{pid}/exe") or ""
    if _AT_HOME.fullmatch(program):
        return ""
    return f"{text(f'{proc}/{pid}/comm') or program or 'a process'}, pid {pid}"


def _open(proc: str, pid: str) -> Iterator[str]:
    """Yield the descriptors of a process, none if it ends meanwhile. Raises PermissionError."""
    try:
        yield from (found.name for found in Path(proc, pid, "fd").iterdir())
    except PermissionError:
        raise
    except OSError:
        return


def _same(descriptor: str, path: str, terminal: os.stat_result) -> bool:
    """Whether the descriptor is that terminal, and not one of that name in another file system of terminals."""
    try:
        found = Path(descriptor)
        return str(found.readlink()) == path and os.path.samestat(found.stat(), terminal)
    except PermissionError:
        raise
    except OSError:
        return False
