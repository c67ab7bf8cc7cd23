"""What libxl says of a failure: libvirt passes on that it failed, and leaves the reason in log files.

Source: src/libxl/libxl_logger.c (libvirt): one file for each domain, and one for what is about none.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path("/var/log/libvirt/libxl")
_OF_NO_DOMAIN = "libxl-driver"
_MAX_BYTES = 65536
# 2026-11-24 04:17:06.846+0000: libxl: libxl_pci.c:1688:libxl__device_pci_add: Domain 1:PCI device ... is not assignable
_LINE = re.compile(r": libxl: \w+\.c:\d+:\w+: (?:Domain \d+:)?(?P<said>.+)$")

LogSizes = tuple[tuple[Path, int], ...]


def log_sizes(folder: Path, domain: str) -> LogSizes:
    """How long the logs are now that can tell of `domain`; what comes later is about what is done next."""
    return tuple(
        (log, _size(log)) for log in (folder / f"{n}.log" for n in (domain, _OF_NO_DOMAIN))
    )


def first_error(since: LogSizes) -> str:
    """The first thing that libxl complained of after these marks; empty if it said nothing that can be read."""
    for log, size in since:
        said = _said(log, size)
        if said:
            return said[0]
    return ""


def last_line(folder: Path, domain: str) -> str:
    """The last thing that libxl said of `domain`; empty if there is nothing, or it can't be read."""
    said = _said(folder / f"{domain}.log", 0)
    return said[-1] if said else ""


def _said(log: Path, after: int) -> list[str]:
    """libxl's own words in the log, what stands before `after` or far from its end left out."""
    try:
        with log.open("rb") as file:
            file.seek(max(after, _size(log) - _MAX_BYTES))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    matches = (_LINE.search(line) for line in lines)
    return ["".join(filter(str.isprintable, match["said"])) for match in matches if match]


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
