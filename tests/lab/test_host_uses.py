"""On a real kernel, cede finds each use that a host makes of a device: each is made in dom0, looked at and unmade.

With `--regenerate-golden` what cede read is kept in tests/trees, where the fast tests find the same uses in it. So a
plain run makes only those uses in which programs of others have a part; with `--soak` it makes all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.host_scenes import COMMON, OFTEN, PREPARED, SCENES
from sim.recorded_host import save

if TYPE_CHECKING:
    from lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.long(3)]

RECORD = Path(__file__).with_name("record_uses.py")
SECONDS = 900


def test_each_use_that_a_real_kernel_shows_is_found(
    storage_host: Host, request: pytest.FixtureRequest, soak: bool
) -> None:
    host = storage_host
    regenerate = request.config.getoption("--regenerate-golden")
    scenes = SCENES if soak or regenerate else [one for one in SCENES if one.name in OFTEN]
    host.sh(COMMON + PREPARED)
    scripts = [
        {"name": scene.name, "begin": COMMON + scene.begin, "end": COMMON + scene.end}
        for scene in scenes
    ]
    host.write("/tmp/scenes.json", json.dumps(scripts))
    argv = ["python3", "-P", "-", "/tmp/scenes.json"]
    done = host.lab.exec(argv, stdin=RECORD.read_text(), timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [look["name"] for look in looks] == [scene.name for scene in scenes]
    assert not [look for look in looks if "failed" in look]
    calm = looks[0]["uses"]
    missed = []
    for scene, look in zip(scenes[1:], looks[1:], strict=True):
        spoke, before = (
            {use["guard"] for use in uses.get(scene.address, [])} for uses in (look["uses"], calm)
        )
        if scene.guard not in spoke or scene.guard in before:
            missed.append(f"{scene.name}: {scene.guard} is not among {spoke} of {scene.address}")
    assert not missed, "\n".join(missed)
    if regenerate:
        save(
            {**look, "guard": scene.guard, "address": scene.address}
            for scene, look in zip(scenes, looks, strict=True)
        )
