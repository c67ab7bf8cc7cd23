"""The journal: what it remembers, whatever ends the process, fills the disk or damages the file."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from errno import EEXIST, ENAMETOOLONG
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import cede
from cede.errors import CedeError, PermanentError, TransientError
from cede.model.actions import (
    Action,
    AddToConfig,
    Adopt,
    BindToPciback,
    ForceDetach,
    HotPlug,
    LoadAtBoot,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.journal_state import Held, JournalState, Pause, Unfinished
from cede.model.pci import Address, Identity, Link, Node, OriginalState
from cede.model.plan import Change, Purpose
from cede.state import database
from cede.state.history import ActionRecord, ChangeRecord
from cede.state.journal import Journal, Requester
from sim.passing_time import SimulatedTime
from unit.conftest import descriptors
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIC, DISK = Address(0, 1, 0, 0), Address(0, 2, 0, 0)
IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
BIND = BindToPciback(address=NIC, driver="e1000e")
PLUG = HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0")
ATTACH = Change(
    subject="nic0 -> pv1",
    purpose=Purpose.ATTACH,
    address=NIC,
    identity=IDENTITY,
    actions=(BIND, PLUG),
)
RELEASE = Change(
    subject="disk0", purpose=Purpose.RELEASE, address=DISK, identity=None,
    actions=(Unplug(address=DISK, domain="pv2"), ReturnToDom0(address=DISK)),
)  # fmt: skip
ASKED = Requester(command="cede apply", user="ann as root")
ORIGIN = OriginalState(
    identity=IDENTITY,
    serial="00-11-22-33-44-55-66-77",
    driver="e1000e",
    links=(Link(name="eth1", mac="52:54:00:00:00:01", up=True, addresses=("192.0.2.1/24",)),),
    nodes=(
        Node(kind="disk", name="sda", about="1.0 MiB, QEMU HARDDISK", id="naa.5000"),
        Node(kind="USB", name="1-1", about="a stick", id="0951:1666", pluggable=True),
    ),
)
BEGIN = datetime(2026, 1, 31, 3, tzinfo=UTC)
EARLY = "2026-01-31T03:00:00.000+00:00"
# a process of its own, as another cede is one
WRITER = """
import sys
from pathlib import Path
from cede.model.pci import Address
from cede.state.journal import Requester, Journal
from cede.model.actions import ReturnToDom0
from cede.model.plan import Change, Purpose
journal, name, most = Journal(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
at = Address(0, 1, 0, 0)
work = Change(subject=name, purpose=Purpose.RELEASE, address=at, identity=None, actions=())
for number in range(most):
    task = journal.begin_change(work, Requester())
    action = journal.begin_action(task, ReturnToDom0(address=work.address), {"filling": "x" * 3000})
    print(task, flush=True)
"""


@pytest.fixture
def time_of_day() -> SimulatedTime:
    time_of_day = SimulatedTime()
    time_of_day.today = BEGIN
    return time_of_day


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cede/journal.db"


@pytest.fixture
def opened(path: Path, time_of_day: SimulatedTime) -> Iterator[Callable[..., Journal]]:
    """Opens the journal at `path` as the next process would."""
    journals: list[Journal] = []

    def opened(boot: str = "this") -> Journal:
        journals.append(Journal(path, boot=boot, now=time_of_day.clock.now))
        return journals[-1]

    yield opened
    for journal in journals:
        journal.close()


@pytest.fixture
def journal(opened: Callable[..., Journal]) -> Journal:
    return opened()


def run_writer(path: Path, name: str, most: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(most)],
        env={**os.environ, "PYTHONPATH": str(Path(cede.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )


# -- what was done


def test_a_change_is_reported_with_its_actions_as_they_happened(
    journal: Journal, time_of_day: SimulatedTime
) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    journal.end_action(journal.begin_action(task, BIND, {"driver": "e1000e"}), 0.5)
    time_of_day.today += timedelta(seconds=2)
    error = PermanentError("libxl said no", name="attach-failed", remedy="read its log")
    failed = journal.begin_action(task, PLUG, {})
    journal.end_action(failed, 1.5, error)
    back_action = ReturnToDom0(address=NIC, driver="e1000e")
    journal.end_action(journal.begin_action(task, back_action, {}, is_rollback=True), 3.0)
    journal.end_change(task, "rolled back", error)
    later = "2026-01-31T03:00:02.000+00:00"
    actions = (
        ActionRecord(
            text=str(BIND), started=EARLY, seconds=0.5,
            outcome="done", message="", error_name="", is_rollback=False,
        ),
        ActionRecord(
            text=str(PLUG), started=later, seconds=1.5,
            outcome="failed", message="libxl said no", error_name="attach-failed", is_rollback=False,
        ),
        ActionRecord(
            text=str(back_action), started=later, seconds=3.0,
            outcome="done", message="", error_name="", is_rollback=True,
        ),
    )  # fmt: skip
    assert journal.history() == (
        ChangeRecord(
            number=task, started=EARLY, ended=later, subject="nic0 -> pv1", address=NIC, domain="pv1",
            command="cede apply", requester="ann as root", outcome="rolled back", message="libxl said no",
            error_name="attach-failed", remedy="read its log", open=False, actions=actions,
        ),
    )  # fmt: skip


def test_what_was_so_before_an_action_is_kept_with_it(journal: Journal, path: Path) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), PLUG, {"xml": "<domain/>", "at": NIC})
    journal.close()
    connection = sqlite3.connect(path)
    (kept,) = connection.execute("SELECT before FROM deed").fetchone()
    connection.close()
    assert kept == '{"xml": "<domain/>", "at": "0000:01:00.0"}'


def test_what_never_ended_is_incomplete_and_unfinished(
    journal: Journal, opened: Callable[..., Journal]
) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {})
    journal.begin_change(RELEASE, ASKED)
    journal.close()
    again = opened()
    release, attach = again.history()
    assert (attach.outcome, attach.ended, attach.open) == ("incomplete", None, True)
    assert [(action.outcome, action.seconds) for action in attach.actions] == [("incomplete", None)]
    assert (release.outcome, release.actions) == ("incomplete", ())
    assert again.load_state().unfinished == (
        Unfinished(
            subject="nic0 -> pv1",
            address=NIC,
            domain="pv1",
            attaching=True,
            return_to_dom0=True,
            since=EARLY,
            moved=False,
        ),
        Unfinished(
            subject="disk0",
            address=DISK,
            domain="pv2",
            attaching=False,
            return_to_dom0=True,
            since=EARLY,
            moved=False,
        ),
    )


@pytest.mark.parametrize(
    ("action", "moved"),
    [
        (LoadAtBoot(), False),
        (BIND, False),
        (RemoveFromConfig(address=NIC, domain="pv1"), False),
        (Adopt(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="p"), False),
        (PLUG, True),
        (Unplug(address=NIC, domain="pv1"), True),
        (ForceDetach(address=NIC, domain="pv1"), True),
    ],
)
def test_only_an_action_on_a_running_domain_can_have_left_the_device_there(
    journal: Journal, action: Action, moved: bool
) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), action, {})
    journal.begin_change(ATTACH, ASKED)  # a recovery that had begun nothing yet
    (left,) = journal.load_state().unfinished
    assert left.moved is moved


def test_what_dom0_is_not_to_have_back_is_remembered_so(journal: Journal) -> None:
    add = AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="p")
    journal.begin_change(
        Change(
            subject="s", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=(PLUG, add)
        ),
        ASKED,
    )
    (left,) = journal.load_state().unfinished
    assert (left.attaching, left.return_to_dom0) == (True, False)


@pytest.mark.parametrize("settled", [True, False])
def test_only_what_was_complete_at_its_end_is_finished(journal: Journal, settled: bool) -> None:
    journal.end_change(journal.begin_change(ATTACH, ASKED), "hung", complete=settled)
    assert bool(journal.load_state().unfinished) is not settled
    assert [entry.open for entry in journal.history()] == [not settled]


def test_the_latest_change_takes_the_place_of_earlier_ones_on_its_device(journal: Journal) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.begin_change(RELEASE, ASKED)
    latest = journal.begin_change(ATTACH, ASKED)
    assert [left.address for left in journal.load_state().unfinished] == [DISK, NIC]
    journal.end_change(latest, "done")
    assert [left.address for left in journal.load_state().unfinished] == [DISK]


def test_what_was_seen_to_be_complete_is_unfinished_no_longer(journal: Journal) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.begin_change(RELEASE, ASKED)
    journal.mark_complete(NIC)
    assert [left.address for left in journal.load_state().unfinished] == [DISK]
    assert [entry.outcome for entry in journal.history()] == ["incomplete", "incomplete"]


# -- what was so before, and what is left alone


def test_what_dom0_had_is_remembered_until_it_has_it_again(
    journal: Journal, opened: Callable[..., Journal]
) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    journal.begin_action(task, BIND, {}, original_state=ORIGIN)
    journal.end_change(task, "done")
    again = opened()
    assert (again.original_state(NIC), again.original_state(DISK)) == (ORIGIN, None)
    assert again.load_state().origins == {NIC: ORIGIN}
    again.forget_original_state(NIC)
    assert (again.original_state(NIC), again.load_state().origins) == (None, {})


def test_an_original_state_of_an_older_journal_keeps_the_disks_that_have_a_wwid(
    journal: Journal, path: Path
) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {}, original_state=ORIGIN)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE origin SET value = json_set(json_remove(value, '$.nodes'), '$.disks', json(?))",
            ('["naa.5000", "2048"]',),
        )
    assert journal.original_state(NIC) == replace(
        ORIGIN, nodes=(Node(kind="disk", name="", id="naa.5000"),)
    )


def test_an_original_state_is_replaced_only_while_it_is_kept(journal: Journal) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {}, original_state=ORIGIN)
    less = replace(ORIGIN, nodes=ORIGIN.nodes[:1])
    for address in (NIC, DISK):
        journal.keep_original_state(address, less)
    assert (journal.original_state(NIC), journal.original_state(DISK)) == (less, None)


def test_an_action_without_an_original_state_leaves_the_known_one_and_a_new_one_replaces_it(
    journal: Journal,
) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    journal.begin_action(task, BIND, {}, original_state=ORIGIN)
    journal.begin_action(task, PLUG, {})
    assert journal.original_state(NIC) == ORIGIN
    other = OriginalState(identity=IDENTITY)
    journal.begin_action(task, BIND, {}, original_state=other)
    assert journal.load_state().origins == {NIC: other}


def test_what_hung_is_held_for_as_long_as_dom0_runs(
    journal: Journal, opened: Callable[..., Journal], time_of_day: SimulatedTime
) -> None:
    journal.hold(DISK, "unbinding has hung")
    time_of_day.today += timedelta(seconds=2)
    journal.hold(NIC, "unplugging has hung")
    held = (
        Held(
            address=NIC, reason="unplugging has hung", since=EARLY.replace("00.000", "02.000")
        ),
        Held(address=DISK, reason="unbinding has hung", since=EARLY),
    )  # fmt: skip
    assert opened().load_state().held == held
    assert opened("another").load_state().held == ()


def test_a_device_is_held_for_the_latest_reason_until_a_person_asks_for_it(
    journal: Journal, opened: Callable[..., Journal]
) -> None:
    opened("another").hold(NIC, "long ago")
    journal.hold(NIC, "first")
    journal.hold(NIC, "then")
    assert [held.reason for held in journal.load_state().held] == ["then"]
    journal.hold(DISK, "too")
    journal.unhold(NIC)
    assert [held.address for held in journal.load_state().held] == [DISK]


# -- history


def test_what_was_found_in_place_begins_a_history_that_is_complete(journal: Journal) -> None:
    journal.rebuilt = True
    journal.record_found(iter([ATTACH, RELEASE]), ASKED)
    reported = [
        (e.subject, e.outcome, e.open, e.ended == e.started, e.requester) for e in journal.history()
    ]
    assert reported == [
        ("disk0", "found", False, True, "ann as root"),
        ("nic0 -> pv1", "found", False, True, "ann as root"),
    ]
    assert (journal.rebuilt, journal.load_state().unfinished) == (False, ())


def test_the_history_begins_with_the_newest_and_is_no_longer_than_asked(journal: Journal) -> None:
    numbers = [journal.begin_change(ATTACH, ASKED) for _ in range(5)]
    assert [entry.number for entry in journal.history()] == numbers[::-1]
    assert [entry.number for entry in journal.history(most=2)] == numbers[:2:-1]


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ("", ["disk0", "nic0 -> pv1"]),
        ("0000:01:00.0", ["nic0 -> pv1"]),
        ("02:00.0", ["disk0"]),
        ("nic0", ["nic0 -> pv1"]),
        ("pv2", ["disk0"]),
        ("pv", ["disk0", "nic0 -> pv1"]),
        ("%", []),
        ("nic_", []),
        ("' OR 1 --", []),
    ],
)
def test_a_history_about_something_has_that_in_address_subject_or_domain(
    journal: Journal, about: str, found: list[str]
) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.begin_change(RELEASE, ASKED)
    assert [entry.subject for entry in journal.history(about=about)] == found


# -- its size


@pytest.mark.parametrize(
    ("ending", "days", "gone"),
    [
        ("done", 181, 1),
        ("done", 179, 0),
        ("rollback failed", 181, 0),
        ("none", 181, 0),
        ("settled without an end", 181, 1),
        ("settled without an end", 179, 0),
    ],
)
def test_what_ended_long_ago_is_dropped_and_what_is_open_is_not(
    journal: Journal, time_of_day: SimulatedTime, ending: str, days: int, gone: int
) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    journal.begin_action(task, BIND, {})
    if ending in {"done", "rollback failed"}:
        journal.end_change(task, ending, complete=ending == "done")
    elif ending != "none":
        journal.mark_complete(NIC)
    time_of_day.today += timedelta(days=days)
    assert journal.trim() == gone
    assert len(journal.history()) == 1 - gone
    assert journal.trim() == 0


def test_a_journal_too_large_drops_its_oldest_with_their_actions_but_nothing_open(
    journal: Journal, path: Path
) -> None:
    kept = journal.begin_change(RELEASE, ASKED)
    numbers = []
    for _ in range(300):
        numbers.append(journal.begin_change(ATTACH, ASKED))
        journal.begin_action(numbers[-1], PLUG, {"xml": "x" * 2000})
        journal.end_change(numbers[-1], "done")
    assert journal.trim(most_bytes=10**9) == 0
    assert journal.trim(most_bytes=700_000) == 200
    assert [entry.number for entry in journal.history(most=999)] == [*numbers[:199:-1], kept]
    assert journal.trim(most_bytes=0) == 100
    assert [entry.number for entry in journal.history()] == [kept]
    journal.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM deed").fetchone() == (0,)
    connection.close()


# -- the file


def test_only_root_can_look_into_it_whatever_the_umask(journal: Journal, path: Path) -> None:
    before = os.umask(0)
    try:
        journal.begin_change(ATTACH, ASKED)
    finally:
        os.umask(before)
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_written_is_on_the_disk_before_it_is_done(journal: Journal) -> None:
    journal.begin_change(ATTACH, ASKED)
    assert journal._open is not None
    asked = ("journal_mode", "synchronous", "foreign_keys")
    found = [journal._open.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    full = 2  # https://www.sqlite.org/pragma.html#pragma_synchronous
    assert found == ["wal", full, 1]


def test_reading_a_journal_that_is_not_there_finds_nothing_and_makes_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    assert journal.load_state() == JournalState(origins={})
    assert (journal.original_state(NIC), journal.history(), journal.warnings) == (None, (), [])
    assert list(tmp_path.iterdir()) == []


def test_reading_a_journal_changes_nothing_of_it(
    journal: Journal, opened: Callable[..., Journal], path: Path
) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.close()
    before = path.read_bytes()
    again = opened()
    assert (len(again.load_state().unfinished), len(again.history())) == (1, 1)
    assert path.read_bytes() == before


def test_a_journal_that_may_not_be_read_is_as_none(
    journal: Journal, opened: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.close()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may everything
    assert (opened().load_state(), opened().history()) == (JournalState(origins={}), ())


# -- damage


def _overwrite(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "its header": lambda path: _overwrite(path, 0, 100),
    "the magic word alone": lambda path: _overwrite(path, 0, 1),
    "its first page": lambda path: _overwrite(path, 100, 3900),
    "a page of a table": lambda path: _overwrite(path, 4096, 4096),
    "cut short": lambda path: os.truncate(path, 3 * 4096),
    "cut within its header": lambda path: os.truncate(path, 60),
    "another file": lambda path: _overwrite(path, 0, path.stat().st_size),
}


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, journal: Journal, path: Path) -> tuple[Path, bytes]:
    """The path of a journal with something in it, damaged, and what stands in the file."""
    journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {}, original_state=ORIGIN)
    journal.hold(NIC, "hung")
    journal.close()
    DAMAGES[request.param](path)
    return path, path.read_bytes()


@pytest.fixture(params=DAMAGES)
def damaged_with_pauses(request: pytest.FixtureRequest, journal: Journal, path: Path) -> Path:
    journal.begin_change(ATTACH, ASKED)
    journal.pause(Pause(target="nic0", device="nic0", drained=True))
    journal.close()
    DAMAGES[request.param](path)
    return path


def test_a_damaged_journal_is_said_to_be_so_and_left_as_it_is_by_who_only_reads(
    damaged: tuple[Path, bytes], opened: Callable[..., Journal]
) -> None:
    path, content = damaged
    journal = opened()
    state = journal.load_state()
    assert replace(state, pauses=()) == JournalState(origins={})
    assert all(pause.everything for pause in state.pauses)
    (warning,) = journal.warnings
    assert str(path) in warning
    assert (path.read_bytes(), journal.rebuilt) == (content, False)


def test_a_damaged_journal_is_set_aside_and_begun_anew_by_who_writes(
    damaged: tuple[Path, bytes], opened: Callable[..., Journal]
) -> None:
    path, content = damaged
    journal = opened()
    journal.begin_change(RELEASE, ASKED)
    kept = path.with_name("journal.db.damaged-20260131T030000000000")
    (warning,) = journal.warnings
    assert str(kept) in warning
    assert (kept.read_bytes(), journal.rebuilt) == (content, True)
    assert [entry.subject for entry in opened().history()] == ["disk0"]


@pytest.mark.usefixtures("damaged_with_pauses")
def test_a_damaged_journal_keeps_its_pauses_or_pauses_everything_until_a_person_resumes(
    opened: Callable[..., Journal],
) -> None:
    read = opened().load_state().pauses
    assert [pause.device for pause in read] == ["nic0"] or [p.everything for p in read] == [True]
    journal = opened()
    journal.begin_change(RELEASE, ASKED)
    kept = journal.load_state().pauses
    assert kept == opened().load_state().pauses == read
    journal.resume(kept)
    assert opened().load_state().pauses == ()


def test_the_pauses_of_a_journal_that_is_damaged_elsewhere_are_carried_over(
    journal: Journal, opened: Callable[..., Journal], path: Path
) -> None:
    paused = journal.pause(Pause(target="nic0", device="nic0", requester="ann"))
    for _ in range(60):
        journal.begin_change(ATTACH, ASKED)
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'task'")
        (root,), (size,) = page.fetchone(), connection.execute("PRAGMA page_size").fetchone()
    _overwrite(path, (root - 1) * size, size)
    assert opened().load_state().pauses == (paused,)
    again = opened()
    again.begin_change(RELEASE, ASKED)
    assert (again.rebuilt, opened().load_state().pauses) == (True, (paused,))


def test_the_tail_of_a_damaged_journal_goes_with_it_even_while_another_process_reads_it(
    journal: Journal, opened: Callable[..., Journal], path: Path
) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.close()
    reader = sqlite3.connect(path)  # as long as it is open, the tail stays
    assert reader.execute("SELECT count(*) FROM task").fetchone() == (1,)
    journal.hold(NIC, "hung")
    journal.close()
    _overwrite(path, 0, 100)
    again = opened()
    again.begin_change(RELEASE, ASKED)
    reader.close()
    assert [entry.subject for entry in opened().history()] == ["disk0"]
    assert (again.rebuilt, again.load_state().held) == (True, ())
    assert list(path.parent.glob("*.damaged-*-wal"))


def test_an_empty_file_is_a_journal_that_was_not_yet_made(
    journal: Journal, opened: Callable[..., Journal], path: Path
) -> None:
    path.parent.mkdir()
    path.touch()
    assert (journal.load_state(), journal.history()) == (JournalState(origins={}), ())
    journal.begin_change(ATTACH, ASKED)
    assert (len(opened().history()), journal.warnings) == (1, [])


@pytest.mark.parametrize("use", [Journal.load_state, Journal.trim, Journal.history])
def test_a_folder_in_its_place_is_reported_and_left_alone(
    journal: Journal, path: Path, use: Callable[[Journal], Any]
) -> None:
    (path / "somebody's").mkdir(parents=True)
    with raises(PermanentError, "journal-unusable", path) as reported:
        use(journal)
    assert reported.value.remedy
    assert (path / "somebody's").is_dir()


@pytest.mark.parametrize("use", [Journal.load_state, Journal.trim, Journal.history])
def test_a_newer_cedes_journal_is_neither_read_nor_written(
    journal: Journal, opened: Callable[..., Journal], path: Path, use: Callable[[Journal], Any]
) -> None:
    journal.begin_change(ATTACH, ASKED)
    journal.close()
    connection = sqlite3.connect(path)
    newer = database.VERSION + 1
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    content = path.read_bytes()
    with raises(
        PermanentError, "journal-version", f"version {newer}", f"version {newer - 1}"
    ) as reported:
        use(opened())
    assert reported.value.remedy
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE origin SET value = '{'",
        "UPDATE origin SET value = '[]'",
        "UPDATE origin SET value = '{\"identity\": {}}'",
        "UPDATE origin SET address = 'nowhere'",
        "UPDATE task SET address = 'nowhere'",
        "UPDATE held SET address = 'nowhere'",
    ],
)
def test_what_no_cede_wrote_there_is_reported_with_a_way_to_go_on(
    journal: Journal, opened: Callable[..., Journal], path: Path, change: str
) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {}, original_state=ORIGIN)
    journal.hold(NIC, "hung")
    journal.close()
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with raises(PermanentError, "journal-unreadable", path) as reported:
        opened().load_state()
    assert f"mv {path}" in reported.value.remedy


# -- a disk that is full, read-only or not there

FAILURES = {"full": "PRAGMA max_page_count = 1", "read-only": "PRAGMA query_only = 1"}
WRITES: dict[str, Callable[[Journal, int], Any]] = {
    "begin": lambda journal, _: journal.begin_change(RELEASE, Requester(command="x" * 5000)),
    "before": lambda journal, task: journal.begin_action(
        task, PLUG, "x" * 9000, original_state=ORIGIN
    ),
    "hold": lambda journal, _: journal.hold(NIC, "x" * 9000),
    "end": lambda journal, task: journal.end_change(task, "x" * 9000),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("write", WRITES)
def test_what_cannot_be_written_is_reported_and_nothing_of_it_is(
    journal: Journal, failure: str, write: str
) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    before = (journal.load_state(), journal.history())
    assert journal._open is not None
    journal._open.execute(FAILURES[failure])
    with raises(PermanentError, "journal-unusable") as reported:
        WRITES[write](journal, task)
    assert "(df -h)" in reported.value.remedy
    assert (journal.load_state(), journal.history()) == before
    journal._open.execute("PRAGMA max_page_count = 1000000")
    journal._open.execute("PRAGMA query_only = 0")
    WRITES[write](journal, task)
    assert (journal.load_state(), journal.history()) != before


@pytest.mark.parametrize(
    ("path", "why"),
    [("file/journal.db", os.strerror(EEXIST)), ("x" * 300, os.strerror(ENAMETOOLONG))],
)
def test_where_no_file_can_be_made_that_is_reported(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "file").touch()
    with raises(PermanentError, "journal-unusable", why) as reported:
        Journal(tmp_path / path).begin_change(ATTACH, ASKED)
    assert reported.value.remedy
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_journal_that_could_not_be_opened_is_opened_at_the_next_try(
    journal: Journal, path: Path
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE condition (id)")
        with raises(PermanentError, "journal-unusable", "condition") as _reported:  # it lives on
            journal.begin_change(ATTACH, ASKED)
        other.execute("DROP TABLE condition")
    assert journal.load_state() == JournalState(origins={})
    assert journal.begin_change(ATTACH, ASKED) == 1


def test_a_journal_file_that_another_process_locks_is_not_left_open(
    path: Path,
) -> None:
    journal = Journal(path, timeout=0.1)
    path.parent.mkdir()
    before = descriptors()
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with raises(
        PermanentError, "journal-unusable", "locked"
    ) as _reported:  # it lives on, as reported
        journal.begin_change(ATTACH, ASKED)
    other.close()
    assert descriptors() == before


# -- several at once


def test_threads_that_write_at_once_lose_nothing(journal: Journal) -> None:
    def write(_: int) -> list[int]:
        tasks = [journal.begin_change(ATTACH, ASKED) for _ in range(10)]
        for task in tasks:
            journal.end_action(journal.begin_action(task, BIND, {}), 0.1)
            journal.end_change(task, "done")
        return tasks

    with ThreadPoolExecutor(6) as pool:
        written = [task for tasks in pool.map(write, range(6)) for task in tasks]
    reported = journal.history(most=999)
    assert sorted(written) == sorted(entry.number for entry in reported) == list(range(1, 61))
    assert {tuple(action.outcome for action in entry.actions) for entry in reported} == {("done",)}


def test_a_thread_that_fails_takes_nothing_of_anothers_back(journal: Journal) -> None:
    with ThreadPoolExecutor(1) as pool:

        def changes() -> Iterator[Change]:
            yield ATTACH
            pool.submit(journal.hold, NIC, "hung")
            time.sleep(0.1)  # long enough for it to come in between, if it could
            raise RuntimeError

        with pytest.raises(RuntimeError):
            journal.record_found(changes(), ASKED)
    assert journal.history() == ()
    assert [held.address for held in journal.load_state().held] == [NIC]


def test_another_process_that_is_writing_is_waited_for(journal: Journal, path: Path) -> None:
    journal.begin_change(ATTACH, ASKED)
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.2, other.rollback)
    ending.start()
    assert journal.begin_change(RELEASE, ASKED) == 2
    ending.join()
    other.close()


def test_processes_that_write_at_once_wait_for_each_other(journal: Journal, path: Path) -> None:
    journal.begin_change(RELEASE, ASKED)
    writers = [run_writer(path, name, 30) for name in ("first", "second")]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    reported = [entry.subject for entry in journal.history(most=999)]
    assert sorted(reported) == ["disk0", *["first"] * 30, *["second"] * 30]


# -- what ends the process


def test_what_was_written_before_a_kill_is_there_after_it(
    path: Path, opened: Callable[..., Journal]
) -> None:
    writer = run_writer(path, "killed", 10**9)
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(150)]  # more than one checkpoint
    writer.send_signal(signal.SIGKILL)
    said += [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    journal = opened()
    numbers = [entry.number for entry in journal.history(most=10**6) if entry.actions]
    assert set(said) <= set(numbers)
    assert len(numbers) <= len(said) + 1
    assert journal.begin_change(ATTACH, ASKED) not in numbers
    assert (journal.warnings, journal.rebuilt) == ([], False)


ACTIONS: dict[str, Callable[[Journal], Any]] = {
    "begin": lambda journal: journal.begin_change(ATTACH, ASKED),
    "begin another": lambda journal: journal.begin_change(RELEASE, ASKED),
    "before": lambda journal: journal.begin_action(
        1, BIND, {"driver": "e1000e"}, original_state=ORIGIN
    ),
    "after": lambda journal: journal.end_action(1, 0.5, TransientError("busy")),
    "end": lambda journal: journal.end_change(1, "done"),
    "settle": lambda journal: journal.mark_complete(NIC),
    "hold": lambda journal: journal.hold(NIC, "hung"),
    "unhold": lambda journal: journal.unhold(NIC),
    "forget": lambda journal: journal.forget_original_state(NIC),
    "found": lambda journal: journal.record_found(iter([ATTACH]), ASKED),
}


def known(journal: Journal) -> object:
    return journal.load_state(), journal.history()


@hypothesis_settings(max_examples=40, deadline=None)
@given(actions=st.lists(st.sampled_from(sorted(ACTIONS)), max_size=8), data=st.data())
def test_whatever_moment_the_power_fails_what_was_committed_by_then_is_there(
    actions: list[str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, after = Path(folder, "journal.db"), Path(folder, "after.db")
        tail = path.with_name("journal.db-wal")
        with closing(Journal(path, boot="this", now=SimulatedTime().clock.now)) as journal:
            journal.begin_change(ATTACH, ASKED)
            known_at = [(0, (JournalState(origins={}), ())), (tail.stat().st_size, known(journal))]
            for action in actions:
                ACTIONS[action](journal)
                known_at.append((tail.stat().st_size, known(journal)))
            cut = data.draw(st.integers(0, known_at[-1][0]), "bytes that came to the disk")
            shutil.copy(path, after)
            after.with_name("after.db-wal").write_bytes(tail.read_bytes()[:cut])
        with closing(Journal(after, boot="this", now=SimulatedTime().clock.now)) as again:
            found = known(again)
            again.begin_change(ATTACH, ASKED)  # and it can be gone on with
        assert found in [was for size, was in known_at if size <= cut][-2:]
        assert again.warnings == []


@pytest.mark.parametrize(
    ("older", "now"),
    [("cut off", "incomplete"), ("stranded", "rollback failed"), ("rolled back", "rolled back")],
)
def test_outcomes_of_a_journal_with_older_words_are_read_by_the_present_ones(
    opened: Callable[..., Journal], path: Path, older: str, now: str
) -> None:
    with closing(opened()) as journal:
        journal.begin_action(journal.begin_change(ATTACH, ASKED), BIND, {})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE task SET outcome = ?", (older,))
        connection.execute("UPDATE deed SET outcome = ?", (older,))
    (change,) = opened().history()
    assert change.outcome == now
    assert [action.outcome for action in change.actions] == [now]


def test_an_error_of_any_kind_leaves_its_words(journal: Journal) -> None:
    task = journal.begin_change(ATTACH, ASKED)
    journal.end_change(task, "failed", CedeError("it said: \x00 ü \n", remedy="do"))
    (entry,) = journal.history()
    assert (entry.message, entry.remedy) == ("it said: \x00 ü \n", "do")


def test_a_change_about_no_device_is_in_the_history_and_hides_nothing_of_devices(
    journal: Journal,
) -> None:
    host = Change(
        subject="host", purpose=Purpose.FIX, address=None, identity=None, actions=(LoadAtBoot(),)
    )
    device = journal.begin_change(RELEASE, ASKED)
    task = journal.begin_change(host, ASKED)
    assert [one.address for one in journal.load_state().unfinished] == [DISK]
    journal.end_change(task, "done")
    reported = [(one.number, one.address, one.open) for one in journal.history()]
    assert reported == [(task, None, False), (device, DISK, True)]


def test_what_was_begun_in_a_domain_is_remembered_with_its_id(
    journal: Journal,
) -> None:
    """After a restart of the domain, or of the host, what the domain has is not of that change."""
    change = journal.begin_change(ATTACH, ASKED)
    for domid in (7, 4):
        journal.begin_action(change, PLUG, {"domid": domid, "boot": journal.boot})
    (left,) = journal.load_state().unfinished
    assert (left.moved, left.domids) == (True, (4, 7))
    journal.begin_action(change, PLUG, {})  # as an older cede wrote it down
    (left,) = journal.load_state().unfinished
    assert (left.moved, left.domids) == (True, ())


def test_what_was_begun_in_an_earlier_boot_has_left_nothing_in_a_domain(
    journal: Journal,
) -> None:
    journal.begin_action(journal.begin_change(ATTACH, ASKED), PLUG, {"domid": 7, "boot": "earlier"})
    (left,) = journal.load_state().unfinished
    assert (left.moved, left.domids) == (False, ())
