"""`cede history`: what was done, as people read it and as JSON that fits its schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from cede.adapters.runtime import Runtime
from cede.cli.main import cli
from cede.commands.exit_status import Exit
from cede.errors import PermanentError
from cede.model.actions import BindToPciback, HotPlug, ReturnToDom0
from cede.model.pci import Address
from cede.model.plan import Change, Purpose
from cede.state.journal import Journal, Requester
from cede.util import schemas
from cede.util.paths import Paths
from sim.in_files import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sim.sys_tree import SysTree


NIC, OTHER = Address(0, 1, 0, 0), Address(0, 2, 0, 0)
BIND = BindToPciback(address=NIC, driver="e1000e")
PLUG = HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0")
ATTACH = Change(
    subject="nic0 -> pv1", purpose=Purpose.ATTACH, address=NIC, identity=None, actions=(BIND, PLUG)
)
RELEASE = Change(
    subject="release 0000:02:00.0",
    purpose=Purpose.RELEASE,
    address=OTHER,
    identity=None,
    actions=(ReturnToDom0(address=OTHER),),
)
REFUSED = PermanentError("libxl said no", name="attach-failed", remedy="read its log")


class Shown(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Its clock goes on by a minute whenever it is asked."""
    minutes = iter(range(999))
    begin = datetime(2026, 1, 31, 3, tzinfo=UTC)
    journal = Journal(
        Paths(root=tmp_path).journal, now=lambda: begin + timedelta(minutes=next(minutes))
    )
    yield journal
    journal.close()


@pytest.fixture
def reported(tree: SysTree, capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    """Runs `cede history` over the journal."""
    host = SimulatedHost(tree)

    def run(*arguments: str, runtime: Runtime | None = None) -> Shown:
        status = cli.main(
            ["history", *arguments], standalone_mode=False, obj=runtime or host.runtime()
        )
        return Shown(status, *capsys.readouterr())

    return run


def rolled_back(journal: Journal) -> None:
    task = journal.begin_change(ATTACH, Requester(command="cede apply", user="ann as root"))
    journal.end_action(journal.begin_action(task, BIND, {}), 0.51)
    journal.end_action(journal.begin_action(task, PLUG, {}), 12.0, REFUSED)
    journal.end_action(
        journal.begin_action(task, ReturnToDom0(address=NIC), {}, is_rollback=True), 3.04
    )
    journal.end_change(task, "rolled back", REFUSED)


def test_a_history_of_nothing_says_so(reported: Callable[..., Shown], tmp_path: Path) -> None:
    shown = reported()
    assert shown.status == 0
    assert json.loads(reported("--json").out) == {"history": []}
    assert not Paths(root=tmp_path).journal.exists()


def test_a_change_is_reported_with_its_requester_each_action_and_the_remedy(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    rolled_back(journal)
    head, asked, bound, plugged, why, back, remedy = reported().out.splitlines()
    assert head.split("  ") == ["2026-01-31T03:00:00.000+00:00", "nic0 -> pv1: rolled back"]
    assert all(part in asked for part in ("ann as root", "cede apply", str(NIC)))
    assert (str(BIND) in bound, "0.5 s" in bound) == (True, True)
    assert (str(PLUG) in plugged, "12.0 s" in plugged) == (True, True)
    assert why.strip() == REFUSED.message
    assert (str(ReturnToDom0(address=NIC)) in back, "3.0 s" in back) == (True, True)
    assert remedy.endswith(REFUSED.remedy)


def test_what_was_interrupted_is_reported_as_incomplete_with_its_requester_if_known(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    journal.begin_action(
        journal.begin_change(RELEASE, Requester()), ReturnToDom0(address=OTHER), {}
    )
    assert "incomplete" in reported().out.splitlines()[0]
    (release,) = json.loads(reported("--json").out)["history"]
    assert (release["requester"], release["command"], release["open"]) == ("", "", True)
    assert [action["seconds"] for action in release["actions"]] == [None]


def test_an_error_that_no_action_has_is_reported_at_the_end(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    journal.end_change(
        journal.begin_change(ATTACH, Requester()), "failed", PermanentError("it went")
    )
    assert reported().out.splitlines()[2:] == ["  it went"]


def test_the_newest_comes_last_as_in_a_log(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    rolled_back(journal)
    journal.begin_change(RELEASE, Requester())
    heads = [line for line in reported().out.splitlines() if line.startswith("2026")]
    assert [head.split("  ")[1].split(":")[0] for head in heads] == ["nic0 -> pv1", "release 0000"]
    assert "nic0" not in reported("-n", "1").out


@pytest.mark.parametrize(
    ("about", "found"),
    [("01:00.0", 1), ("pv1", 1), ("nic0", 1), ("release", 1), ("0000:0", 2), ("nosuch", 0)],
)
def test_only_what_was_about_that_is_reported(
    reported: Callable[..., Shown], journal: Journal, about: str, found: int
) -> None:
    rolled_back(journal)
    journal.begin_change(RELEASE, Requester())
    said = json.loads(reported(about, "--json").out)["history"]
    assert len(said) == found


def test_twenty_changes_are_reported_unless_more_are_asked_for(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    for _ in range(25):
        journal.begin_change(ATTACH, Requester())
    assert len(json.loads(reported("--json").out)["history"]) == 20
    assert len(json.loads(reported("-n", "99", "--json").out)["history"]) == 25


def test_the_json_fits_its_schema_and_has_the_newest_first(
    reported: Callable[..., Shown], journal: Journal
) -> None:
    rolled_back(journal)
    journal.begin_action(
        journal.begin_change(RELEASE, Requester()), ReturnToDom0(address=OTHER), {}
    )
    journal.record_found(iter([ATTACH]), Requester())
    said = json.loads(reported("--json").out)
    Draft202012Validator(schemas.load("history.schema.json")).validate(said)
    found, release, attach = said["history"]
    assert (found["outcome"], found["actions"]) == ("found", [])
    assert (release["ended"], release["open"]) == (None, True)
    assert (release["actions"][0]["seconds"], release["actions"][0]["outcome"]) == (
        None,
        "incomplete",
    )
    assert (attach["number"], attach["domain"], attach["remedy"]) == (1, "pv1", "read its log")
    assert [action["is_rollback"] for action in attach["actions"]] == [False, False, True]
    assert [change["error_name"] for change in said["history"]] == ["", "", "attach-failed"]
    assert [action["error_name"] for action in attach["actions"]] == ["", "attach-failed", ""]


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_damaged_journal_is_reported_on_standard_error(
    reported: Callable[..., Shown], tmp_path: Path, option: tuple[str, ...]
) -> None:
    path = Paths(root=tmp_path).journal
    path.parent.mkdir(parents=True)
    path.write_text("no journal\n" * 99)
    shown = reported(*option)
    assert shown.status == 0
    assert str(path) in shown.err
    if option:
        assert json.loads(shown.out) == {"history": []}


def test_the_journal_is_closed_also_when_it_cannot_be_read(
    reported: Callable[..., Shown], tree: SysTree
) -> None:
    closed: list[bool] = []

    class ClosedJournal(Journal):
        def close(self) -> None:
            closed.append(True)
            super().close()

    class HistoryRuntime(Runtime):
        def journal(self) -> Journal:
            return ClosedJournal(self.paths.journal)

    host = SimulatedHost(tree).runtime()
    host.paths.journal.mkdir(parents=True)
    runtime = HistoryRuntime(
        open_adapters=host.open_adapters, event_sources=host.event_sources, user=host.user,
        is_root=host.is_root, paths=host.paths,
    )  # fmt: skip
    assert reported(runtime=runtime).status == Exit.FAILED
    assert closed == [True]
