"""The adapter to libxl's logs: libvirt only says that libxl failed, and the reason is in log files.

Source: src/libxl/libxl_logger.c (libvirt): one file for each domain, and one for everything else.
"""

from __future__ import annotations

import re
from pathlib import Path

from cede.util.text import one_line

FOLDER = Path("/var/log/libvirt/libxl")
_OF_NO_DOMAIN = "libxl-driver"
_MAX_BYTES = 65536
# 2026-11-24 04:17:06.846+0000: libxl: libxl_pci.c:1688:libxl__device_pci_add: Domain 1:PCI device ... is not assignable
_LINE = re.compile(r": libxl: \w+\.c:\d+:\w+: (?:Domain \d+:)?(?P<said>.+)$")

LogSizes = tuple[tuple[Path, int], ...]


def log_sizes(folder: Path, domain: str) -> LogSizes:
    """Return the present sizes of the logs about `domain`; later lines belong to the next action."""
    return tuple(
        (log, _size(log)) for log in (folder / f"{n}.log" for n in (domain, _OF_NO_DOMAIN))
    )


def first_error(since: LogSizes) -> str:
    """Return the first line that libxl logged after these sizes; empty if none can be read."""
    for log, size in since:
        said = _said(log, size)
        if said:
            return said[0]
    return ""


def last_line(folder: Path, domain: str) -> str:
    """Return the last line that libxl logged of `domain`; empty if none can be read."""
    said = _said(folder / f"{domain}.log", 0)
    return said[-1] if said else ""


def _said(log: Path, after: int) -> list[str]:
    """Return libxl's lines in the log behind the offset `after`, at most its last 64 KiB."""
    try:
        with log.open("rb") as file:
            file.seek(max(after, _size(log) - _MAX_BYTES))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    matches = (_LINE.search(line) for line in lines)
    return [one_line(match["said"]) for match in matches if match]


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
