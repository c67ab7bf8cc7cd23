"""What a released version left on a host, its policy and its journal, is read by every later one.

`tests/released/VERSION/` has a policy with every key, a journal as SQL, and what that version read of it. Those of the
present version are written by `pytest tests/unit/test_released.py --regenerate-golden`; once released, they stay.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cede import __version__
from cede.errors import TransientError
from cede.model.journal_state import Given
from cede.model.serialization import plain
from cede.policy.policy_files import read
from cede.state.journal import Journal
from cede.util import schemas
from sim.passing_time import SimulatedTime
from unit.test_journal import ASKED, ATTACH, BIND, DISK, NIC, ORIGIN, PLUG, RELEASE

RELEASED = Path(__file__).parents[1] / "released"
FOLDERS = sorted(RELEASED.iterdir())
BOOT = "this"


def opened(path: Path) -> Journal:
    return Journal(path, boot=BOOT, now=SimulatedTime().clock.now)


def remembered(journal: Journal) -> Any:  # noqa: ANN401 - JSON is any
    """All that planning and `cede history` need, as JSON."""
    state = journal.load_state()
    return {
        "history": plain(journal.history()),
        "origins": {str(address): plain(origin) for address, origin in state.origins.items()},
        "unfinished": plain(state.unfinished),
        "held": plain(state.held),
        "given": plain(state.given),
    }


def fill(journal: Journal) -> None:
    """Have a change end well, one fail, one be cut off."""
    well = journal.begin_change(ATTACH, ASKED)
    journal.end_action(journal.begin_action(well, BIND, ORIGIN), 0.5)
    journal.end_action(journal.begin_action(well, PLUG, {}), 1.5)
    journal.end_change(well, "done", complete=True)
    failed = journal.begin_change(RELEASE, ASKED)
    action = journal.begin_action(failed, RELEASE.actions[0], {})
    journal.end_action(action, 2.0, TransientError("no answer", name="guest-silent"))
    journal.end_change(failed, "failed", complete=False)
    journal.begin_action(journal.begin_change(ATTACH, ASKED), PLUG, {})
    journal.hold(DISK, "a call hangs")
    journal.note_given([Given(address=NIC, device="nic0", domain="pv1", domid=3, instance=7)])


def dumped(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return "\n".join([*connection.iterdump(), f"PRAGMA user_version = {version};\n"])


def covers(now: Any, then: Any) -> bool:  # noqa: ANN401 - JSON is any
    """Whether all that was read then is read now; there may be more."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(
            key in now and covers(now[key], then[key]) for key in then
        )
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(covers, now, then))
    return bool(now == then)


@pytest.fixture
def released() -> list[str]:
    """The versions that the changelog gives a day."""
    text = (RELEASED.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[([\d.]+)\] - ", text, re.MULTILINE)


def test_each_release_has_its_policy_and_journal(
    tmp_path: Path, request: pytest.FixtureRequest, released: list[str]
) -> None:
    if request.config.getoption("--regenerate-golden"):
        own = RELEASED / __version__
        own.mkdir(exist_ok=True)
        with closing(opened(tmp_path / "journal.db")) as journal:
            fill(journal)
            (own / "read.json").write_text(json.dumps(remembered(journal), indent=2) + "\n")
        (own / "journal.sql").write_text(dumped(tmp_path / "journal.db"))
    for version in {*released, *(folder.name for folder in FOLDERS)}:
        assert {path.name for path in (RELEASED / version).iterdir()} == {
            "policy.yaml", "journal.sql", "read.json",
        }  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_policy_of_a_release_is_valid(folder: Path) -> None:
    assert read(folder / "policy.yaml").assignments


def test_the_policy_of_a_release_has_every_key_on_its_day(released: list[str]) -> None:
    def keys(schema: Any) -> set[str]:  # noqa: ANN401 - JSON is any
        parts = schema.values() if isinstance(schema, dict) else schema
        if not isinstance(schema, dict | list):
            return set()
        own = schema.get("properties", {}) if isinstance(schema, dict) else {}
        return set(own if isinstance(own, dict) else {}).union(*map(keys, parts))

    known = keys(schemas.load("policy.schema.json"))
    assert "assignments" in known
    if __version__ in released:
        text = (RELEASED / __version__ / "policy.yaml").read_text()
        assert {key for key in known if f"{key}:" not in text} == set()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_journal_of_a_release_tells_the_same_as_then(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((folder / "journal.sql").read_text())
    then = json.loads((folder / "read.json").read_text())
    with closing(opened(path)) as journal:
        assert covers(remembered(journal), then)
        journal.hold(NIC, "the tables are brought up to date")
        then["held"] = []
        assert covers({**remembered(journal), "held": []}, then)
        assert journal.warnings == []
