"""The adapter to libxl's logs: libvirt only says that libxl failed, and the reason is in log files.

Sources: libvirt, src/libxl/libxl_logger.c: one file for each domain, and one for every line that names none, all
without a level. Xen, tools/libs/light/libxl_pci.c: what is logged before a failure, and after it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from cede.util.text import one_line

FOLDER = Path("/var/log/libvirt/libxl")
_OF_NO_DOMAIN = "libxl-driver"
_MAX_BYTES = 65536
# 2026-11-24 04:17:06.846+0000: libxl: libxl_pci.c:1688:libxl__device_pci_add: Domain 1:PCI device ... is not assignable
_LINE = re.compile(
    r"^(?P<time>[-0-9: .+]{0,40}): libxl: (?P<file>\w+)\.c:\d+:(?P<function>\w+): ?"
    r"(?:Domain (?P<domid>\d{1,5}):)?(?P<said>.+)$"
)
BACKEND_BUSY = re.compile(r"\bbackend\b.*\bnot ready", re.IGNORECASE)
# libxl__device_pci_add and _remove go on, whatever their reset returned
_HARMLESS_FUNCTIONS = frozenset({"libxl__device_pci_reset"})
_HARMLESS = re.compile(
    r"Retrying PCI add |Write of .* to node .* failed|Creating pci backend|Adding new pci device to |^ao 0x|^ ?ev 0x"
    r"|doesn't support reset from sysfs"
)
_DEBUG_FILES = frozenset({"libxl_event", "libxl_aoutils"})
# what follows from the failure: the callers' words on it, and the clearing up
_CONSEQUENCE = re.compile(
    r"libxl_+device_pci_add failed|^[Uu]nable to (?:add|remove) |libxl__devices_destroy failed|^[Uu]nable to destroy "
    r"|^Destruction of domain|device model did not start|exited with error status"
)
_OF_A_DOMAIN = re.compile(r"/backend/\w{1,20}/(?P<domid>\d{1,5})/")

LogSizes = tuple[tuple[Path, int], ...]


def log_sizes(folder: Path, domain: str) -> LogSizes:
    """Return the present sizes of the logs about `domain`; later lines belong to the next action."""
    return tuple(
        (log, _size(log)) for log in (folder / f"{n}.log" for n in (domain, _OF_NO_DOMAIN))
    )


class _Line(NamedTuple):
    """One line of libxl's; `domid` is the domain that it names, None if it names none."""

    time: str
    domid: str | None
    said: str


def ending_line(since: LogSizes) -> str:
    """Return the line that ended what libxl did after these sizes; empty if none can be read.

    That is the last one before the first that only follows from the failure; lines after which libxl goes on are none.
    """
    logs = [_lines(log, size) for log, size in since]
    own = {line.domid for line in (logs[0] if logs else []) if line.domid}
    lines = sorted(
        (
            line
            for log in logs
            for line in log
            if line.domid in own or not own or line.domid is None
        ),
        key=lambda line: line.time,
    )
    busy = next((line.said for line in lines if BACKEND_BUSY.search(line.said)), "")
    if busy:
        return busy
    ended = ""
    for line in lines:
        if _CONSEQUENCE.search(line.said):
            return ended or line.said
        ended = line.said
    return ended


def last_line(folder: Path, domain: str) -> str:
    """Return the last line that libxl logged of `domain` and did not just pass by; empty if none can be read."""
    lines = _lines(folder / f"{domain}.log", 0)
    return lines[-1].said if lines else ""


def _lines(log: Path, after: int) -> list[_Line]:
    """Return libxl's lines in the log behind the offset `after`, at most its last 64 KiB, without the harmless ones."""
    try:
        with log.open("rb") as file:
            file.seek(max(after, _size(log) - _MAX_BYTES))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for match in map(_LINE.search, lines):
        if (
            match is None
            or match["function"] in _HARMLESS_FUNCTIONS
            or match["file"] in _DEBUG_FILES
        ):
            continue
        if _HARMLESS.search(match["said"]):
            continue
        named = _OF_A_DOMAIN.search(match["said"])
        domid = match["domid"] or (named["domid"] if named else None)
        found.append(_Line(time=match["time"], domid=domid, said=one_line(match["said"])))
    return found


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
