"""The benchmark's runner, on a host that only remembers what it was told to run."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from xenbench.calls import Calls, NoCallsError, count_calls, counted
from xenbench.courses import Course, Step
from xenbench.job import lines_of
from xenbench.memory import peak_kilobytes
from xenbench.runner import Done, Interrupted, Runner, ThisHost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CALL = (
    "2026-11-28 08:00:00.000+0000: 7: info : virNetServerClientDispatchRead:1215 :"
    " RPC_SERVER_CLIENT_MSG_RX: client=0x5 len=28 prog={prog} vers=1 proc=66 type={type} status=0 serial=1\n"
)
API, ADMIN = 536903814, 110101136
CONTRIB = Path(__file__).parents[2] / "contrib"
AGENT = {"start": ["start-agent"], "stop": ["stop-agent"], "unit": ""}


class FakeHost:
    """Remembers commands; `fails` are those that end with 1, `stops` the one during which an interrupt comes."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.watched: list[str] = []
        self.fails: set[str] = set()
        self.stops = ""
        self.stop = Event()

    def run(self, argv: Sequence[str], *, watched: bool = False) -> Done:
        self.ran.append(argv[0])
        if watched:
            self.watched.append(argv[0])
        if argv[0] == self.stops:
            self.stop.set()
        return Done(status=int(argv[0] in self.fails), seconds=2.0, stderr="why", peak_kilobytes=7)


def course(name: str, *, with_agent: bool = False) -> Course:
    steps = (Step(argv=(f"{name} in",), work="attach", by=name), Step(argv=(f"{name} out",)))
    return Course(name=name, steps=steps, undo=(f"{name} undo",), with_agent=with_agent)


def runner(host: FakeHost, lines: list[dict[str, Any]]) -> Runner:
    return Runner(host=host, put_out=lines.append, stop=host.stop, agent=AGENT)


def test_all_take_turns_and_the_first_round_is_counted_but_not_timed() -> None:
    host, lines = FakeHost(), list[dict[str, Any]]()
    runner(host, lines).rounds([course("a"), course("b")], 1)
    once = ["a in", "a out", "a undo"]
    other = ["b in", "b out", "b undo"]
    assert host.ran == [*once, *other, *other, *once]
    assert host.watched == ["a in", "b in"]
    assert [line["by"] for line in lines if "seconds" in line] == ["b", "a"]
    assert {line["peak_kilobytes"] for line in lines if "peak_kilobytes" in line} == {7}


def test_a_course_that_fails_is_reported_and_undone_and_the_others_go_on() -> None:
    host, lines = FakeHost(), list[dict[str, Any]]()
    host.fails = {"a in"}
    runner(host, lines).rounds([course("a"), course("b")], 1)
    assert "a out" not in host.ran
    assert host.ran.count("a undo") == 2
    assert [line for line in lines if "failed" in line] == [
        {"failed": "a: a in", "status": 1, "said": "why"}
    ] * 2
    assert [line["by"] for line in lines if "seconds" in line] == ["b"]


def test_memory_of_a_script_is_not_asked_for() -> None:
    host = FakeHost()
    step = Step(argv=("bash", "attach_virsh.sh"), work="attach", by="virsh")
    runner(host, []).rounds([Course(name="a", steps=(step,))], 0)
    assert host.watched == []


def test_course_that_measures_itself_is_not_run_to_count() -> None:
    host, lines = FakeHost(), list[dict[str, Any]]()
    found = Course(name="a", steps=(Step(argv=("a in",), reports=True),))
    runner(host, lines).rounds([found], 1)
    assert host.ran == ["a in"]


def test_what_could_not_be_undone_is_reported() -> None:
    host, lines = FakeHost(), list[dict[str, Any]]()
    host.fails = {"a undo"}
    runner(host, lines).rounds([course("a")], 1)
    assert {line["failed"] for line in lines if "failed" in line} == {"a: undoing"}


def test_after_an_interrupt_the_command_ends_its_course_is_undone_and_nothing_else_begins() -> None:
    host = FakeHost()
    host.stops = "a in"
    with pytest.raises(Interrupted):
        runner(host, []).rounds([course("a"), course("b")], 3)
    assert host.ran == ["a in", "a undo"]


def test_agent_runs_while_it_is_measured_and_never_else() -> None:
    host = FakeHost()
    runner(host, []).rounds([course("a"), course("c", with_agent=True), course("b")], 0)
    ran = [name for name in host.ran if name.endswith(("in", "agent"))]
    assert ran == ["a in", "b in", "start-agent", "c in", "stop-agent"]


def test_agent_is_stopped_after_an_interrupt_too() -> None:
    host = FakeHost()
    host.stops = "c in"
    with pytest.raises(Interrupted):
        runner(host, []).rounds([course("c", with_agent=True)], 0)
    assert host.ran == ["start-agent", "c in", "c undo", "stop-agent"]


def test_without_its_agent_a_course_is_not_measured() -> None:
    host, lines = FakeHost(), list[dict[str, Any]]()
    host.fails = {"start-agent"}
    runner(host, lines).rounds([course("c", with_agent=True)], 1)
    assert "c in" not in host.ran
    assert {line["failed"] for line in lines if "failed" in line} == {"starting the agent"}


def test_calls_are_counted_in_the_first_round_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(CALL.format(prog=API, type=0) * 3)

    @contextmanager
    def counting() -> Iterator[Calls]:
        calls = Calls(log)
        yield calls

    host, lines = FakeHost(), list[dict[str, Any]]()
    run = host.run

    def calling(argv: Sequence[str], *, watched: bool = False) -> Done:
        with log.open("a") as to:
            to.write(CALL.format(prog=API, type=0) * 5)
        return run(argv, watched=watched)

    host.run = calling  # type: ignore[method-assign]
    Runner(host=host, put_out=lines.append, counting=counting).rounds([course("a")], 1)
    assert [line["calls"] for line in lines if "calls" in line] == [5]


def test_only_calls_of_the_api_are_counted_and_no_events_nor_those_of_virt_admin() -> None:
    log = "".join(
        CALL.format(prog=prog, type=kind)
        for prog, kind in ((API, 0), (API, 2), (ADMIN, 0), (API, 0))
    )
    assert count_calls(log + "another line\n") == 2


class FakeAdmin:
    """virt-admin with the two settings; `refuses` the one that it doesn't change."""

    def __init__(self, refuses: str = "") -> None:
        self.settings = {"daemon-log-filters": "4:object", "daemon-log-outputs": "3:journald"}
        self.refuses = refuses

    def __call__(self, argv: Sequence[str]) -> str:
        name, *value = argv[3:]
        if not value:
            return f" Logging {name.rpartition('-')[2]}: {self.settings[name]}\n"
        if self.refuses and self.refuses in value[0]:
            raise NoCallsError("not today")
        self.settings[name] = value[0]
        return ""


def test_libvirtds_log_is_as_it_was_afterwards(tmp_path: Path) -> None:
    admin = FakeAdmin()
    before = dict(admin.settings)
    with counted(tmp_path / "log", admin):
        assert admin.settings["daemon-log-filters"] == "4:object 2:rpc.netserverclient"
        assert admin.settings["daemon-log-outputs"].startswith("3:journald 2:file:")
    assert admin.settings == before
    assert not (tmp_path / "log").exists()


def test_libvirtds_log_is_as_it_was_where_it_can_not_be_turned_on(tmp_path: Path) -> None:
    admin = FakeAdmin(refuses="2:file:")
    before = dict(admin.settings)
    with pytest.raises(NoCallsError), counted(tmp_path / "log", admin):
        raise AssertionError("it was counted all the same")
    assert admin.settings == before


def test_command_is_run_to_its_end_with_its_peak_of_memory() -> None:
    done = ThisHost().run(
        [sys.executable, "-c", "import sys; b = b'x' * 50_000_000; sys.exit(3)"], watched=True
    )
    assert done.status == 3
    assert done.peak_kilobytes is not None
    assert done.peak_kilobytes > 4_000


def test_process_that_is_gone_has_no_peak(tmp_path: Path) -> None:
    assert peak_kilobytes(1, tmp_path) is None


def test_job_is_done_by_a_runner_of_its_own_and_interrupted_by_a_signal(tmp_path: Path) -> None:
    """The real runner, whose second command waits until a signal has come, and is undone."""
    (undone := tmp_path / "undone").touch()
    waits = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(0.2)"
    steps = (
        Step(argv=("true",), work="attach", by="a"),
        Step(argv=(sys.executable, "-c", waits)),
        Step(argv=("touch", str(tmp_path / "never"))),
    )
    found = Course(name="a", steps=steps, undo=("rm", str(undone)))
    said: list[str] = []
    lines = lines_of(
        (sys.executable, "-m", "xenbench.runner"),
        [found],
        rounds=1,
        folder=str(tmp_path),
        agent={},
        environment={"PYTHONPATH": str(CONTRIB), "PATH": "/usr/bin:/bin"},
        say=said.append,
    )
    with pytest.raises(KeyboardInterrupt):
        list(lines)
    assert said[0] == "counting: a"
    assert not undone.exists()
    assert not (tmp_path / "never").exists()
