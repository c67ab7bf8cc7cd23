"""The demo as a newcomer runs it: it ends with 0 only if all that it tells was so.

On the other dom0 release test_main_job.py asserts the same of the network card, test_seed.py of the graphics card.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xenlab.lab import Lab, State

pytestmark = [pytest.mark.lab, pytest.mark.long(2)]

DEMO = Path(__file__).parents[2] / "contrib/demo"


@pytest.mark.usefixtures("no_host")
def test_the_demo_shows_the_main_job() -> None:
    lab = Lab()
    was_down = lab.state() is State.ABSENT
    try:
        done = subprocess.run(
            [sys.executable, str(DEMO)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
    finally:
        if was_down:
            lab.down()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "That was all of it" in done.stdout
