"""The client against a server that speaks as the agent does, that is busy, goes away, comes back, or is another."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from cede.api.client import AgentClient, AgentError, Text
from cede.api.messages import JSON_LINES, Request, Response
from cede.api.problems import RequestError
from cede.commands.answer import Answer
from cede.commands.exit_status import Exit
from cede.errors import CedeError, FailureKind, TransientError, UnreachableError
from unit.http_server import serving
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ERROR = {"name": "in-use", "message": "it is in use", "remedy": "look", "kind": "unsafe"}
OUT = {"n": 1, "kind": "out", "text": "one\n"}
ERR = {"n": 2, "kind": "err", "text": "two\n"}
PROGRESS = {"n": 3, "kind": "progress", "subject": "nic0"}
DONE = {"n": 4, "kind": "end", "exit": 0, "digest": "abc", "error": None}
SAID = [Text(text="one\n", err=False), Text(text="two\n", err=True)]
ANSWER = Answer(exit=Exit.OK, digest="abc")


def lines(*events: dict[str, Any]) -> Response:
    body = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    return Response(status=200, content_type=JSON_LINES, body=body)


class Agent:
    """Answers with what a test has prepared, in order, and remembers what it was asked."""

    def __init__(self, *responses: Response | CedeError) -> None:
        self.responses: Iterator[Response | CedeError] = iter(responses)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        response = next(self.responses)
        if isinstance(response, CedeError):
            raise response
        return response

    @property
    def targets(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


class Time:
    """Passes only while the client waits; somebody may do something then."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def client(self, path: Path) -> AgentClient:
        return AgentClient(path, sleep=self.sleep, clock=lambda: self.now)


def test_question_is_sent_with_its_fields_and_answered_in_order(tmp_path: Path) -> None:
    agent = Agent(lines(OUT, ERR, PROGRESS, {"n": 9, "kind": "of a newer agent"}, DONE))
    with serving(agent, tmp_path) as path, AgentClient(path) as client:
        assert client.connect()
        asked = client.ask(
            "status", {"policy": "/p"}, as_json=True, version="1.2", requester="ann as root"
        )
        assert list(asked) == [*SAID, ANSWER]
    (request,) = agent.asked
    assert (request.method, request.path, request.query) == (
        "POST", "/v1/status", (("output", "json"),),
    )  # fmt: skip
    assert json.loads(request.body) == {"policy": "/p"}
    assert request.headers["cede-version"] == "1.2"
    assert request.headers["cede-requester"] == "ann as root"
    assert request.headers["accept"] == JSON_LINES


@pytest.mark.parametrize("length", [60_000, 65_536, 200_000])
def test_answer_may_be_as_long_as_it_is(tmp_path: Path, length: int) -> None:
    """Its head comes in pieces, the last of them together with the beginning of the body."""
    long = OUT | {"text": "x" * length}
    with serving(Agent(lines(long, DONE)), tmp_path) as path, AgentClient(path) as client:
        assert list(client.ask("devices", {})) == [Text(text="x" * length, err=False), ANSWER]


def test_error_in_the_answer_is_the_agents(tmp_path: Path) -> None:
    end = {"n": 1, "kind": "end", "exit": 3, "digest": "", "error": ERROR}
    with serving(Agent(lines(end)), tmp_path) as path, AgentClient(path) as client:
        (answer,) = client.ask("status", {})
    assert isinstance(answer, Answer)
    assert answer.exit is Exit.UNSAFE
    assert answer.error is not None
    assert (answer.error.name, answer.error.message) == ("in-use", "it is in use")
    assert (answer.error.remedy, answer.error.kind) == ("look", FailureKind.UNSAFE)


ACCEPTED = Response(status=202, headers=(("location", "/v1/operations/7"),), body=b"{}")


def test_operation_is_followed_to_its_end(tmp_path: Path) -> None:
    agent = Agent(ACCEPTED, lines(OUT, ERR, PROGRESS, DONE))
    with serving(agent, tmp_path) as path, AgentClient(path) as client:
        assert list(client.ask("apply", {})) == [*SAID, ANSWER]
    assert agent.targets == ["POST /v1/apply", "GET /v1/operations/7/events"]
    assert agent.asked[1].query == (("after", "0"),)


def test_operation_is_followed_on_when_the_agent_is_back(tmp_path: Path) -> None:
    time = Time()
    agent = Agent(ACCEPTED, lines(OUT), TransientError("starts", name="starts"), lines(ERR, DONE))
    with serving(agent, tmp_path) as path, time.client(path) as client:
        assert list(client.ask("apply", {})) == [*SAID, ANSWER]
    assert [asked.query for asked in agent.asked[1:]] == [
        (("after", "0"),), (("after", "1"),), (("after", "1"),),
    ]  # fmt: skip
    assert time.now > 0


def test_agent_that_does_not_come_back_is_unreachable(tmp_path: Path) -> None:
    time = Time()
    with time.client(tmp_path / "cede.sock") as client:
        with serving(Agent(ACCEPTED, lines(OUT)), tmp_path):
            events = client.ask("apply", {})
            assert next(events) == SAID[0]
        with raises(UnreachableError, "agent-unreachable"):
            list(events)
    assert time.now > 30


def test_operation_is_cancelled_by_another_connection(tmp_path: Path) -> None:
    agent = Agent(ACCEPTED, lines(OUT, DONE), Response(status=202))
    with serving(agent, tmp_path) as path, AgentClient(path) as client:
        events = client.ask("apply", {})
        next(events)
        client.cancel()
        assert list(events) == [ANSWER]
    assert agent.targets[-1] == "DELETE /v1/operations/7"


def test_who_cancels_before_the_operation_has_an_id_cancels_it_then(tmp_path: Path) -> None:
    agent = Agent(ACCEPTED, Response(status=202), lines(DONE))
    with serving(agent, tmp_path) as path, AgentClient(path) as client:
        client.cancel()
        assert list(client.ask("apply", {})) == [ANSWER]
    assert agent.targets[1] == "DELETE /v1/operations/7"


def test_busy_agent_is_asked_again(tmp_path: Path) -> None:
    time = Time()
    agent = Agent(TransientError("full", name="too-many-connections"), lines(DONE))
    with serving(agent, tmp_path) as path, time.client(path) as client:
        assert list(client.ask("status", {})) == [ANSWER]
    assert time.now > 0


def test_refusal_of_the_agent_is_an_error_of_its_name(tmp_path: Path) -> None:
    status = HTTPStatus.PRECONDITION_FAILED
    refused = RequestError("another version", name="other-version", status=status)
    with (
        serving(Agent(refused), tmp_path) as path,
        AgentClient(path) as client,
        raises(AgentError, "other-version"),
    ):
        list(client.ask("status", {}, version="0"))


@pytest.mark.parametrize(
    "strange",
    [
        Response(status=500, body=b"no problem"),
        Response(status=404, body=b"[]"),
        Response(status=418),
    ],
)
def test_answer_that_is_no_agents_is_an_error(tmp_path: Path, strange: Response) -> None:
    with (
        serving(Agent(strange), tmp_path) as path,
        AgentClient(path) as client,
        raises(AgentError, "agent-error"),
    ):
        list(client.ask("status", {}))


@pytest.mark.parametrize(
    "strange",
    [
        b"", b"{}\n", b"[]\n", b"nonsense\n", b'{"kind": "end", "exit": 99}\n', b'{"kind": "out"}\n',
        b'{"kind": "end", "exit": 1, "error": {}}\n', b'{"n": "x", "kind": "out", "text": ""}\n',
    ],
)  # fmt: skip
def test_lines_that_are_no_agents_are_an_error(tmp_path: Path, strange: bytes) -> None:
    with (
        serving(Agent(Response(status=200, body=strange)), tmp_path) as path,
        AgentClient(path) as client,
        pytest.raises(CedeError),
    ):
        list(client.ask("status", {}))


def test_without_an_agent_there_is_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "cede.sock"
    assert not AgentClient(path).connect()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert not AgentClient(path).connect()


def test_client_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import cede.api.client; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )  # fmt: skip
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "http", "email", "urllib", "ssl", "asyncio", "logging", "pathlib", "subprocess", "sqlite3", "click",
        "libvirt", "lxml", "yaml", "jsonschema", "tenacity",
    }  # fmt: skip
    ours = {name for name in done.stdout.split() if name.startswith("cede.")}
    assert ours <= {
        "cede.api", "cede.api.client", "cede.api.reported_error", "cede.commands", "cede.commands.answer",
        "cede.commands.exit_status", "cede.errors", "cede.util", "cede.util.text",
    }  # fmt: skip
