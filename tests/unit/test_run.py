"""`cede run`: what it says to whom, its one lock, and a day's worth of passes on a host in memory."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.systemd_notify import Notify
from cede.adapters.linux.writer_lock import one_writer
from cede.cli import main as command_line
from cede.cli import run_command
from cede.daemon import host_passes
from cede.daemon.backoff import Backoff, Waiting, hold_back
from cede.daemon.event_log import EventReporter
from cede.errors import (
    FailureKind,
    HungError,
    PermanentError,
    PolicyError,
    TransientError,
    UnreachableError,
)
from cede.model.actions import LoadPciback
from cede.model.journal_state import Pause
from cede.model.plan import (
    ActionOutcome,
    Change,
    Deferred,
    Drifted,
    Outcome,
    Paused,
    Plan,
    Purpose,
    Refused,
    Satisfied,
    Why,
)
from cede.policy.policy_files import NO_POLICY
from cede.services.pass_report import Report
from cede.util.clock import Clock
from cede.util.log import NOTICE, LineFormatter, handler_for
from cede.util.text import one_line
from sim.faults import Among, Fault, Kind, Scheduled
from sim.guest import forget_domains
from sim.in_memory import MemoryJournal
from sim.libvirt import SimulatedLibvirt
from unit.conftest import descriptors
from unit.history_model import NIC, POLICIES
from unit.history_model import host as model_host
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.model.pci import Address
    from sim.in_files import SimulatedHost
    from sim.in_memory import MemoryHost

SUBJECT = "nic -> pv1"
WORK = Change(
    subject=SUBJECT, purpose=Purpose.ATTACH, address=NIC, identity=None, actions=(LoadPciback(),)
)
DRIFTED = Drifted(subject=SUBJECT, reason="another tool took it out")
PAUSED = Paused(subject=SUBJECT, pause=Pause(), reason="paused as pv1 by ann")
POLICY = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
assignments:
  - {device: nic0, domain: pv1, verify: {guest: none}}
"""


class Lines(io.StringIO):
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def said() -> Lines:
    return Lines()


@pytest.fixture
def log(said: Lines) -> logging.Logger:
    """A log as the daemon's, which pytest doesn't keep."""
    made, handler = logging.Logger("events", logging.INFO), handler_for(said, {})  # noqa: LOG001
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    handler.setFormatter(LineFormatter(now=lambda: now))
    made.addHandler(handler)
    return made


# -- the log


def test_on_a_terminal_a_line_has_its_time(log: logging.Logger, said: Lines) -> None:
    log.info("it runs")
    assert said.getvalue() == "03:04:05 it runs\n"


def test_to_journald_it_has_its_priority_and_no_time(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        found = os.fstat(stream.fileno())
        named = f"{found.st_dev}:{found.st_ino}"
        levels = (logging.DEBUG, logging.INFO, NOTICE, logging.WARNING, logging.ERROR)
        for where, some in ((named, levels), ("1:2", (logging.WARNING,))):
            handler = handler_for(stream, {"JOURNAL_STREAM": where})
            for level in some:
                handler.handle(logging.LogRecord("cede", level, "", 0, "no", (), None))
    *lines, last = (tmp_path / "out").read_text().splitlines()
    assert lines == ["<7>no", "<6>no", "<5>no", "<4>no", "<3>no"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d no", last)


def test_whoever_spoke_a_line_of_the_log_is_one_and_no_terminal_obeys_it(
    log: logging.Logger, said: Lines
) -> None:
    log.warning("%s", "a\n<0>b\n\x1b[2Jc\0")
    assert said.getvalue() == "03:04:05 a | <0>b | ?[2Jc?\n"


def test_whoever_spoke_it_is_one_line_and_no_terminal_obeys_it() -> None:
    assert one_line("a\n  b\n\x1b[2Jc\0") == "a | b | ?[2Jc?"
    assert len(one_line("x" * 10**6)) == 1000


def test_what_stays_as_it_was_is_said_once(log: logging.Logger, said: Lines) -> None:
    event_reporter = EventReporter(log)
    idle = Report.of(Plan(decisions=(Satisfied(subject=SUBJECT, why=Why.IN_PLACE, reason="x"),)))
    refused = Report.of(
        Plan(
            decisions=(
                Refused(
                    subject=SUBJECT,
                    rule="host-needs-it",
                    kind=FailureKind.UNSAFE,
                    reason="guarded",
                    remedy="x",
                ),
            )
        )
    )
    states = [event_reporter.report(r, (), str) for r in (idle, idle, refused, refused, idle)]
    first, second, third = (line.partition(f" {SUBJECT}: ")[2] for line in said.lines())
    assert first == third != second
    assert all(part in second for part in ("guarded", "x)"))
    assert [(state.split()[0], SUBJECT in state) for state in states[1:3]] == [
        ("1", False),
        ("0", True),
    ]


def test_drift_that_is_only_to_be_reported_is_reported_and_is_not_in_sync(
    log: logging.Logger, said: Lines
) -> None:
    event_reporter = EventReporter(log)
    states = [
        event_reporter.report(Report.of(Plan(decisions=(decision,))), (), str)
        for decision in (DRIFTED, DRIFTED, PAUSED)
    ]
    assert [line.partition(": ")[2] for line in said.lines()] == [DRIFTED.reason, PAUSED.reason]
    assert [(state.split()[0], SUBJECT in state) for state in states] == [
        ("0", True),
        ("0", True),
        ("1", False),
    ]


def test_why_something_is_put_back_is_reported_before_it_is_done(
    log: logging.Logger, said: Lines
) -> None:
    change = replace(WORK, purpose=Purpose.RESTORE, reason="another tool took it out")
    event_reporter = EventReporter(log)
    event_reporter.action(change, change.actions[0])
    event_reporter.action(change, ActionOutcome(action=change.actions[0], seconds=0.5))
    why, done = said.lines()
    assert why.endswith(f"{SUBJECT}: {change.reason}")
    assert f"{SUBJECT}: {LoadPciback()}" in done


def test_a_failure_is_reported_with_its_remedy_and_the_next_try(
    log: logging.Logger, said: Lines
) -> None:
    error = PermanentError("libxl said no", remedy="read its log")
    done = Report.of(Plan(decisions=(WORK,)), (Outcome(change=WORK, error=error),))
    waiting = Waiting(subject=SUBJECT, reason="it failed once", until=7.0)
    event_reporter = EventReporter(log)
    event_reporter.action(WORK, LoadPciback())
    event_reporter.action(WORK, ActionOutcome(action=LoadPciback(), seconds=0.5, error=error))
    event_reporter.report(done, (waiting,), lambda at: f"at {at:.0f}")
    action, state = said.lines()
    assert all(
        part in action for part in (str(LoadPciback()), "0.5 s", error.message, error.remedy)
    )
    assert waiting.reason in state
    assert state.endswith("at 7")


def test_the_lines_of_the_log_are_the_golden_ones(
    log: logging.Logger, said: Lines, golden: Callable[[str, str], None]
) -> None:
    """What the screens of `cede run` are: its log, and the state that systemd shows."""
    event_reporter = EventReporter(log)
    states: list[str] = []

    def report(title: str, done: Report, *waiting: Waiting) -> None:
        said.write(f"== {title}\n")
        states.append(event_reporter.report(done, waiting, lambda at: f"at {at:.0f}"))
        said.write(f"state: {states[-1]}\n")

    error = PermanentError("libxl said no", remedy="read its log")
    report(
        "in sync",
        Report.of(
            Plan(decisions=(Satisfied(subject=SUBJECT, why=Why.IN_PLACE, reason="in sync"),))
        ),
    )
    report("refused", Report.of(Plan(decisions=(Refused(
        subject=SUBJECT, rule="host-needs-it", kind=FailureKind.UNSAFE, reason="guarded", remedy="x",
    ),))))  # fmt: skip
    report("drifted", Report.of(Plan(decisions=(DRIFTED,))))
    report("paused", Report.of(Plan(decisions=(PAUSED,))))
    waits = Deferred(subject=SUBJECT, action_required="restart pv1", reason="it is in")
    report("waiting for the guest's restart", Report.of(Plan(decisions=(waits,))))
    said.write("== actions\n")
    event_reporter.action(WORK, WORK.actions[0])
    for outcome in (
        ActionOutcome(action=WORK.actions[0], seconds=0.5),
        ActionOutcome(action=WORK.actions[0], seconds=0.5, error=error),
        ActionOutcome(action=WORK.actions[0], seconds=0.5, is_rollback=True),
    ):
        event_reporter.action(WORK, outcome)
    waiting = Waiting(subject=SUBJECT, reason="it failed once", until=7.0)
    failed = Report.of(Plan(decisions=(WORK,)), (Outcome(change=WORK, error=error),))
    report("failed", failed, waiting)
    stuck = Outcome(change=WORK, error=error, rollback_failed=HungError("it hangs"))
    report("failed, and not taken back", Report.of(Plan(decisions=(WORK,)), (stuck,)))
    golden("run.txt", said.getvalue())


# -- one daemon, one writer


def test_a_second_one_is_refused_and_reported_of_the_first(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with (
        one_writer("`cede run` (pid 7)", path=host.paths.run_lock),
        pytest.raises(SystemExit) as ended,
    ):
        command_line.main(["run", "-f", str(policy)], host.runtime())
    shown = capsys.readouterr().err
    assert (ended.value.code, "`cede run` (pid 7)" in shown) == (1, True)
    assert "`systemctl status cede`" in shown


def test_without_a_right_policy_it_does_not_begin(
    host: SimulatedHost, tmp_path: Path, log: logging.Logger
) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(PolicyError):
        run_command.serve(host.runtime(), missing, 300.0, log, Notify({}))
    found = host.written.conditions(str(missing))
    known = {str(one.type): (one.status, one.reason) for one in found}
    assert known["PolicyValid"] == ("False", "Wrong")
    assert known["LibvirtReachable"] == ("Unknown", "NotLooked"), "nobody has asked it yet"


def test_a_host_that_has_no_policy_yet_wants_nothing_and_has_nothing_taken_back(
    host: SimulatedHost,
) -> None:
    read = run_command.policy_reader(None, host.runtime(), optional=True)
    assert read() == NO_POLICY
    assert NO_POLICY.keeps_unmentioned
    own = host.paths.policy
    own.parent.mkdir(parents=True)
    own.write_text(POLICY)
    assert [one.device for one in read().assignments] == ["nic0"]
    own.unlink()
    with pytest.raises(PolicyError):  # so that the last valid one goes on
        read()
    with pytest.raises(PolicyError):
        run_command.policy_reader(None, host.runtime(), optional=False)()


class Manager:
    """systemd's end of the socket, which remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def adapter(self) -> Notify:
        made = Notify({"WATCHDOG_USEC": "1000000"})
        made._send = self.heard.append  # type: ignore[method-assign,assignment]
        return made


def _eventually(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not question() and time.monotonic() < end:
        time.sleep(0.01)


def test_it_starts_restores_reloads_and_stops(
    host: SimulatedHost, tmp_path: Path, log: logging.Logger, said: Lines
) -> None:
    """With its own signals, in its own order: ready, in sync, reloading, ready, stopping."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    manager = Manager()
    lines: list[list[str]] = []

    def person() -> None:
        _eventually(lambda: "nic0 -> pv1: in sync" in said.getvalue())
        lines.append(said.lines())
        os.kill(os.getpid(), signal.SIGHUP)
        _eventually(lambda: manager.heard.count("READY=1") >= 2)
        os.kill(os.getpid(), signal.SIGTERM)

    hands = threading.Thread(target=person)
    hands.start()
    run_command.serve(host.runtime(clock=Clock()), policy, 300.0, log, manager.adapter())
    hands.join()
    assert any("hot-plug 0000:01:00.0" in line and "done" in line for line in lines[0])
    order = [word.partition("=")[0] for word in manager.heard if not word.startswith("STATUS")]
    assert order[-1] == "STOPPING"
    assert (
        order.index("READY")
        < order.index("RELOADING")
        < len(order) - 1 - order[::-1].index("READY")
    )
    assert "WATCHDOG" in order
    assert any(word.startswith("STATUS=1 of 1 ") for word in manager.heard)
    assert host.opened == ["xen:///system"], "the adapters stay open from pass to pass"
    entry = host.written.history(most=1)[0]
    assert entry.command.startswith("cede run (")


def test_what_keeps_it_from_a_pass_is_reported_once_until_it_is_another_thing(
    passes: host_passes.HostPasses, log: logging.Logger, said: Lines
) -> None:
    manager = Manager()
    reporter = host_passes.HostReporter(
        log=log,
        notify=manager.adapter(),
        event_reporter=passes.event_reporter,
        passes=passes,
        source="p",
    )
    away, busy = (
        UnreachableError("libvirt is away", remedy="start it"),
        TransientError("`cede apply` (pid 7) is running"),
    )
    for _ in range(3):
        reporter.failed(away, 4.0)
    reporter.failed(busy, 1.0)
    reporter.passed(Report.of(Plan()), ())
    first, second, _again = said.lines()
    assert (away.message in first, away.remedy in first) == (True, True)
    assert busy.message in second
    assert manager.heard[0].startswith(f"STATUS={away.message}; ")
    assert "4 s" in manager.heard[0]


# -- passes


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MemoryHost]:
    journal = MemoryJournal(tmp_path)
    yield model_host(journal)
    journal.close()


@pytest.fixture
def passes(made: MemoryHost, log: logging.Logger) -> host_passes.HostPasses:
    return host_passes.HostPasses(
        runtime=made.runtime(), stop=threading.Event(), event_reporter=EventReporter(log), alive=lambda: None,
        log=log,
    )  # fmt: skip


def _once(passes: host_passes.HostPasses) -> Report:
    with passes(POLICIES["A"], "timer") as current:
        report = current.carry_out(current.plan, ())
        current.record(report, {})
    return report


@pytest.mark.parametrize(
    ("kind", "error"), [(Kind.DIES, UnreachableError), (Kind.HANGS, HungError)]
)
def test_after_a_failure_the_adapters_are_opened_anew(
    passes: host_passes.HostPasses, made: MemoryHost, kind: Kind, error: type[Exception]
) -> None:
    _once(passes)
    first = passes._adapters
    _once(passes)
    assert passes._adapters is first
    made.gate.start([Scheduled(Fault(kind), Among.CALLS, 0)])
    with pytest.raises(error):
        _once(passes)
    assert passes._adapters is None
    _once(passes)
    assert not made.cards[NIC].at_home


def test_another_cede_that_is_running_is_waited_for_with_the_adapters_open(
    passes: host_passes.HostPasses,
) -> None:
    _once(passes)
    adapters = passes._adapters
    with (
        one_writer("`cede apply` (pid 7)", path=passes.runtime.paths.lock),
        raises(TransientError, "another-cede", "`cede apply` (pid 7)"),
    ):
        _once(passes)
    assert passes._adapters is adapters
    _once(passes)


def _known(made: MemoryHost, kind: str, subject: str = SUBJECT) -> tuple[str, str, str, str]:
    (found,) = [
        one
        for one in made.written.conditions("policy.yaml")
        if (one.subject, one.type) == (subject, kind)
    ]
    return found.status, found.reason, found.message, found.next_try


def _in_seconds(made: MemoryHost, next_try: str) -> float:
    return (datetime.fromisoformat(next_try) - made.time.today).total_seconds()


class LibvirtWithoutPciback(SimulatedLibvirt):
    def bind_to_pciback(self, address: Address) -> None:
        raise PermanentError(f"libxl said no to {address}")


def test_what_failed_is_recorded_with_its_next_try_and_stays_so_while_it_waits(
    passes: host_passes.HostPasses, made: MemoryHost
) -> None:
    backoff, now = Backoff(), made.time.elapsed

    def failed(report: Report) -> dict[str, float]:
        for outcome in report.outcomes:
            if outcome.error is not None:
                backoff.failed(outcome.change.subject, outcome.error.message, now)
        return backoff.next_tries(now)

    def one_pass(why: str) -> Report:
        with passes(POLICIES["A"], why) as current:
            waiting = {one.subject: one.reason for one in backoff.waiting(now)}
            report = current.carry_out(hold_back(current.plan, waiting), ())
            current.record(report, failed(report))
        return report

    passes._adapters = replace(made.adapters(), libvirt=LibvirtWithoutPciback(made))
    one_pass("timer")
    passes.close()
    for _ in range(2):
        status, reason, message, next_try = _known(made, "InSync")
        assert (status, reason, message) == ("False", "Failed", f"libxl said no to {NIC}")
        assert _in_seconds(made, next_try) == 5.0
        done = one_pass("xenstore")
        assert done.outcomes == (), "it waits"
    backoff.forget()
    one_pass("reload")
    assert _known(made, "InSync") == ("True", "AsAssigned", "", "")


def test_a_policy_that_is_wrong_meanwhile_is_a_condition_of_the_host_until_it_is_right(
    passes: host_passes.HostPasses, made: MemoryHost
) -> None:
    wrong = PolicyError("policy.yaml:2:1: unknown: devcies")
    passes.rejected = lambda: wrong
    _once(passes)
    assert _known(made, "PolicyValid", "") == ("False", "Wrong", wrong.message, "")
    assert _known(made, "InSync")[0] == "True", "the last right one is followed"
    passes.rejected = lambda: None
    _once(passes)
    assert _known(made, "PolicyValid", "") == ("True", "Read", "", "")


def test_a_libvirt_that_is_away_is_a_condition_of_the_host_with_its_next_try(
    passes: host_passes.HostPasses, made: MemoryHost, log: logging.Logger
) -> None:
    reporter = host_passes.HostReporter(
        log=log,
        notify=Notify({}),
        event_reporter=passes.event_reporter,
        passes=passes,
        source="policy.yaml",
    )
    reporter.failed(HungError("looking at the host hangs"), 60.0)
    status, reason, message, next_try = _known(made, "LibvirtReachable", "")
    assert (status, reason, message) == ("False", "Unreachable", "looking at the host hangs")
    assert _in_seconds(made, next_try) == 60.0
    _once(passes)
    assert _known(made, "LibvirtReachable", "") == ("True", "Answers", "", "")


def _taken_out(made: MemoryHost) -> None:
    """`virsh detach-device --live`, of what cede gave."""
    if NIC in made.backend:
        made.detach_device(made.cards[NIC], made.guests["pv1"], config=False)


@pytest.mark.no_cover  # each pass does what other tests have it do
def test_many_passes_with_drift_leave_memory_descriptors_and_threads_as_they_were(
    passes: host_passes.HostPasses,
    made: MemoryHost,
    said: Lines,
    monkeypatch: pytest.MonkeyPatch,
    soak: bool,
) -> None:
    """As the timer makes them in days; in every tenth something had been taken out behind its back."""
    # where coverage is measured, a tracer of each thread that ever ran is kept
    monkeypatch.setattr(threading, "_trace_hook", None)

    def make(number: int) -> None:
        for turn in range(number):
            if turn % 10 == 0:
                _taken_out(made)
            made.pauses()
            _once(passes)

    def settled() -> int:
        said.seek(0)
        said.truncate()  # what the test itself keeps of the log
        made.journal.clear()
        forget_domains()  # the host's own, which has a new one each time
        return gc.collect()

    make(50)
    settled()
    threads, files, objects = threading.active_count(), descriptors(), len(gc.get_objects())
    make(1500 if soak else 300)
    settled()
    assert len(gc.get_objects()) - objects < 100
    tracemalloc.start()
    try:
        make(50)
        settled()
        before = tracemalloc.get_traced_memory()[0]
        make(350)
        settled()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 50_000, f"{grown} bytes in 350 passes"
    assert (threading.active_count(), descriptors()) <= (threads, files)
    assert len(made.written.history(most=10_000)) > 60, "there was something to do"


def test_what_the_daemon_is_made_of_leaves_room_below_sixty_four_megabytes(tmp_path: Path) -> None:
    """All its modules, the agent's too, and those that a pass loads, in a fresh process, with a policy read.

    They are compiled before, as those of a package are: compiling takes memory that Python keeps.
    """
    script = (
        "import sys, pathlib\n"
        "import cede.cli.main, cede.cli.run_command, cede.adapters.composition, cede.api.agent\n"
        "import cede.adapters.libvirt.connection, cede.adapters.libvirt.domain_events\n"
        "import sqlite3, tenacity\n"
        "from cede.domain_xml import document\n"
        "from cede.policy import policy_files\n"
        "policy_files.parse(sys.argv[1], 'policy.yaml')\n"
        "status = pathlib.Path('/proc/self/status').read_text().split('VmRSS:')[1]\n"
        "print(status.split()[0])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    env |= {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    _, resident = (
        subprocess.run(
            [sys.executable, "-c", script, POLICY],
            capture_output=True,
            text=True,
            check=True,
            env=env,
        ).stdout
        for _ in range(2)
    )
    assert int(resident) < 58_000
