"""The agent on a real Xen host, as its units start it: its answers, its restarts, its rights, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.figures import Faults, Measured
    from lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.long(3)]

NIC = "0000:01:00.0"
SYSTEMD = Path(__file__).parents[2] / "contrib/systemd"
NOTHING_WANTED = "version: 1\ndevices: {}\nassignments: []\n"
GIVEN = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
assignments:
  - {device: nic0, domain: pv1, verify: {guest: none}}
"""
QUESTIONS = (
    ("status", "--json"),
    ("plan", "--json"),
    ("devices", "--json"),
    ("doctor",),
    ("history", "--json"),
)
REQUESTS, REQUESTS_SOAKED = 20, 10_000
# Asks the same again and again by one connection; prints the status of the last answer and the answer, or why there is
# none.
ASK = """\
import http.client, socket, sys
method, path, at, times = sys.argv[1:]
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(f"/run/cede/{at}")
connection = Connection("cede")
try:
    for _ in range(int(times)):
        connection.request(method, path, headers={"accept": "application/json"})
        answer = connection.getresponse()
        said = answer.read().decode()
except OSError as refused:
    raise SystemExit(type(refused).__name__)
print(answer.status, said)
"""


@pytest.fixture
def with_agent(any_host: Host) -> Host:
    """The agent's sockets listen; the policy wants nothing."""
    host = any_host
    host.dirty = True
    host.write("/etc/cede/policy.yaml", NOTHING_WANTED)
    host.write("/etc/cede/given.yaml", GIVEN)
    for unit in (*SYSTEMD.glob("cede*.service"), *SYSTEMD.glob("cede*.socket")):
        host.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
    host.write("/etc/sysusers.d/cede.conf", (SYSTEMD / "sysusers.d/cede.conf").read_text())
    host.write("/run/ask.py", ASK)
    host.sh(
        "systemd-sysusers; systemctl daemon-reload; systemctl start cede.socket cede-ro.socket;"
        " ! systemctl -q is-active cede"
    )
    return host


def test_the_agent_does_what_commands_do_and_outlives_what_happens_to_it(
    with_agent: Host, measured: Measured, faults: Faults, soak: bool
) -> None:
    host = with_agent
    assert host.cede("--agent", "status").returncode == 0  # its socket starts it
    assert host.sh("systemctl is-active cede").strip() == "active"
    _answers_alike(host)
    _gives_and_takes_back(host)
    _lets_nobody_else_in(host)
    with faults.tried("cede.service restarted in the middle of an operation"):
        _ends_in_the_middle(host, "systemctl restart cede", {0, 75})
    with faults.tried("cede.service killed in the middle of an operation"):
        _ends_in_the_middle(host, "systemctl kill -s KILL cede", {75})
    with faults.tried("the agent and a command without it at the same moment"):
        _both_at_once(host)
    _stays_small(host, measured, REQUESTS_SOAKED if soak else REQUESTS)


def _answers_alike(host: Host) -> None:
    for question in QUESTIONS:
        asked, here = (host.cede(how, *question) for how in ("--agent", "--no-agent"))
        assert (asked.returncode, asked.stdout) == (here.returncode, here.stdout), question


def _gives_and_takes_back(host: Host) -> None:
    given = host.cede("--agent", "attach", NIC, "pv1")
    assert given.returncode == 0, given.stdout + given.stderr
    assert f"{NIC} -> pv1: in sync" in given.stdout.replace("pci_0000_01_00_0", NIC), given.stdout
    assert "e1000e" in host.guest("pv1", "lspci -k")
    taken = host.cede("--agent", "release", NIC)
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("e1000e")
    history = json.loads(host.cede("--agent", "history", "--json").stdout)["history"]
    assert {entry["requester"] for entry in history} == {"root"}


def _asked(host: Host, request: str, *, by: str = "", times: int = 1) -> tuple[str, str]:
    """The status of the answer to METHOD PATH SOCKET, or why there is none, and the answer."""
    as_user = f"runuser -u {by} -- " if by else ""
    script = f"{as_user}python3 /run/ask.py {request} {times} 2>&1 || true"
    status, _, answer = host.sh(script, timeout=3600).strip().partition(" ")
    return status, answer


def _lets_nobody_else_in(host: Host) -> None:
    assert _asked(host, "GET /v1/status cede.sock", by="nobody")[0] == "PermissionError"
    assert _asked(host, "GET /v1/status cede-ro.sock", by="nobody")[0] == "200"
    for request in (
        "POST /v1/apply",
        "POST /v1/release",
        "GET /v1/history",
        "GET /v1/operations",
        "DELETE /v1/operations/0123456789abcdef",
    ):
        status, _ = _asked(host, f"{request} cede-ro.sock", by="nobody")
        assert status in {"403", "404", "405"}, (request, status)


def _ends_in_the_middle(host: Host, end: str, statuses: set[int]) -> None:
    """The command is told what came of it; what it was is known afterwards; an apply makes it whole."""
    said = host.sh(
        "(cede --agent apply --yes -f /etc/cede/given.yaml > /tmp/said 2>&1 && echo 0 || echo $?) > /tmp/status & "
        " for _ in $(seq 300); do grep -qs '1\\. ' /tmp/said && break; sleep 0.2; done; sleep 0.3;"
        f" {end} || {{ journalctl -q -u cede -n 40 --no-pager; exit 1; }}; wait; cat /tmp/status; cat /tmp/said"
    )
    assert int(said.split()[0]) in statuses, said
    newest = json.loads(_asked(host, "GET /v1/operations cede.sock")[1])["operations"][0]
    assert newest["command"] == "apply"
    assert newest["state"] in {"ended", "interrupted"}, newest
    again = host.cede("--agent", "apply", "--yes", "-f", "/etc/cede/given.yaml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert host.cede("--agent", "release", "nic0", "-f", "/etc/cede/given.yaml").returncode == 0


def _both_at_once(host: Host) -> None:
    """One of the two gives the device, and the other finds it given."""
    apply = "apply --yes --wait 200 -f /etc/cede/given.yaml"
    said = host.sh(
        f"(cede --agent {apply} > /tmp/first 2>&1 && echo 0 || echo $?) > /tmp/status &"
        f" cede --no-agent {apply} > /tmp/second 2>&1 && echo 0 || echo $?; wait; cat /tmp/status;"
        " cat /tmp/first /tmp/second"
    )
    assert said.split()[:2] == ["0", "0"], said
    assert said.count("Nothing was changed.") == 1, said
    assert host.cede("release", "nic0", "-f", "/etc/cede/given.yaml").returncode == 0


def _stays_small(host: Host, measured: Measured, requests: int) -> None:
    before = _resident(host)
    assert _asked(host, "GET /v1/status cede.sock", times=requests)[0] == "200"
    after = _resident(host)
    measured.report(
        f"the agent: {after / 1000:.1f} MB resident after {requests} requests,"
        f" {(after - before) / 1000:+.1f} MB with them"
    )
    assert after < 64_000


def _resident(host: Host) -> int:
    """Kilobytes."""
    status = host.sh("cat /proc/$(systemctl show cede -P MainPID)/status")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
