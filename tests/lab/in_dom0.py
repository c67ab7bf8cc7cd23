"""Runs cede in dom0, with faults at named points; this file is sent to dom0 and stays there while a lab is up.

`python3 in_dom0.py FOLDER` answers one request after the other: JSON comes through the pipe FOLDER/ask and leaves
through FOLDER/answer.

{"do": "points", "argv": [...]}                     the names of the points that a run of cede passes, in order
{"do": "run", "argv": [...], "at": NAME, "act": SHELL}   one run, with a shell command at the moment that has that name
{"do": "guest", "domain": NAME, "command": SHELL}   what a command typed into a guest's console printed
{"do": "state", "wanted": TEXT, "patience": N}       all that cede could change, once as wanted, or after N seconds
{"do": "kill", "cycles": [[NAME or SECONDS, ...], ...]}  apply is killed at the first, release at the second, and mended
{"do": "kill", "cycles": [[NAME, ...], ...], "agent": true}  the same with the agent that each asks

Each run is a child that was forked when everything was imported, so it costs what cede does and not what Python does.
A point is named for what comes next or has just been done: `after before: seize ...`, `before xl ...`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import click
import jsonschema  # noqa: F401 - so that no child has to
import libvirt

import cede.cli.main
from cede.adapters.composition import host_runtime
from cede.adapters.libvirt.connection import Libvirt
from cede.api.agent import Agent, serving
from cede.commands.catalog import COMMANDS
from cede.commands.exit_status import Exit
from cede.errors import CedeError
from cede.guest.channels.console_channel import ConsoleChannel
from cede.util.clock import CALL_SECONDS, ThreadTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Adapters
    from cede.adapters.runtime import LibvirtAccess, Runtime

_T = TypeVar("_T")
GUESTS = ("pv1", "pv2", "pv3", "pv4", "hvm1")
LONGEST = 240.0
SOCKET = Path("/run/cede/cede.sock")
JOURNAL = (
    "begin_change",
    "begin_action",
    "end_action",
    "end_change",
    "forget_original_state",
    "mark_complete",
    "hold",
)


class Points:
    """What is passed, by name; `act` is done once, at the point called `at`."""

    def __init__(self, at: str = "", act: Callable[[], object] = lambda: None) -> None:
        self.at, self.act = at, act
        self.passed: list[str] = []
        self._begun: list[str] = []  # one entry for each change that is being executed

    def hit(self, name: str) -> None:
        """Pass the point of that name; the same name is numbered."""
        number = sum(passed.rpartition(" #")[0] == name for passed in self.passed) + 1
        name = f"{name} #{number}"
        self.passed.append(name)
        if name == self.at:
            self.act()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with a point before and after it."""

        def wrapped(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - as the call
            self.hit(f"before {name}")
            result = call(*arguments, **named)
            self.hit(f"after {name}")
            return result

        return wrapped

    def runtime(self, of: Runtime | None = None) -> Runtime:
        """That of this host, or `of` another, with which cede passes the points."""
        runtime = of or host_runtime()
        return replace(runtime, open_adapters=partial(self._opened, runtime))

    @contextmanager
    def _opened(self, of: Runtime, runtime: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
        with of.open_adapters(runtime, access) as adapters:
            for method in JOURNAL:
                call = self.around(f"journal.{method}", getattr(adapters.journal, method))
                setattr(adapters.journal, method, self._counted(method, call))
            yield replace(adapters, timeouts=PointedTimeouts(self))

    def _counted(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, which may begin or end a change."""

        def counted(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - as the call
            try:
                result = call(*arguments, **named)
            finally:
                if method == "end_change":
                    self._begun.pop()
            if method == "begin_change":
                self._begun.append(method)
            return result

        return counted

    @property
    def executing(self) -> bool:
        """Whether a change was begun and has not ended: what is called meanwhile is called for an action."""
        return bool(self._begun)


class PointedTimeouts(ThreadTimeouts):
    """The calls that are made for actions are points."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def call(
        self,
        what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,
        waiting: Callable[[], None] = lambda: None,
    ) -> _T:
        """As the real one does it."""
        if not self._points.executing:
            return super().call(what, call, seconds=seconds, waiting=waiting)
        result: _T = self._points.around(what, super().call)(
            what, call, seconds=seconds, waiting=waiting
        )
        return result


def _import_commands() -> None:
    """So that no child has to."""
    context = click.Context(cede.cli.main.cli)
    for name in cede.cli.main.cli.list_commands(context):
        cede.cli.main.cli.get_command(context, name)
    import_module("cede.commands.perform")
    for command in COMMANDS.values():
        import_module(command.module)


def in_child(
    call: Callable[[], object], passed: Callable[[], object] = list, after: float = LONGEST
) -> dict[str, Any]:
    """Call in a child, killed `after` so many seconds; its status, output and what it passed."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        tempfile.TemporaryFile("w+") as names,
    ):
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            try:
                call()
            except SystemExit as ended:
                sys.stdout.flush()
                names.write(json.dumps(passed()))
                names.flush()
                os._exit(int(ended.code or 0))
            finally:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(99)
        timer = threading.Timer(after, os.kill, (pid, signal.SIGKILL))
        timer.start()
        _, status = os.waitpid(pid, 0)
        timer.cancel()
        timer.join()
        took = time.monotonic() - started
        for file in (out, err, names):
            file.seek(0)
        written = names.read()
        return {
            "status": os.waitstatus_to_exitcode(status),
            "out": out.read(),
            "err": err.read(),
            "seconds": round(took, 2),
            "passed": json.loads(written) if written else [],
        }


def cede_run(
    argv: list[str], points: Points | None = None, after: float | None = None
) -> dict[str, Any]:
    """Run cede in a child, killed `after` so many seconds if that is said; its status, output and points passed."""

    def run() -> None:
        # the points are of this process, whether an agent runs or not
        cede.cli.main.main(["--no-agent", *argv], points.runtime() if points is not None else None)

    return in_child(
        run, lambda: points.passed if points else [], LONGEST if after is None else after
    )


class Agents:
    """Agents at the socket, one after the other, in a child that does for them what systemd does.

    The first one is killed at the point `where`. The socket outlives it, and the next one serves who asks then.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self.killed = 0

    def __enter__(self) -> Self:
        SOCKET.parent.mkdir(exist_ok=True)
        SOCKET.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(SOCKET))
            listening.listen()
            self._pid = os.fork()
            if self._pid == 0:
                _in_end(lambda: self._supervise(listening))
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGTERM)
        status = os.waitpid(self._pid, 0)[1]
        SOCKET.unlink()
        self.killed = os.waitstatus_to_exitcode(status)

    def _supervise(self, listening: socket.socket) -> int:
        """Return how many were killed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        points = Points(self._where, lambda: os.kill(os.getpid(), signal.SIGKILL))
        agent, killed = self._start(listening, points.runtime()), 0
        while signal.sigwait({signal.SIGTERM, signal.SIGCHLD}) == signal.SIGCHLD:
            _, status = os.waitpid(agent, 0)
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            agent, killed = self._start(listening, host_runtime()), killed + 1
        os.kill(agent, signal.SIGTERM)
        os.waitpid(agent, 0)
        return killed

    def _start(self, listening: socket.socket, runtime: Runtime) -> int:
        pid = os.fork()
        if pid == 0:
            _in_end(lambda: self._serve(listening, runtime))
        return pid

    def _serve(self, listening: socket.socket, runtime: Runtime) -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        with serving(Agent(runtime, policy=""), [("cede.socket", listening.dup())]):
            signal.sigwait({signal.SIGTERM})
        return 0


def _in_end(call: Callable[[], int]) -> NoReturn:
    """Call as the last thing that this process, a child, does."""
    try:
        os._exit(call())
    finally:
        traceback.print_exc()
        os._exit(99)


def in_guest(domain: str, command: str) -> dict[str, Any]:
    """Type a command into a guest's console, as a person would; in a child, as it leaves threads of libvirt behind."""

    def typed() -> None:
        try:
            with Libvirt("xen:///system").console(domain) as line:
                asked = ConsoleChannel(line)
                sys.stdout.write(asked.run(command, seconds=60))
                asked.leave()
        except CedeError as failed:
            sys.stderr.write(f"{domain}: {failed.message}\n")
            raise SystemExit(1) from failed
        raise SystemExit(0)

    return in_child(typed)


def state() -> str:
    """All that cede could change: drivers, overrides, slots, links, every domain's XML, xenstore's backend."""
    script = (
        "cd /sys/bus/pci/devices; find */driver -printf '%h %l\\n'; grep . */driver_override;"
        " cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null;"
        " ip -br link | sed 's/ .*<\\|>//g' | sort; ip -br addr | sort;"
        " xenstore-ls -f /local/domain/0/backend/pci 2>/dev/null | grep /dev-"
    )
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout
    connection = libvirt.open("xen:///system")
    for name in GUESTS:
        domain = connection.lookupByName(name)
        live = domain.XMLDesc() if domain.isActive() else "off"
        said += live + domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    connection.close()
    # fe80 comes and goes a moment later
    return re.sub(r" ?fe80\S+", "", said)


def settle_state(wanted: str, seconds: float = 10) -> str:
    """The state, once it is as wanted; or what it is at the end."""
    until = time.monotonic() + seconds
    found = state()
    while found != wanted and time.monotonic() < until:
        time.sleep(0.3)
        found = state()
    return found


def kill_cycles(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Do one cycle after the other; each begins with the state in which the one before was seen to end."""
    found: list[dict[str, Any]] = []
    before = state()
    for kills in request["cycles"]:
        reported, before = kill_cycle(
            kills, request["policy"], request["device"], before, agent=request.get("agent", False)
        )
        found.append(reported)
    return found


def kill_cycle(
    kills: list[str | float], policy: str, device: str, before: str, *, agent: bool
) -> tuple[dict[str, Any], str]:
    """Kill apply at the first and release at the second, or the `agent` that each asks; what comes then must fix it.

    A killed apply is mended by an apply. A killed release too, if it was killed at a point that has a name; else by a
    release. The end must be what was `before`; it is returned, too.
    """
    apply = ["apply", "--yes", "-f", policy]
    release = ["release", device, "-f", policy]
    said, statuses, killed = [], [], []
    for argv, where in zip((apply, release), kills, strict=True):
        if agent and isinstance(where, str):
            with Agents(where) as agents:
                runs = [cede_run(["--agent", *words]) for words in (argv, apply)]
            killed.append(agents.killed == 1 and runs[0]["status"] == Exit.TRY_LATER)
        else:
            runs = [_killed_run(argv, where)]
            killed.append(runs[0]["status"] == -signal.SIGKILL)
            if argv is apply or isinstance(where, str):
                runs.append(cede_run(apply))
        statuses += [run["status"] for run in runs[1:]]
        said += [run["out"] + run["err"] for run in runs]
    released = cede_run(release)
    statuses.append(released["status"])
    said.append(released["out"] + released["err"])
    subprocess.run(["modprobe", "-r", "xen-pciback"], capture_output=True, check=False)
    after = settle_state(before)
    reported: dict[str, Any] = {
        "kills": kills,
        "killed": killed,
        "mended": not any(statuses) and after == before,
    }
    if not reported["mended"]:
        changed = set(after.splitlines()) ^ set(before.splitlines())
        reported |= {"statuses": statuses, "said": said, "changed": sorted(changed)[:40]}
    return reported, after


def _killed_run(argv: list[str], where: str | float) -> dict[str, Any]:
    if isinstance(where, str):
        return cede_run(argv, Points(where, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    return cede_run(argv, after=where)


def answer(request: dict[str, Any]) -> object:
    """What the request asks for."""
    match request["do"]:
        case "points":
            return cede_run(request["argv"], Points())["passed"]
        case "run":
            act = request.get("act", "")
            points = Points(
                request.get("at", ""), lambda: subprocess.run(["sh", "-c", act], check=False)
            )
            return cede_run(request["argv"], points if act else None)
        case "guest":
            return in_guest(request["domain"], request["command"])
        case "state":
            return settle_state(request.get("wanted", ""), request.get("patience", 0.0))
        case "kill":
            return kill_cycles(request)
        case unknown:
            raise ValueError(f"can't do {unknown}")


def main() -> None:
    """Answer for as long as dom0 runs."""
    folder = Path(sys.argv[1])
    _import_commands()
    while True:
        request = json.loads((folder / "ask").read_text())
        try:
            reported: dict[str, object] = {"answer": answer(request)}
        except Exception:  # noqa: BLE001 - whoever asked is told
            reported = {"failed": traceback.format_exc()}
        (folder / "answer").write_text(json.dumps(reported))


if __name__ == "__main__":
    main()
