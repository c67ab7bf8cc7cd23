"""Carries out courses on the host that is measured, and prints one line of JSON for each figure.

`python3 -m xenbench.runner` reads its job, JSON, from standard input:

{"courses": [...], "rounds": N, "folder": DIR, "agent": {"start": [...], "stop": [...], "unit": NAME}}

Before the first round there is one in which memory and calls are counted and nothing is timed. An interrupt lets the
command that runs come to its end; then its course is undone, and nothing else is begun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from .calls import Calls, NoCallsError, counted
from .courses import Course, Step, from_json, in_turn
from .memory import Watch, peak_kilobytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130
STARTED = "XENBENCH_STARTED"
"""When the command was started, in the environment, for one that measures itself; by the monotonic clock."""

_STEP_SECONDS = 600
_WORDS = 400  # the end of what a failed command said


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended; `peak_kilobytes` only where it was watched."""

    status: int
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    peak_kilobytes: int | None = None


class Host(Protocol):
    """Where commands are run."""

    def run(self, argv: Sequence[str], *, watched: bool = False) -> Done:
        """Run a command to its end."""


class ThisHost:
    """The host that this process runs on."""

    def run(self, argv: Sequence[str], *, watched: bool = False) -> Done:
        """Run a command to its end, or kill it when it hangs."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        started = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment, STARTED: repr(started)},
            process_group=0,  # Ctrl-C is for this process alone
        )
        watch = Watch(process.pid) if watched else None
        try:
            stdout, stderr = process.communicate(timeout=_STEP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        return Done(
            status=process.returncode,
            seconds=time.monotonic() - started,
            stdout=stdout,
            stderr=stderr,
            peak_kilobytes=watch.peak() if watch else None,
        )


class Interrupted(Exception):  # noqa: N818 - an interrupt is no error
    """The rounds were to end."""


@dataclass(slots=True, kw_only=True)
class Runner:
    """The rounds.

    `put_out` is given each figure, note and failure as it comes; `counting` makes what counts libvirt's calls; once
    `stop` is set nothing is begun any more.
    """

    host: Host
    put_out: Callable[[dict[str, Any]], None]
    counting: Callable[[], AbstractContextManager[Calls | None]] = nullcontext
    agent: dict[str, Any] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)
    _agent_runs: bool = False

    def rounds(self, courses: Sequence[Course], rounds: int) -> None:
        """Run all courses once to count, and then `rounds` times to time them. Raises Interrupted."""
        with self.counting() as calls:
            self._round(courses, 0, calls)
        for number in range(1, rounds + 1):
            self._round(courses, number, None)

    def _round(self, courses: Sequence[Course], number: int, calls: Calls | None) -> None:
        try:
            for course in in_turn(courses, number):
                counts = number > 0 or not any(step.reports for step in course.steps)
                if counts and self._agent_as_needed(course):
                    turn = f"round {number}" if number else "counting"
                    self.put_out({"progress": f"{turn}: {course.name}"})
                    self._course(course, number, calls)
            self._agent_memory(number)
        finally:
            self._stop_agent()

    def _course(self, course: Course, number: int, calls: Calls | None) -> None:
        try:
            for step in course.steps:
                if self.stop.is_set():
                    raise Interrupted
                if not self._step(course, step, number, calls):
                    break
        finally:
            if course.undo:
                ended = self.host.run(course.undo)
                if ended.status != 0:
                    self._failed(f"{course.name}: undoing", ended)

    def _step(self, course: Course, step: Step, number: int, calls: Calls | None) -> bool:
        if calls is not None:
            calls.since_last()
        # a script's own memory says nothing of what it starts
        watched = number == 0 and bool(step.work) and step.argv[0] != "bash"
        done = self.host.run(step.argv, watched=watched)
        if done.status != step.status:
            self._failed(f"{course.name}: {' '.join(step.argv)}", done)
            return False
        if step.reports:
            for line in done.stdout.splitlines():
                self.put_out({"round": number, **json.loads(line)})
        if not step.work:
            return True
        figure: dict[str, Any] = {"round": number, "work": step.work, "by": step.by}
        if number > 0:
            figure["seconds"] = round(done.seconds, 4)
        else:
            figure["peak_kilobytes"] = done.peak_kilobytes
            figure["calls"] = calls.since_last() if calls is not None else None
        self.put_out(figure)
        return True

    def _failed(self, what: str, done: Done) -> None:
        said = (done.stderr.strip() or done.stdout.strip())[-_WORDS:]
        self.put_out({"failed": what, "status": done.status, "said": said})

    def _agent_as_needed(self, course: Course) -> bool:
        """Whether the agent runs or not, as the course needs it; one that isn't ours runs all the time."""
        if course.with_agent == self._agent_runs or not self.agent.get("start"):
            return True
        if not course.with_agent:
            self._stop_agent()
            return True
        self._agent_runs = True
        started = self.host.run(self.agent["start"])
        if started.status != 0:
            self._failed("starting the agent", started)
            self._stop_agent()
        return self._agent_runs

    def _stop_agent(self) -> None:
        if self._agent_runs:
            self._agent_runs = False
            self.host.run(self.agent["stop"])

    def _agent_memory(self, number: int) -> None:
        if not self.agent.get("unit"):
            return
        shown = self.host.run(("systemctl", "show", self.agent["unit"], "-P", "MainPID"))
        pid = shown.stdout.strip()
        if pid.isdecimal() and (peak := peak_kilobytes(int(pid))) is not None:
            self.put_out({"round": number, "agent_peak_kilobytes": peak})


def main() -> int:
    """Do the job; the exit status is INTERRUPTED after an interrupt, 1 if libvirtd's log can't be set back."""
    job = json.load(sys.stdin)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())

    def put_out(figure: dict[str, Any]) -> None:
        try:
            print(json.dumps(figure), flush=True)
        except BrokenPipeError:  # who asked is gone; what was begun is undone all the same
            stop.set()

    def counting() -> AbstractContextManager[Calls | None]:
        log = Path(job["folder"]) / "libvirtd.log"
        try:
            with counted(log):
                pass
        except NoCallsError as error:
            put_out({"note": f"libvirt's calls can't be counted: {error}"})
            return nullcontext()
        return counted(log)

    runner = Runner(
        host=ThisHost(), put_out=put_out, counting=counting, agent=job.get("agent", {}), stop=stop
    )
    try:
        runner.rounds([from_json(course) for course in job["courses"]], job["rounds"])
    except Interrupted:
        put_out({"note": "interrupted; what was begun is undone"})
        return INTERRUPTED
    except NoCallsError as error:
        put_out({"failed": "setting libvirtd's log back", "status": 1, "said": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
