"""The journal's part about now: pauses, conditions and attachments, and a file that an older cede wrote."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cede
from cede.model.actions import HotPlug, ReturnToDom0
from cede.model.conditions import Condition, ConditionType, Status
from cede.model.journal_state import LastApplied, Pause
from cede.model.pci import Address
from cede.model.plan import Change, Purpose
from cede.model.policy import HOST_SOURCE
from cede.state import database
from cede.state.journal import Journal, Requester
from sim.passing_time import SimulatedTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIC = Address(0, 1, 0, 0)
BEGIN = datetime(2026, 1, 31, 3, tzinfo=UTC)
EARLY, LATER = "2026-01-31T03:00:00.000+00:00", "2026-01-31T05:00:00.000+00:00"
LEFT = LastApplied(address=NIC, domain="uuid-of-pv1", live=True, config=True)
ATTACH = Change(
    subject="nic0 -> pv1", purpose=Purpose.ATTACH, address=NIC, identity=None,
    actions=(HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0"),),
)  # fmt: skip
RELEASE = Change(
    subject="nic0",
    purpose=Purpose.RELEASE,
    address=NIC,
    identity=None,
    actions=(ReturnToDom0(address=NIC),),
)
KILLED_THERE = """
import os, signal, sqlite3, sys
from pathlib import Path
from cede.state.journal import Journal
from cede.model.journal_state import Pause
left = [int(sys.argv[2])]
def dies(*_):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0
connect = sqlite3.connect
class Connection(sqlite3.Connection):
    def execute(self, text, *values):
        if text.startswith(("CREATE", "ALTER", "UPDATE", "PRAGMA user_version =")):
            dies()
        return super().execute(text, *values)
sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Connection)
Journal(Path(sys.argv[1])).pause(Pause(device="nic0"))
"""


@pytest.fixture
def time_of_day() -> SimulatedTime:
    time_of_day = SimulatedTime()
    time_of_day.today = BEGIN
    return time_of_day


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def opened(path: Path, time_of_day: SimulatedTime) -> Iterator[Callable[[], Journal]]:
    journals: list[Journal] = []

    def opened() -> Journal:
        journals.append(Journal(path, boot="this", now=time_of_day.clock.now))
        return journals[-1]

    yield opened
    for journal in journals:
        journal.close()


@pytest.fixture
def journal(opened: Callable[[], Journal]) -> Journal:
    return opened()


@pytest.fixture
def of_version_1(path: Path) -> bytes:
    """A journal as the first version wrote it, with a task, an origin and a device that hung; its bytes."""
    connection = sqlite3.connect(path)
    for statement in database.STEPS[0]:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO task (begun, asked, who, subject, address, domain, inward, back)"
        " VALUES (?, 'cede apply', 'ann', 'nic0 -> pv1', ?, 'pv1', 1, 1)",
        (EARLY, str(NIC)),
    )
    connection.execute(
        "INSERT INTO deed (task, undoing, step, text, before, begun) VALUES (1, 0, '{}', 'bind', '{}', ?)",
        (EARLY,),
    )
    connection.execute("INSERT INTO held VALUES (?, 'hung', ?, 'this')", (str(NIC), EARLY))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    return path.read_bytes()


# -- pauses


def test_a_pause_is_in_force_until_it_is_resumed(
    journal: Journal, opened: Callable[[], Journal]
) -> None:
    made = journal.pause(Pause(target="pv1", domain="uuid-of-pv1", requester="ann", reason="tests"))
    assert (made.since, made.until) == (EARLY, "")
    again = opened()
    assert again.load_state().pauses == (made,)
    again.resume([made])
    assert journal.load_state().pauses == ()


def test_a_pause_for_some_time_ends_by_itself(
    journal: Journal, time_of_day: SimulatedTime, path: Path
) -> None:
    made = journal.pause(Pause(target="nic0", device="nic0"), seconds=7200)
    assert made.until == LATER
    time_of_day.today += timedelta(hours=2, milliseconds=-1)
    assert journal.load_state().pauses == (made,)
    time_of_day.today += timedelta(milliseconds=1)
    assert journal.load_state().pauses == ()
    journal.pause(Pause(target="pv1", domain="uuid-of-pv1"))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM pause").fetchone() == (1,)
    connection.close()


def test_a_pause_of_the_same_takes_the_place_of_the_one_before_and_a_drain_is_beside_it(
    journal: Journal,
) -> None:
    journal.pause(Pause(target="nic0", device="nic0", reason="first"))
    second = journal.pause(Pause(target="nic0", device="nic0", reason="second"))
    drained = journal.pause(Pause(target="nic0", device="nic0", drained=True))
    assert journal.load_state().pauses == (drained, second)
    journal.resume([drained])
    assert journal.load_state().pauses == (second,)


# -- conditions and attachments


def condition(subject: str, reason: str = "Drifted", since: str = EARLY) -> Condition:
    return Condition(
        subject=subject,
        type=ConditionType.IN_SYNC,
        status=Status.FALSE,
        reason=reason,
        message="ü",
        since=since,
    )


def test_each_policy_has_conditions_of_its_own_and_the_host_has_one_set(journal: Journal) -> None:
    journal.save_status("a.yaml", [condition(""), condition("nic0 -> pv1")])
    journal.save_status("b.yaml", [condition("", "Unreachable"), condition("nic1 -> pv1")])
    assert set(journal.conditions("a.yaml")) == {
        condition("", "Unreachable"),
        condition("nic0 -> pv1"),
    }
    journal.save_status("a.yaml", [])
    assert journal.conditions("a.yaml") == ()
    assert journal.conditions("b.yaml") == (condition("nic1 -> pv1"),)


def test_what_is_as_before_is_not_written_again(journal: Journal, path: Path) -> None:
    for _ in range(2):
        journal.save_status("a.yaml", [condition("nic0 -> pv1")], [LEFT])
        size = path.with_name("journal.db-wal").stat().st_size
    journal.save_status("a.yaml", [condition("nic0 -> pv1")], [LEFT])
    assert path.with_name("journal.db-wal").stat().st_size == size
    journal.save_status("a.yaml", [condition("nic0 -> pv1", "Failed")], [LEFT])
    assert path.with_name("journal.db-wal").stat().st_size > size


def test_where_a_device_was_left_is_known_until_cede_takes_it_out(journal: Journal) -> None:
    journal.save_status("a.yaml", [], [LEFT])
    journal.end_change(journal.begin_change(ATTACH, Requester()), "done")
    assert journal.load_state().last_applied == (LEFT,)
    journal.save_status("a.yaml", [])
    assert journal.load_state().last_applied == (LEFT,)
    journal.end_change(journal.begin_change(RELEASE, Requester()), "done")
    assert journal.load_state().last_applied == ()


def test_what_left_the_policy_is_left_nowhere(journal: Journal) -> None:
    journal.save_status("a.yaml", [], [LEFT])
    journal.save_status("b.yaml", [], [])
    assert journal.load_state().last_applied == (LEFT,)
    journal.save_status("a.yaml", [], [])
    assert journal.load_state().last_applied == ()


# -- a file of version 1


def test_a_journal_of_version_1_is_read_and_not_changed_by_who_only_reads(
    of_version_1: bytes, opened: Callable[[], Journal], path: Path
) -> None:
    journal = opened()
    memory = journal.load_state()
    assert [held.reason for held in memory.held] == ["hung"]
    assert [started.subject for started in memory.unfinished] == ["nic0 -> pv1"]
    assert (memory.pauses, memory.last_applied, journal.conditions("a.yaml")) == ((), (), ())
    (entry,) = journal.history()
    assert (entry.requester, entry.error_name) == ("ann", "")
    assert [(action.text, action.error_name) for action in entry.actions] == [("bind", "")]
    assert path.read_bytes() == of_version_1


def test_a_journal_of_version_1_is_brought_up_to_date_by_who_writes_and_forgets_nothing(
    of_version_1: bytes, opened: Callable[[], Journal]
) -> None:
    before = (opened().load_state().held, opened().load_state().unfinished, opened().history())
    made = opened().pause(Pause(target="nic0", device="nic0"))
    after = opened()
    assert (after.load_state().held, after.load_state().unfinished, after.history()) == before
    assert after.load_state().pauses == (made,)
    assert after.warnings == []
    assert of_version_1


def test_conditions_of_an_older_journal_are_those_of_the_policy_that_its_path_meant(
    opened: Callable[[], Journal], path: Path
) -> None:
    opened().pause(Pause(target="nic0", device="nic0"))  # the file is made by who writes first
    with closing(sqlite3.connect(path)) as connection, connection:
        for source in ("/etc/cede/policy.yaml", "/root/other.yaml"):
            connection.execute(
                "INSERT INTO condition (source, subject, type, status, reason, message, since, next_try)"
                " VALUES (?, 'nic0 -> pv1', 'Verified', 'True', 'GuestHasIt', '', '', '')",
                (source,),
            )
        connection.execute("ALTER TABLE condition DROP COLUMN domid")
        connection.execute("ALTER TABLE condition DROP COLUMN boot")
        for table in ("operation", "given", "quarantine"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 4")
    opened().pause(Pause(target="nic1", device="nic1"))
    for source in (HOST_SOURCE, "file:/root/other.yaml"):
        assert [one.reason for one in opened().conditions(source)] == ["GuestHasIt"]


def test_a_domain_of_another_boot_is_another_domain(path: Path) -> None:
    said = Condition(
        subject="nic0 -> pv1", type=ConditionType.VERIFIED, status=Status.TRUE, reason="GuestHasIt", domid=1
    )  # fmt: skip
    for boot, domid in (("one", 1), ("two", None)):
        with closing(Journal(path, boot=boot)) as journal:
            if boot == "one":
                journal.save_status("a.yaml", [said])
            assert [one.domid for one in journal.conditions("a.yaml")] == [domid]


@pytest.mark.parametrize(
    ("older", "now"),
    [
        (("Permanent", "Outstanding"), ("Persistent", "Outstanding")),
        (("Proven", "GuestHasIt"), ("Verified", "GuestHasIt")),
        (("InStep", "Stranded"), ("InSync", "RollbackFailed")),
        (("Proven", "FoundOtherwise"), ("Verified", "GuestFoundOtherwise")),
        (("Attached", "InDomain"), ("Attached", "InDomain")),
    ],
)
def test_conditions_of_a_journal_with_older_words_are_read_by_the_present_ones(
    opened: Callable[[], Journal], path: Path, older: tuple[str, str], now: tuple[str, str]
) -> None:
    opened().pause(Pause(target="nic0", device="nic0"))  # the file is made by who writes first
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO condition (source, subject, type, status, reason, message, since, next_try)"
            " VALUES ('a.yaml', 'nic0 -> pv1', ?, 'True', ?, '', '2026-01-31', '')",
            older,
        )
    (condition,) = opened().conditions("a.yaml")
    assert (condition.type, condition.reason) == now


@pytest.mark.parametrize(
    ("subject", "device"),
    [
        ("nic0 -> pv1", "nic0"),
        ("nic0 -> pv1, begun and cut off", "nic0"),
        ("nic0 in pv1", "nic0"),
        ("release 0000:01:00.0", ""),
        ("drain 0000:01:00.0", ""),
        ("fix this host", ""),
    ],
)
@pytest.mark.usefixtures("of_version_1")
def test_the_device_of_an_interrupted_change_is_known_from_an_older_journal(
    opened: Callable[[], Journal], path: Path, subject: str, device: str
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE task SET subject = ?", (subject,))
    journal = opened()
    assert [one.device for one in journal.load_state().unfinished] == [device], "as it is read"
    journal.pause(Pause(target="nic1", device="nic1"))
    assert [one.device for one in journal.load_state().unfinished] == [device], "brought up to date"


@pytest.mark.parametrize("done", range(18))
@pytest.mark.usefixtures("of_version_1")
def test_a_kill_in_the_middle_of_it_leaves_the_old_version_or_the_new_one(
    opened: Callable[[], Journal], path: Path, done: int
) -> None:
    """Tables, columns, the sources of policies and the version are written; the kill comes before one of them."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_THERE, str(path), str(done)],
        env={**os.environ, "PYTHONPATH": str(Path(cede.__file__).parent.parent)},
        check=False,
        timeout=60,
    )
    assert killed.returncode == (-signal.SIGKILL if done < 17 else 0)
    connection = sqlite3.connect(path)
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert database.version(connection) == (1 if done < 17 else database.VERSION)
    assert ("pause" in there) == ("condition" in there) == (done == 17)
    connection.close()
    journal = opened()
    assert [held.reason for held in journal.load_state().held] == ["hung"]
    journal.pause(Pause(target="nic1", device="nic1"))
    assert "nic1" in {pause.device for pause in journal.load_state().pauses}
