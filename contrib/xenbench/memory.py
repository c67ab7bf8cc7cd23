"""The most memory that a process had, as /proc tells it (proc(5): VmHWM), in kilobytes."""

import re
import threading
from pathlib import Path

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_INTERVAL_SECONDS = 0.02


def peak_kilobytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the peak of a process; None if it has ended or has no memory of its own."""
    try:
        found = _PEAK.search((proc / str(pid) / "status").read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


class Watch:
    """Asks for the peak of a process again and again, as nothing tells it once the process has ended.

    That costs the process time on the same processor: a run that is watched isn't timed.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._peak: int | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while True:
            found = peak_kilobytes(self._pid)
            if found is not None:
                self._peak = max(found, self._peak or 0)
            if self._ended.wait(_INTERVAL_SECONDS):
                return

    def peak(self) -> int | None:
        """End it, and return the most that was seen."""
        self._ended.set()
        self._thread.join()
        return self._peak
