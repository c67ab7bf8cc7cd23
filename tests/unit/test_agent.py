"""The agent on real sockets over the simulated host: what each resource answers, refuses, and never does."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cede import __version__
from cede.api.agent import Agent, serving
from cede.api.client import AgentClient, Text
from cede.api.messages import PROBLEM, Peer, Request
from cede.api.peer import peer_of
from cede.api.public_resources import PublicResources
from cede.errors import UnreachableError
from cede.model.pci import Address
from cede.model.policy import HOST_SOURCE
from cede.policy.policy_files import host_policy
from cede.services.observe import observe_host
from cede.services.reconcile import replan
from cede.state.operation_store import OperationStore, StoredOperation
from cede.util.clock import Clock
from sim import probe_answers
from unit.http_client import Answer, RawClient, ask
from unit.test_cli import NIC, POLICY, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Adapters
    from cede.adapters.runtime import LibvirtAccess, Runtime
    from sim.in_files import SimulatedHost

__all__ = ["policy"]


@dataclass(frozen=True)
class Served:
    """The agent's two sockets."""

    agent: Agent
    path: Path
    public: Path

    def get(self, target: str, accept: str = "application/json") -> Answer:
        return ask(self.path, target, headers=f"accept: {accept}\r\n")

    def post(self, target: str, body: object = None, headers: str = "") -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        kind = "" if "content-type" in headers else "content-type: application/json\r\n"
        return ask(self.path, target, "POST", data, kind + headers)

    def operate(self, target: str, body: object = None, headers: str = "") -> Any:  # noqa: ANN401 - JSON is any
        """Begin an operation, follow it to its end, and return it as it is then."""
        begun = self.post(target, body, headers)
        assert begun.status == 202, begun.body
        place = begun.headers["location"]
        events = self.events(place)
        assert events[-1]["kind"] == "end"
        return self.get(place).json

    def events(self, place: str, after: int = 0) -> list[dict[str, Any]]:
        said = self.get(f"{place}/events?after={after}", "application/x-ndjson")
        assert said.status == 200, said.body
        return [json.loads(line) for line in said.body.splitlines()]


@contextmanager
def served_agent(
    host: SimulatedHost,
    folder: Path,
    users: Callable[[socket.socket], Peer] = peer_of,
    source: str = HOST_SOURCE,
) -> Iterator[Served]:
    with ExitStack() as stack:
        listening = []
        for name in ("cede.sock", "cede-ro.sock"):
            opened = stack.enter_context(socket.socket(socket.AF_UNIX))
            (folder / name).unlink(missing_ok=True)
            opened.bind(str(folder / name))
            opened.listen(128)
            listening.append((name.replace("sock", "socket"), opened))
        agent = Agent(host.runtime(), source)
        with serving(agent, listening, peer_of=users):
            yield Served(agent, folder / "cede.sock", folder / "cede-ro.sock")


@pytest.fixture
def served(host: SimulatedHost, policy: Path, tmp_path: Path) -> Iterator[Served]:
    """The agent of a host with the policy as its own."""
    host.guest_says = probe_answers.whole()
    own = host.paths.policy
    own.parent.mkdir(parents=True)
    own.write_text(policy.read_text())
    with served_agent(host, tmp_path) as made:
        yield made


def known_as(uid: int) -> Callable[[socket.socket], Peer]:
    return lambda _: Peer(uid=uid, gid=0, pid=1)


def problem(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == PROBLEM, answer.body
    read = answer.json
    assert read["status"] == answer.status
    assert read["exit"] in {1, 2, 3, 4, 75}
    assert read["reason"]
    return answer.status, read["name"]


# -- questions


def test_question_is_answered_with_what_the_command_prints(served: Served) -> None:
    as_json = served.get("/v1/plan")
    assert (as_json.status, as_json.headers["cede-exit"]) == (200, "4")
    assert as_json.json["plan"]["decisions"][0]["decision"] == "change"
    assert len(as_json.headers["cede-plan"]) == 64
    text = served.get("/v1/plan", "text/plain")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.body.decode().startswith("nic0 -> pv1")
    lines = served.get("/v1/plan?output=text", "application/x-ndjson")
    events = [json.loads(line) for line in lines.body.splitlines()]
    assert "".join(e["text"] for e in events[:-1]) == text.body.decode()
    assert (events[-1]["kind"], events[-1]["exit"]) == ("end", 4)
    assert events[-1]["digest"] == as_json.headers["cede-plan"]


def test_query_has_the_fields_of_the_request(served: Served) -> None:
    assert served.get("/v1/history?most=1&about=pv1").json == {"history": []}
    both = served.get(f"/v1/devices?devices={NIC}&devices=0000:02:00.0&long=true").json
    assert [device["address"] for device in both["devices"]] == [NIC, "0000:02:00.0"]
    one = served.get("/v1/devices/01:00.0").json
    assert [device["address"] for device in one["devices"]] == [NIC]


def test_plan_of_a_policy_in_the_request_and_no_trace_of_it_is_left(
    served: Served, host: SimulatedHost
) -> None:
    headers = "content-type: application/yaml\r\n"
    other = POLICY.replace("pv1", "pv2").encode()
    planned = served.post("/v1/plan?scheduled=false", other, headers).json
    assert planned["plan"]["decisions"][0]["subject"] == "nic0 -> pv2"
    wrong = served.post("/v1/plan", b"version: 1\nassignments: 7\n", headers)
    assert problem(wrong)[0] == 422
    assert all(d["place"].startswith("policy.yaml") for d in wrong.json["diagnostics"])
    assert not list(host.paths.run.glob("cede-policy-*"))


def test_error_of_a_command_is_a_problem_with_its_name_and_exit_status(
    served: Served, host: SimulatedHost
) -> None:
    nothing = served.get("/v1/devices/0000:77:00.0")
    assert problem(nothing)[0] == 422
    assert nothing.headers["cede-exit"] == "2"
    host.silent = UnreachableError("libvirt is away", name="libvirt-silent")
    away = served.get("/v1/plan")
    assert problem(away)[0] == 503
    assert away.headers["retry-after"]
    host.silent = None
    assert served.get("/v1/plan").status == 200


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b"{a: " * 200_000,
        b"- " * 200_000,
        b"a: &a [1]\n" + b"".join(b"b%d: &b%d [*a, *a, *a]\n" % (n, n) for n in range(2000)),
        b"&a [*a]",
        b"\xff\xfe\0\0",
        b"!!python/object/apply:os.system [id]",
        b"version: 1\n" * 100_000,
        b"? " * 50_000,
    ],
    ids=lambda text: repr(text[:10]),
)
def test_policy_in_a_request_that_is_none_is_a_problem(served: Served, text: bytes) -> None:
    wrong = served.post("/v1/plan", text, "content-type: application/yaml\r\n")
    assert problem(wrong)[0] == 422
    assert served.get("/v1/host").status == 200


# -- operations


def test_operation_runs_whoever_goes_and_tells_what_it_does(
    served: Served, host: SimulatedHost
) -> None:
    begun = served.post("/v1/apply?output=text")
    assert begun.status == 202
    place = begun.headers["location"]
    events = served.events(place)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert {"out", "progress", "end"} <= {event["kind"] for event in events}
    assert served.events(place, after=events[-2]["n"]) == events[-1:]
    done = served.get(place).json
    assert (done["state"], done["exit"], done["error"]) == ("ended", 0, None)
    assert [change["subject"] for change in done["changes"]] == ["nic0 -> pv1"]
    assert f"plug pv1 {NIC}" in host.journal
    text = served.get(f"{place}/output", "text/plain")
    assert text.body.decode() == "".join(e["text"] for e in events if e["kind"] == "out")
    assert served.get("/v1/operations").json["operations"][0]["id"] == done["id"]


def test_operation_prints_json_unless_it_is_asked_for_text(served: Served) -> None:
    done = served.operate("/v1/attach", {"device": NIC, "domain": "pv1"})
    output = served.get(f"/v1/operations/{done['id']}/output")
    assert output.json["exit"] == done["exit"] == 0


def test_history_tells_who_asked_by_the_kernels_word(
    host: SimulatedHost, served: Served, tmp_path: Path
) -> None:
    uids = {"root": 0, "nobody": 65534}
    for who, said, expected in (
        ("root", "ann as root", "ann as root"),
        ("root", "", "root"),
        ("nobody", "root", "nobody"),
    ):
        folder = tmp_path / f"{who}{len(said)}"
        folder.mkdir()
        with served_agent(host, folder, known_as(uids[who])) as agent:
            headers = f"cede-requester: {said}\r\n" if said else ""
            agent.operate("/v1/pause", {"target": "pv1", "reason": "x"}, headers)
            done = agent.operate("/v1/resume", {"target": "pv1"}, headers)
        assert done["requester"] == expected
    assert served.path.exists()


def test_plan_that_was_not_the_one_confirmed_is_not_carried_out(
    served: Served, host: SimulatedHost
) -> None:
    shown = served.post("/v1/apply", {"preview": True})
    assert (shown.status, len(shown.headers["cede-plan"])) == (200, 64)
    host.paths.policy.write_text(POLICY.replace("pv1", "pv2"))
    done = served.operate("/v1/apply", {"plan": shown.headers["cede-plan"]})
    assert (done["exit"], done["error"]["name"]) == (75, "plan-changed")
    assert not any(word.startswith("plug") for word in host.journal)


def test_operation_is_cancelled_after_its_present_action(
    served: Served, host: SimulatedHost
) -> None:
    entered, go = threading.Event(), threading.Event()

    def before(_verb: str) -> None:
        entered.set()
        assert go.wait(10)

    host.gate.before_action = before
    begun = served.post("/v1/apply")
    assert entered.wait(10)
    place = begun.headers["location"]
    assert ask(served.path, place, "DELETE").status == 202
    go.set()
    events = served.events(place)
    assert events[-1]["exit"] != 0
    assert served.get(place).json["state"] == "ended"


def test_ids_answer_after_a_restart_and_what_ran_was_interrupted(
    host: SimulatedHost, served: Served, tmp_path: Path
) -> None:
    done = served.operate("/v1/apply")
    events = served.events(f"/v1/operations/{done['id']}")
    lost = "f" * 16  # as after kill -9
    with closing(OperationStore(host.paths.journal)) as store:
        store.begin(
            StoredOperation(
                id=lost, command="apply", request="{}", requester="ann", as_json=True, started=store.time
            )
        )  # fmt: skip
    folder = tmp_path / "next"
    folder.mkdir()
    with served_agent(host, folder) as after:
        assert after.get(f"/v1/operations/{done['id']}").json == done
        assert after.events(f"/v1/operations/{done['id']}") == events
        found = after.get(f"/v1/operations/{lost}").json
        assert (found["state"], found["error"]["name"]) == ("interrupted", "operation-interrupted")
        (end,) = after.events(f"/v1/operations/{lost}", after=7)
        assert (end["n"], end["exit"]) == (8, 75)


def test_agent_that_ends_lets_operations_end_and_begins_no_more(
    host: SimulatedHost, served: Served
) -> None:
    served.agent.operations.close(1.0)
    assert problem(served.post("/v1/apply")) == (503, "agent-stopping")
    assert served.get("/v1/plan").status == 200
    assert host.journal == []


def test_client_sees_the_same_as_the_command(served: Served) -> None:
    with AgentClient(served.path) as client:
        *said, answer = client.ask("apply", {}, version=__version__)
        assert all(isinstance(each, Text) for each in said)
        assert answer.exit == 0  # type: ignore[union-attr]
        assert list(client.ask("status", {}))[-1].exit == 0  # type: ignore[union-attr]


# -- what is refused


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        ("GET", "/", b"", (404, "no-such-path")),
        ("GET", "/v1/nothing", b"", (404, "no-such-path")),
        ("GET", "/v1/apply", b"", (405, "method-not-allowed")),
        ("PUT", "/v1/status", b"", (405, "method-not-allowed")),
        ("BREW", "/v1/status", b"", (405, "method-not-allowed")),
        ("GET", "/v1/status?nothing=1", b"", (422, "unknown-field")),
        ("GET", "/v1/status?watch=true", b"", (422, "only-here")),
        ("GET", "/v1/devices?save=/tmp/x", b"", (422, "only-here")),
        ("GET", "/v1/plan?policy=policy.yaml", b"", (422, "wrong-field")),
        ("GET", "/v1/history?most=-1", b"", (422, "wrong-field")),
        ("GET", "/v1/history?most=x", b"", (422, "wrong-field")),
        ("GET", "/v1/history?most=1&most=2", b"", (422, "wrong-field")),
        ("GET", "/v1/plan?diff=maybe", b"", (422, "wrong-field")),
        ("GET", "/v1/plan?output=text", b"", (422, "wrong-field")),
        ("GET", "/v1/host?x=1", b"", (422, "unknown-field")),
        ("GET", "/v1/devices/01:00.0?x=1", b"", (422, "unknown-field")),
        ("GET", "/v1/devices/xyz", b"", (422, "no-address")),
        ("POST", "/v1/attach", b"{}", (422, "missing-field")),
        ("POST", "/v1/attach", b'{"device": 1, "domain": "x"}', (422, "wrong-field")),
        ("POST", "/v1/apply", b'{"wait": NaN}', (400, "malformed-body")),
        ("POST", "/v1/apply", b'{"wait": -1}', (422, "wrong-field")),
        ("POST", "/v1/apply", b'{"wait": 1, "wait": 2}', (400, "malformed-body")),
        ("POST", "/v1/apply", b'{"policy": "\\u0000"}', (422, "wrong-field")),
        ("POST", "/v1/apply", b'{"policy": "\\ud800"}', (422, "wrong-field")),
        ("POST", "/v1/apply", b"[]", (400, "malformed-body")),
        ("POST", "/v1/apply", b"\xff", (400, "malformed-body")),
        ("POST", "/v1/apply", b"[" * 100_000, (400, "malformed-body")),
        ("POST", "/v1/apply?prune=true", b"{}", (422, "unknown-field")),
        ("POST", "/v1/apply?output=xml", b"{}", (422, "wrong-field")),
        ("GET", "/v1/operations/1234", b"", (404, "no-such-operation")),
        ("DELETE", "/v1/operations/1234", b"", (404, "no-such-operation")),
        ("GET", "/v1/operations/1234/events", b"", (404, "no-such-operation")),
        ("GET", "/v1/operations/1234/output", b"", (404, "no-such-operation")),
        ("GET", "/v1/operations/1234/events?after=x", b"", (422, "wrong-field")),
        ("GET", "/v1/events?after=x.1", b"", (410, "events-gone")),
    ],
)
def test_wrong_request_is_refused_by_name(
    served: Served, method: str, target: str, body: bytes, expected: tuple[int, str]
) -> None:
    assert problem(ask(served.path, target, method, body)) == expected


def test_media_types_and_versions_that_the_agent_has_not(served: Served) -> None:
    assert problem(served.get("/v1/plan", "image/png")) == (406, "not-acceptable")
    assert problem(served.get("/v1/plan", "text/plain;q=0")) == (406, "not-acceptable")
    headers = "content-type: text/csv\r\n"
    assert problem(served.post("/v1/apply", b"", headers)) == (415, "unsupported-media-type")
    other = served.post("/v1/apply", {}, "cede-version: 0.0.1\r\n")
    assert problem(other) == (412, "other-version")
    assert served.get("/v1/plan", "image/png, text/*;q=0.5, */*").body.startswith(b"nic0")


def test_read_only_socket_shows_public_things_alone(served: Served) -> None:
    served.operate("/v1/apply")
    devices = ask(served.public, "/v1/devices").json["devices"]
    assert devices[0] == {
        "address": NIC,
        "identity": devices[0]["identity"],
        "driver": "pciback",
        "running_in": ["pv1"],
        "assigned_to": ["pv1"],
    }
    assert [d["address"] for d in ask(served.public, "/v1/status").json["devices"]] == [NIC]
    assert ask(served.public, f"/v1/devices/{NIC}").json["devices"] == devices[:1]
    assert ask(served.public, "/v1/host").json == {"version": __version__}


def test_names_are_those_of_the_last_pass_and_anybody_is_told_none_of_the_policys(
    served: Served, host: SimulatedHost
) -> None:
    nothing: dict[str, list[str]] = {"devices": [], "domains": []}
    assert served.get("/v1/names").json == ask(served.public, "/v1/names").json == nothing
    runtime = host.runtime()
    with runtime.adapters() as adapters:
        targets, _ = replan(adapters, host_policy(None, runtime))
    served.agent.passed(targets, ())
    for path, own in ((served.path, ["nic0"]), (served.public, [])):
        names = ask(path, "/v1/names").json
        assert names["domains"] == ["pv1", "pv2"]
        assert names["devices"] == [
            *own,
            *(str(each.address) for each in targets.inventory.devices),
        ]


def test_who_asks_without_end_at_the_read_only_socket_leaves_half_of_the_time(
    host: SimulatedHost,
) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    runtime = host.runtime(clock=Clock(monotonic=lambda: now[0], sleep=sleep))

    @contextmanager
    def slow(of: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
        now[0] += 2.0
        with runtime.open_adapters(of, access) as adapters:
            yield adapters

    public = PublicResources(replace(runtime, open_adapters=slow))
    (answer,) = (route.answer for route in public.routes() if route.path == "/v1/devices")
    asked = Request(
        method="GET", path="/v1/devices", query=(), headers={}, body=b"", peer=Peer(uid=7, gid=7, pid=7), read_only=True
    )  # fmt: skip
    for _ in range(3):
        assert answer(asked, "").status == 200
    assert [seconds for seconds in slept if seconds] == [2.0, 2.0]


def test_read_only_socket_does_nothing_else(served: Served, host: SimulatedHost) -> None:
    public = {(route.method, route.path) for route in served.agent.public_router.routes}
    for route in served.agent.router.routes:
        path = route.path.replace("{address}", NIC).replace("{id}", "1")
        answer = ask(served.public, path, route.method)
        if (route.method, route.path) in public:
            assert answer.status == 200
        else:
            assert problem(answer) in {(403, "read-only-socket"), (405, "method-not-allowed")}
    assert problem(ask(served.public, "/v1/devices?save=/tmp/x")) == (422, "unknown-field")
    assert host.journal == []


UNITS = Path(__file__).parents[2] / "contrib/systemd"
NOBODY = 65534
COULD_NOT_CONNECT = 7  # curl(1), EXIT CODES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_unprivileged_user_opens_the_read_only_socket_alone(
    served: Served, host: SimulatedHost
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="cede-") as name,
        served_agent(host, Path(name)) as agent,
    ):
        Path(name).chmod(0o755)
        for path, unit in ((agent.path, "cede.socket"), (agent.public, "cede-ro.socket")):
            (mode,) = re.findall(r"^SocketMode=(\d+)$", (UNITS / unit).read_text(), re.MULTILINE)
            path.chmod(int(mode, 8))
        public = {(route.method, route.path) for route in agent.agent.public_router.routes}
        for route in served.agent.router.routes:
            target = route.path.replace("{address}", NIC).replace("{id}", "1")
            done, told = (
                _by_nobody(path, route.method, target) for path in (agent.path, agent.public)
            )
            assert done == (COULD_NOT_CONNECT, "000")
            shown = (route.method, route.path) in public
            assert told in ([(0, "200")] if shown else [(0, "403"), (0, "405")])
        assert agent.agent.operations.newest() == ()
    assert host.journal == []


def _by_nobody(path: Path, method: str, target: str) -> tuple[int, str]:
    """curl's exit status and HTTP's."""
    said = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket", str(path),
         f"http://cede{target}"],
        user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    return said.returncode, said.stdout


# -- the watch


def test_watch_tells_what_changes_and_goes_on_from_a_token(served: Served) -> None:
    with RawClient(served.path) as client:
        client.send(b"GET /v1/events HTTP/1.1\r\nhost: c\r\n\r\n").head()
        first = json.loads(client.chunk())
        assert (first["kind"], set(first)) == ("now", {"kind", "token"})
        done = served.operate("/v1/apply")
        kinds: list[dict[str, Any]] = []
        while not any(e.get("condition", {}).get("type") == "InSync" for e in kinds):
            kinds += [json.loads(line) for line in client.chunk().splitlines()]
    assert [event["id"] for event in kinds if event["kind"] == "operation"] == [done["id"]] * 2
    with RawClient(served.path) as client:
        target = f"/v1/events?after={first['token']}"
        client.send(f"GET {target} HTTP/1.1\r\nhost: c\r\n\r\n".encode()).head()
        again = [json.loads(line) for line in client.chunk().splitlines()]
        while len(again) <= len(kinds):
            again += [json.loads(line) for line in client.chunk().splitlines()]
        assert again[1 : len(kinds) + 1] == kinds
        wanted = {"nic0 -> pv1"}
        assert {e["condition"]["subject"] for e in again if e["kind"] == "condition"} >= wanted


def test_watch_tells_of_devices_that_move_come_and_go(served: Served, host: SimulatedHost) -> None:
    def observed() -> None:
        with host.runtime().adapters() as adapters:
            served.agent.watch.observed(observe_host(adapters))

    observed()
    stream = served.agent.watch.follow("")
    assert b"now" in (stream.read() or b"")
    served.operate("/v1/apply")
    observed()
    host.cards[Address.parse("0000:02:00.0")].present = False
    observed()
    said = [json.loads(line) for line in (stream.read() or b"").splitlines()]
    stream.close()
    devices = [event for event in said if event["kind"] == "device"]
    assert [
        (event["address"], event["present"], event["driver"], event["domain"]) for event in devices
    ] == [(NIC, True, "pciback", "pv1"), ("0000:02:00.0", False, None, None)]
