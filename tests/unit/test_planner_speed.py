"""Planning 1,000 domains and 4,000 devices, in a process of its own so that the figures are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("plan_speed.py")
AGENT = Path(__file__).parents[2] / "agent"


def test_a_thousand_domains_and_four_thousand_devices_take_a_second_and_200_mb_at_most() -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PYTHONPATH": str(AGENT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    measured = json.loads(ran.stdout)
    print(f"planned in {measured['seconds']:.2f} s, {measured['megabytes']:.0f} MB at most")  # noqa: T201 - the figure
    counts = measured["counts"]
    assert min(counts["Change"], counts["Satisfied"], counts["Refused"]) > 100
    assert measured["seconds"] < 1
    assert measured["megabytes"] < 200
