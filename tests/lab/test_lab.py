"""The lab itself: what runs is known to whoever asks, whoever started it."""

from pathlib import Path

import pytest

from lab.host import Host
from xenlab.lab import Lab

pytestmark = pytest.mark.lab


def machines(lab: Lab) -> list[str]:
    """The processes that work in the folder of the lab."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(lab.folder):
                found.append(process.name)
        except OSError:
            continue  # it has ended, or has no folder
    return found


def test_a_machine_that_another_started_is_stopped_before_the_next_is(host: Host) -> None:
    first, second = host.lab, Lab(release="trixie", name=host.lab.name)
    second.reset()
    assert len(machines(first)) == 1
    first.reset()
    assert len(machines(first)) == 1
    first.down()
    assert machines(first) == []
