"""What people do on purpose, on the real host: maintenance, a pause, a drift that is only to be reported."""

import json

import pytest

from lab.host import Host
from lab.test_main_job import _ping_from_dom0

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
TAKE_OUT = (
    "virsh -q -c xen:///system dumpxml pv1 | sed -n '/<hostdev/,/<.hostdev>/p' > /tmp/hostdev.xml;"
    " virsh -q -c xen:///system detach-device pv1 /tmp/hostdev.xml --live --config"
)


def test_what_people_do_on_purpose_is_respected(host: Host) -> None:
    host.policy("nic0", NIC, "pv1", "verify: {guest: console}\n")
    assert host.cede("apply", "--yes").returncode == 0
    _drained_and_resumed(host)
    _paused(host)
    _reported_only(host)
    assert host.cede("release", "nic0").returncode == 0


def _drained_and_resumed(host: Host) -> None:
    """Killed on the way, run again: dom0 has the card, alive, until it is resumed."""
    killed = host.ask(
        300,
        do="run",
        argv=["drain", "--yes"],
        at="after journal.end_action #1",
        act="kill -9 $PPID",
    )
    assert killed["status"] == -9, killed
    drained = host.cede("drain", "--yes", "--reason", "new firmware")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert "8086:10d3" not in host.guest("pv1", "lspci -n")
    _ping_from_dom0(host)
    before = host.state()
    left = host.cede("apply", "--yes", "--scheduled")
    assert (left.returncode, "Nothing was changed." in left.stdout) == (0, True), left.stdout
    shown = host.cede("status")
    assert (shown.returncode, "nic0 -> pv1: DRAINED" in shown.stdout) == (0, True), shown.stdout
    assert "new firmware" in shown.stdout
    assert host.state() == before
    resumed = host.cede("resume", "--yes")
    assert (resumed.returncode, "[ok] guest lspci" in resumed.stdout) == (0, True), resumed.stdout


def _paused(host: Host) -> None:
    """What virsh takes out meanwhile stays out."""
    assert host.cede("pause", "nic0", "--for", "1h").returncode == 0
    host.sh(TAKE_OUT)
    before = host.state()
    left = host.cede("apply", "--yes")
    assert (left.returncode, "Nothing was changed." in left.stdout) == (0, True), left.stdout
    shown = host.cede("status")
    assert (shown.returncode, "nic0 -> pv1: PAUSED" in shown.stdout) == (0, True), shown.stdout
    assert host.state() == before


def _reported_only(host: Host) -> None:
    """Nobody but the administrator puts it back, where the policy only wants to hear of it."""
    host.policy("nic0", NIC, "pv1", "verify: {guest: console}\non_drift: report\n")
    before = host.state()
    resumed = host.cede("resume", "nic0", "--yes")
    assert (resumed.returncode, "leaves it so" in resumed.stdout) == (4, True), resumed.stdout
    assert host.cede("apply", "--scheduled").returncode == 4
    assert host.state() == before
    said = json.loads(host.cede("status", "--json").stdout)["conditions"]
    (action,) = [one for one in said if one["type"] == "InSync"]
    assert (action["status"], action["reason"]) == ("False", "Drifted")
    restored = host.cede("apply", "--yes")
    assert restored.returncode == 0, restored.stdout
    assert f"drifted: another tool took {NIC} out of the running pv1" in restored.stdout
