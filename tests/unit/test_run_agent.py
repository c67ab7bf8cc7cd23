"""`cede run` at its sockets: it serves them between its passes, and a signal in an operation loses nothing of it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cede.adapters.linux.systemd_notify import Notify
from cede.api.agent import Agent
from cede.cli import run_command
from cede.model.policy import HOST_SOURCE
from cede.util.clock import Clock
from sim import probe_answers
from unit.http_client import RawClient, ask, eventually
from unit.test_agent import served_agent
from unit.test_cli import NIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sim.in_files import SimulatedHost

LOG = logging.getLogger("unit.test_run_agent")
NOTHING = "version: 1\ndevices: {}\nassignments: []\n"
ASSIGNED = f"""\
version: 1
devices:
  nic0: {{match: {{address: "{NIC}"}}}}
assignments:
  - {{device: nic0, domain: pv1, verify: {{guest: none}}}}
"""


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[list[tuple[str, socket.socket]]]:
    """The sockets as systemd hands them over."""
    sockets = []
    for name in ("cede", "cede-ro"):
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(str(tmp_path / f"{name}.sock"))
        opened.listen()
        sockets.append((f"{name}.socket", opened))
    yield sockets
    for _, opened in sockets:
        opened.close()


def run(
    host: SimulatedHost,
    text: str,
    sockets: list[tuple[str, socket.socket]],
    client: Callable[[], None],
) -> None:
    """Run the daemon with that policy until `client`, in another thread, has ended it."""
    host.paths.policy.parent.mkdir(parents=True, exist_ok=True)
    host.paths.policy.write_text(text)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            client()
        except BaseException as error:  # noqa: BLE001 - raised where the test is
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    clock = Clock(now=lambda: host.time.today)
    run_command.serve(host.runtime(clock=clock), None, 300.0, LOG, Notify({}), sockets)
    thread.join()
    if failed:
        raise failed[0]


def test_run_answers_at_both_sockets_and_tells_of_its_passes(
    host: SimulatedHost, handed: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    said: list[Any] = []

    def client() -> None:
        path = tmp_path / "cede.sock"
        with RawClient(path) as watching:
            watching.send(b"GET /v1/events HTTP/1.1\r\nhost: c\r\n\r\n").head()
            while not any(e.get("condition", {}).get("type") == "InSync" for e in said):
                said.extend(json.loads(line) for line in watching.chunk().splitlines())
        eventually(lambda: ask(path, "/v1/status").headers["cede-exit"] == "0")
        assert ask(path, "/v1/history").json["history"][0]["command"].startswith("cede run (")
        public = ask(tmp_path / "cede-ro.sock", "/v1/status").json["devices"]
        assert [(d["address"], d["running_in"]) for d in public] == [(NIC, ["pv1"])]

    run(host, ASSIGNED, handed, client)
    assert said[0]["kind"] == "now"
    assert {e["condition"]["subject"] for e in said if e["kind"] == "condition"} >= {"nic0 -> pv1"}


def test_sigterm_in_an_operation_ends_it_after_its_action_and_its_id_answers_afterwards(
    host: SimulatedHost, handed: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    host.guest_says = probe_answers.whole()
    acting, terminated, ids = threading.Event(), threading.Event(), list[str]()

    def before(_verb: str) -> None:
        acting.set()
        assert terminated.wait(20)

    def client() -> None:
        host.gate.before_action = before
        body = json.dumps({"device": NIC, "domain": "pv1"}).encode()
        begun = ask(tmp_path / "cede.sock", "/v1/attach", "POST", body)
        ids.append(begun.json["id"])
        assert acting.wait(20)
        threading.Timer(0.2, terminated.set).start()  # the signal comes before that

    run(host, NOTHING, handed, client)
    host.gate.before_action = lambda _verb: None
    folder = tmp_path / "next"
    folder.mkdir()
    with served_agent(host, folder) as after:
        found = after.get(f"/v1/operations/{ids[0]}").json
        events = after.events(f"/v1/operations/{ids[0]}")
        assert found["state"] == "ended"
        assert (found["exit"] != 0, events[-1]["exit"]) == (True, found["exit"])
        (change,) = found["changes"]
        assert [action["outcome"] for action in change["actions"]][:1] == ["done"]
        done = after.operate("/v1/attach", {"device": NIC, "domain": "pv1"})
        assert done["exit"] == 0, "what was left is finished"


def test_a_watch_that_fails_harms_no_pass(host: SimulatedHost) -> None:
    agent = Agent(host.runtime(), HOST_SOURCE)
    agent.passed(None, ())  # type: ignore[arg-type]
    agent.close()


def test_agent_waits_for_all_operations_together_no_longer_than_it_has(
    host: SimulatedHost, tmp_path: Path
) -> None:
    host.paths.policy.parent.mkdir(parents=True)
    host.paths.policy.write_text(NOTHING)
    acting, freed = threading.Event(), threading.Event()

    def hangs(_verb: str) -> None:
        acting.set()
        assert freed.wait(20)

    host.gate.before_action = hangs
    with served_agent(host, tmp_path) as served:
        for address in (NIC, "0000:02:00.0"):
            body = {"device": address, "domain": "pv1", "wait": 1000}
            assert served.post("/v1/attach", body).status == 202
        assert acting.wait(20)
        began = time.monotonic()
        served.agent.operations.close(0.3)
        assert 0.2 < time.monotonic() - began < 3
        freed.set()


def test_what_ran_when_the_agent_was_killed_is_interrupted(
    host: SimulatedHost, tmp_path: Path
) -> None:
    """As kill -9 leaves it: the operation and its action were begun, and nothing was written since."""
    host.guest_says = probe_answers.whole()
    host.paths.policy.parent.mkdir(parents=True)
    host.paths.policy.write_text(NOTHING)
    acting, freed = threading.Event(), threading.Event()

    def killed(_verb: str) -> None:
        acting.set()
        assert freed.wait(20)

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with served_agent(host, first) as agent:
        host.gate.before_action = killed
        begun = agent.post("/v1/attach", {"device": NIC, "domain": "pv1"}).json
        assert acting.wait(20)
        with served_agent(host, second) as after:
            found = after.get(f"/v1/operations/{begun['id']}").json
            assert (found["state"], found["error"]["name"]) == ("interrupted", "operation-interrupted")  # fmt: skip
            (change,) = found["changes"]
            assert change["open"]
            (end,) = after.events(f"/v1/operations/{begun['id']}", after=3)
            assert (end["n"], end["kind"], end["exit"]) == (4, "end", 75)
        host.gate.before_action = lambda _verb: None
        freed.set()
