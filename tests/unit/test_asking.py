"""Who performs a command: the agent where it answers and has the same version, else this process, or as is said."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cede import __version__
from cede.api.messages import JSON_LINES, Request, Response
from cede.api.problems import RequestError
from cede.cli import main as command_line
from cede.util.paths import Paths
from unit.http_server import serving
from unit.test_cli import NIC, Shown, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.runtime import Runtime
    from sim.in_files import SimulatedHost

__all__ = ["policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPaths(Paths):
    """Those of a host below a folder whose name is too long for a socket's (unix(7): 108 bytes)."""

    near: Path

    @property
    def agent_socket(self) -> Path:
        return self.near / "cede.sock"


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="cede-") as folder:
        yield Path(folder)


def reached_at(near: Path, runtime: Runtime) -> Runtime:
    """The runtime of a command that would ask the agent in that folder."""
    return replace(runtime, paths=NearPaths(root=runtime.paths.root, near=near))


@dataclass
class Agent:
    """Answers with these events, and remembers what it was asked."""

    events: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    version: str = __version__

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.headers.get("cede-version", self.version) != self.version:
            raise RequestError(
                "another", name="other-version", status=HTTPStatus.PRECONDITION_FAILED
            )
        body = b"".join(json.dumps(event).encode() + b"\n" for event in self.events)
        return Response(status=200, content_type=JSON_LINES, body=body)


@pytest.fixture
def cede(
    host: SimulatedHost,
    policy: Path,
    near: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Shown]:
    """Runs `cede ARGUMENTS` on the host, with the policy as its own."""
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    host.paths.policy.parent.mkdir(parents=True)
    policy.rename(host.paths.policy)

    def run(*arguments: str) -> Shown:
        with pytest.raises(SystemExit) as ended:
            command_line.main(list(arguments), reached_at(near, host.runtime()))
        return Shown(int(str(ended.value.code)), *capsys.readouterr())

    return run


def events(*texts: tuple[str, str], status: int = 0) -> list[dict[str, Any]]:
    every: list[dict[str, Any]] = [{"kind": kind, "text": text} for kind, text in texts]
    every.append({"kind": "end", "exit": status, "digest": "", "error": None})
    return [{"n": number, **event} for number, event in enumerate(every, 1)]


def test_the_agent_is_asked_where_it_answers_and_what_it_says_is_passed_on(
    cede: Callable[..., Shown], near: Path, host: SimulatedHost
) -> None:
    agent = Agent(events(("out", "in sy"), ("out", "nc\n"), ("err", "cede: mind\n"), status=4))
    with serving(agent, near):
        assert cede("status", "--json") == Shown(4, "in sync\n", "cede: mind\n")
    (asked,) = agent.asked
    assert (asked.path, asked.query) == ("/v1/status", (("output", "json"),))
    assert (asked.headers["cede-version"], asked.headers["cede-requester"]) == (
        __version__,
        host.user,
    )
    assert host.opened == []


def test_what_the_agent_says_moves_no_cursor(cede: Callable[..., Shown], near: Path) -> None:
    text = "a\x1b[2Jb\n  c\u202ed\n"
    with serving(Agent(events(("out", text))), near):
        assert cede("status").out == "a?[2Jb\n  c?d\n"


@pytest.mark.parametrize("there", ["nothing", "dead socket", "file"])
def test_without_an_agent_this_process_does_it_unless_the_agent_must(
    cede: Callable[..., Shown], near: Path, there: str
) -> None:
    if there == "dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(near / "cede.sock"))
    elif there == "file":
        (near / "cede.sock").touch()
    assert cede("plan").status == 4
    assert cede("--no-agent", "plan").status == 4
    shown = cede("--agent", "plan", "--json")
    assert (shown.status, shown.json("error")["error"]["name"]) == (75, "agent-unreachable")


@pytest.fixture
def failing(near: Path) -> Iterator[None]:
    """A socket that systemd holds for an agent which ends as it starts: who connects is hung up on."""
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(near / "cede.sock"))
        held.listen()

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    held.accept()[0].close()

        hanging_up = threading.Thread(target=hang_up, daemon=True)
        hanging_up.start()
        yield
        held.shutdown(socket.SHUT_RDWR)
        hanging_up.join()


@pytest.mark.usefixtures("failing")
def test_a_question_to_an_agent_that_fails_is_answered_here_and_an_action_is_not_done_twice(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("plan").status == 4
    for arguments in (("--agent", "plan"), ("apply", "--yes")):
        shown = cede(*arguments, "--json")
        assert (shown.status, shown.json("error")["error"]["name"]) == (75, "agent-unreachable")
    assert host.written.history(most=1) == ()


def test_an_agent_of_another_version_is_asked_only_if_it_must_be(
    cede: Callable[..., Shown], near: Path
) -> None:
    agent = Agent(events(("out", "as it was\n")), version="0.0.1")
    with serving(agent, near):
        assert "nic0 -> pv1" in cede("plan").out
        assert cede("--agent", "plan").out == "as it was\n"


def test_no_agent_keeps_the_command_in_this_process(cede: Callable[..., Shown], near: Path) -> None:
    agent = Agent()
    with serving(agent, near):
        assert "nic0 -> pv1" in cede("--no-agent", "plan").out
    assert agent.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("-v", "plan"),
        ("plan", "--debug"),
        ("-c", "xen+unix:///system", "plan"),
        ("plan", "--host", "/nowhere/host.json"),
        ("devices", "--save", "/nowhere/host.json"),
        ("doctor", "--root", "/nowhere"),
        ("boot", "--print"),
        ("import", "--from-hide"),
    ],
    ids=" ".join,
)
def test_what_the_agent_never_does_is_done_here_and_not_asked_of_it(
    cede: Callable[..., Shown], near: Path, arguments: tuple[str, ...]
) -> None:
    agent = Agent()
    with serving(agent, near):
        cede(*arguments)
        forced = cede("--agent", *arguments)
    assert (forced.status, "--agent" in forced.err) == (2, True)
    assert agent.asked == []


def test_a_policy_is_named_to_the_agent_from_wherever_it_is_read(
    cede: Callable[..., Shown], near: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    agent = Agent(events())
    with serving(agent, near):
        cede("plan", "-f", "here.yaml")
    assert json.loads(agent.asked[0].body)["policy"] == str(tmp_path / "here.yaml")


class Operating(Agent):
    """Begins an operation that ends when it is cancelled; the command is interrupted once it follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = threading.Event()

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.method == "POST":
            return Response(status=202, headers=(("location", "/v1/operations/7"),))
        if request.method == "DELETE":
            self.cancelled.set()
            return Response(status=202)
        threading.Thread(target=interrupt_main).start()
        assert self.cancelled.wait(20)
        self.events = events(("out", "stopped\n"), status=75)
        return super().__call__(request)


def interrupt_main() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_an_interrupt_stops_the_operation_and_its_end_is_awaited(
    cede: Callable[..., Shown], near: Path
) -> None:
    agent = Operating()
    with serving(agent, near):
        shown = cede("release", NIC)
    assert (shown.status, shown.out) == (75, "stopped\n")
    assert "interrupt again" in shown.err
    assert [(one.method, one.path) for one in agent.asked] == [
        ("POST", "/v1/release"), ("GET", "/v1/operations/7/events"),
        ("DELETE", "/v1/operations/7"), ("GET", "/v1/operations/7/events"),
    ]  # fmt: skip
