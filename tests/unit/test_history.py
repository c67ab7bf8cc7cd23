"""`cede history`: what was done, as people read it and as JSON that fits its schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from cede.cli import history_command
from cede.cli.main import cli
from cede.errors import PermanentError
from cede.model.pci import Address
from cede.model.plan import GiveBack, HotPlug, Seize, Work
from cede.state.journal import Asked, Journal
from cede.util import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


NIC, OTHER = Address(0, 1, 0, 0), Address(0, 2, 0, 0)
SEIZE = Seize(address=NIC, driver="e1000e")
PLUG = HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0")
ATTACH = Work(subject="nic0 -> pv1", address=NIC, identity=None, steps=(SEIZE, PLUG))
RELEASE = Work(
    subject="release 0000:02:00.0", address=OTHER, identity=None, steps=(GiveBack(address=OTHER),)
)
REFUSED = PermanentError("libxl said no", remedy="read its log")


class Shown(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Its clock goes on by a minute whenever it is asked."""
    minutes = iter(range(999))
    begin = datetime(2026, 1, 31, 3, tzinfo=UTC)
    journal = Journal(tmp_path / "journal.db", now=lambda: begin + timedelta(minutes=next(minutes)))
    yield journal
    journal.close()


@pytest.fixture
def told(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Shown]:
    """Runs `cede history` over the journal."""
    monkeypatch.setattr(history_command, "open_journal", lambda: journal)

    def run(*arguments: str) -> Shown:
        status = cli.main(["history", *arguments], standalone_mode=False)
        return Shown(status, *capsys.readouterr())

    return run


def rolled_back(journal: Journal) -> None:
    task = journal.begin(ATTACH, Asked(command="cede apply", who="ann as root"))
    journal.after(journal.before(task, SEIZE, {}), 0.51)
    journal.after(journal.before(task, PLUG, {}), 12.0, REFUSED)
    journal.after(journal.before(task, GiveBack(address=NIC), {}, undoing=True), 3.04)
    journal.end(task, "rolled back", REFUSED)


def test_a_history_of_nothing_says_so(told: Callable[..., Shown], tmp_path: Path) -> None:
    shown = told()
    assert (shown.status, shown.out) == (0, "Nothing was done yet.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_task_is_told_with_who_asked_each_deed_and_the_remedy(
    told: Callable[..., Shown], journal: Journal
) -> None:
    rolled_back(journal)
    assert told().out == (
        "2026-01-31T03:00:00.000+00:00  nic0 -> pv1: rolled back\n"
        "  asked by ann as root with cede apply; 0000:01:00.0\n"
        "  seize 0000:01:00.0 from e1000e to pciback: done, 0.5 s\n"
        "  hot-plug 0000:01:00.0 into the running domain pv1: failed, 12.0 s\n"
        "    libxl said no\n"
        "  taking back: give 0000:01:00.0 back to its dom0 driver: done, 3.0 s\n"
        "  remedy: read its log\n"
    )


def test_what_was_cut_off_is_told_to_be_not_settled_and_by_whom_if_known(
    told: Callable[..., Shown], journal: Journal
) -> None:
    journal.before(journal.begin(RELEASE, Asked()), GiveBack(address=OTHER), {})
    assert told().out == (
        "2026-01-31T03:00:00.000+00:00  release 0000:02:00.0: cut off (not settled)\n"
        "  asked by somebody with cede; 0000:02:00.0\n"
        "  give 0000:02:00.0 back to its dom0 driver: never ended\n"
    )


def test_an_error_that_no_deed_has_is_told_at_the_end(
    told: Callable[..., Shown], journal: Journal
) -> None:
    journal.end(journal.begin(ATTACH, Asked()), "failed", PermanentError("it went"))
    assert told().out.splitlines()[2:] == ["  it went"]


def test_the_newest_comes_last_as_in_a_log(told: Callable[..., Shown], journal: Journal) -> None:
    rolled_back(journal)
    journal.begin(RELEASE, Asked())
    heads = [line for line in told().out.splitlines() if line.startswith("2026")]
    assert [head.split("  ")[1].split(":")[0] for head in heads] == ["nic0 -> pv1", "release 0000"]
    assert "nic0" not in told("-n", "1").out


@pytest.mark.parametrize(
    ("about", "found"),
    [("01:00.0", 1), ("pv1", 1), ("nic0", 1), ("release", 1), ("0000:0", 2), ("nosuch", 0)],
)
def test_only_what_was_about_that_is_told(
    told: Callable[..., Shown], journal: Journal, about: str, found: int
) -> None:
    rolled_back(journal)
    journal.begin(RELEASE, Asked())
    said = json.loads(told(about, "--json").out)["history"]
    assert len(said) == found


def test_twenty_tasks_are_told_unless_more_are_wanted(
    told: Callable[..., Shown], journal: Journal
) -> None:
    for _ in range(25):
        journal.begin(ATTACH, Asked())
    assert len(json.loads(told("--json").out)["history"]) == 20
    assert len(json.loads(told("-n", "99", "--json").out)["history"]) == 25


def test_the_json_fits_its_schema_and_has_the_newest_first(
    told: Callable[..., Shown], journal: Journal
) -> None:
    rolled_back(journal)
    journal.before(journal.begin(RELEASE, Asked()), GiveBack(address=OTHER), {})
    journal.found(iter([ATTACH]), Asked())
    said = json.loads(told("--json").out)
    Draft202012Validator(schemas.load("history.schema.json")).validate(said)
    found, release, attach = said["history"]
    assert (found["outcome"], found["deeds"]) == ("found", [])
    assert (release["ended"], release["open"]) == (None, True)
    assert (release["deeds"][0]["seconds"], release["deeds"][0]["outcome"]) == (None, "cut off")
    assert (attach["number"], attach["domain"], attach["remedy"]) == (1, "pv1", "read its log")
    assert [deed["undoing"] for deed in attach["deeds"]] == [False, False, True]


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_damaged_journal_is_told_on_standard_error(
    told: Callable[..., Shown], journal: Journal, tmp_path: Path, option: tuple[str, ...]
) -> None:
    (tmp_path / "journal.db").write_text("no journal\n" * 99)
    shown = told(*option)
    assert shown.status == 0
    assert shown.err.startswith(f"cede: the journal {tmp_path / 'journal.db'} is damaged: ")
    assert journal.warnings
    assert shown.out.split() in (
        ["Nothing", "was", "done", "yet."],
        ["{", '"history":', "[]", "}"],
    )


def test_the_journal_is_closed_also_when_it_cannot_be_read(
    told: Callable[..., Shown], journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(journal, "close", lambda: closed.append(True))
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(PermanentError):
        told()
    assert closed == [True]
    monkeypatch.undo()
