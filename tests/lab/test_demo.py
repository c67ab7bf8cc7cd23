"""The demo as a newcomer runs it, on both dom0 releases: it ends with 0 only if all that it tells was so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xenlab.lab import Lab, State

pytestmark = pytest.mark.lab

DEMO = Path(__file__).parents[2] / "contrib/demo"


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_the_demo_shows_the_main_job(release: str) -> None:
    lab = Lab(release=release)
    was_down = lab.state() is State.ABSENT
    done = subprocess.run(
        [sys.executable, str(DEMO), "--dom0", release],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    if was_down:
        lab.down()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "That was all of it" in done.stdout
