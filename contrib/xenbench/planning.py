"""Plans for large hosts on this machine itself, without emulation: what deciding alone takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .works import LARGE, PLANNING, SMALL

_DOMAINS = {SMALL: 2_000, LARGE: 4_000}
_SECONDS = 300


class PlanningFailedError(Exception):
    """The program ended otherwise than it had to."""


def plan_lines(checkout: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Return figures as `runner` prints them. Raises PlanningFailedError."""
    script = checkout / "tests/unit/plan_speed.py"
    for number in range(1, rounds + 1):
        for by, domains in _DOMAINS.items():
            done = subprocess.run(
                [sys.executable, str(script), str(domains)],
                env={**os.environ, "PYTHONPATH": str(checkout / "agent")},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                raise PlanningFailedError(f"{script.name} failed: {done.stderr.strip()[-400:]}")
            found = json.loads(done.stdout)
            figure = {"round": number, "work": PLANNING, "by": by}
            yield {**figure, "seconds": found["seconds"]}
            yield {**figure, "peak_kilobytes": round(found["megabytes"] * 1000), "calls": None}
