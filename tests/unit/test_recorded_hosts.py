"""The uses that cede finds in what a real kernel showed of them (tests/lab/test_host_uses.py records it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sim.recorded_host import FIRST, TREES, load, recorded_uses, save

if TYPE_CHECKING:
    from pathlib import Path

NAMES = sorted(path.stem for path in TREES.glob("*.json"))


def test_there_are_records() -> None:
    assert FIRST in NAMES
    assert len(NAMES) >= 50


@pytest.mark.parametrize("name", NAMES)
def test_in_what_a_real_kernel_showed_the_same_uses_are_found(name: str, tmp_path: Path) -> None:
    record = load(name)
    found = recorded_uses(record, tmp_path)
    assert found == record["uses"]
    if record["guard"]:
        assert record["guard"] in {use["guard"] for use in found[record["address"]]}
        # it is this scene that makes the use, not the host
        calm = load(FIRST)["uses"].get(record["address"], [])
        assert record["guard"] not in {use["guard"] for use in calm}


def test_a_record_that_is_kept_as_a_difference_is_read_whole(tmp_path: Path) -> None:
    parts: dict[str, dict[str, str]] = {"guests": {}, "ip": {}, "nodes": {}, "ways": {}}
    first = {"name": FIRST, "tree": {"/sys": None, "/sys/a": "1", "/sys/b": "2"}, **parts}
    second = {"name": "other", "tree": {"/sys": None, "/sys/a": "1", "/sys/c": ["../x"]}, **parts}
    save([first, second], tmp_path)
    assert load(FIRST, tmp_path) == first
    assert load("other", tmp_path) == second
