"""Kill it anywhere, cut libvirtd off, hang a guest: nothing is lost, and what is half done is known and mended."""

import json
import random
import re
import time
from itertools import zip_longest
from typing import Any

import pytest

from lab.figures import Faults
from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
POLICY = "/etc/cede/policy.yaml"
VIRSH = "virsh -q -c xen:///system"
RANDOM_KILLS, RANDOM_KILLS_SOAKED = 4, 30
# scanning its new bus alone takes a guest of a busy emulated host 16 s and more
PATIENT = "verify: {guest: console, timeout: 60}\n"


def _run(host: Host, *argv: str, at: str = "", act: str = "") -> dict[str, Any]:
    done: dict[str, Any] = host.ask(300, do="run", argv=[*argv], at=at, act=act)
    assert not at or at in done["passed"], (at, done)
    return done


def _state(host: Host, wanted: str = "") -> str:
    """All that cede could change; what udev and the kernel do a moment later is waited for, if `expected` is known."""
    return str(host.ask(do="state", wanted=wanted, patience=10 if wanted else 0))


def _in_sync(host: Host) -> None:
    """One apply reaches the wanted state, and a second finds nothing to do."""
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    _nothing_to_do(host)


def _nothing_to_do(host: Host) -> None:
    again = host.cede("apply", "--yes")
    assert (again.returncode, "Nothing was changed." in again.stdout) == (0, True), again.stdout


def _back(host: Host, before: str) -> None:
    """Release reaches the original state, but for pciback, which stays loaded."""
    released = host.cede("release", NIC)
    assert released.returncode == 0, released.stdout + released.stderr
    host.sh("modprobe -r xen-pciback")
    assert _state(host, before) == before
    history = json.loads(host.cede("history", "--json").stdout)["history"]
    assert not [entry for entry in history if entry["open"]]


@pytest.fixture
def wanted(host: Host) -> str:
    """nic0 is wanted in pv1; its interface is up, with an address; returns the state before anything is done."""
    host.policy("nic0", NIC, "pv1", PATIENT)
    host.sh(
        "ip address add 192.0.2.9/24 dev enp1s0; ip link set enp1s0 mtu 1400 up;"
        " for i in $(seq 100); do [ $(cat /sys/class/net/enp1s0/carrier) = 1 ] && exit 0; sleep 0.1; done; exit 1"
    )
    return _state(host)


LOOKS = ("xenstore", "reading ", "looking ")


def journalled(points: list[str]) -> list[str]:
    """The moments that differ to whoever comes after: an action written down, done, and written down as done."""
    done = (point.removeprefix("after ") for point in points if point.startswith("after "))
    return [f"after {what}" for what in done if not what.startswith(LOOKS)]


@pytest.mark.long(9)
def test_killed_at_every_journalled_point_it_is_mended(
    host: Host, faults: Faults, soak: bool
) -> None:
    """The agent that the command asks; at length the command, too, that does its work itself."""
    host.policy("nic0", NIC, "pv1", "verify: {guest: none}\n")
    apply = host.ask(do="points", argv=["apply", "--yes"])
    release = host.ask(do="points", argv=["release", "nic0"])
    host.sh("modprobe -r xen-pciback")
    cycles = list(zip_longest(journalled(apply), journalled(release), fillvalue=0.5))
    assert len(cycles) > 10
    killing = {"do": "kill", "cycles": cycles, "policy": POLICY, "device": "nic0"}
    for agent in (True, False) if soak else (True,):
        reported = host.ask(1500, **killing, agent=agent)
        _assert_mended(reported, faults, "SIGKILL at a journalled point")
        assert _killed(reported) == 2 * len(cycles), json.dumps(reported, indent=1)
    host.policy("nic0", NIC, "pv1", "verify: {guest: console}\n")
    _in_sync(host)


def test_killed_at_random_moments_it_is_mended_too(host: Host, faults: Faults, soak: bool) -> None:
    wanted = RANDOM_KILLS_SOAKED if soak else RANDOM_KILLS
    host.policy("nic0", NIC, "pv1", "verify: {guest: none}\n")
    apply = _run(host, "apply", "--yes")["seconds"]
    release = _run(host, "release", "nic0")["seconds"]
    host.sh("modprobe -r xen-pciback")
    chance = random.Random(20261123)  # noqa: S311 - the same parts of a run each time
    reported: list[Any] = []
    # a run can be quicker than the one measured
    while _killed(reported) < wanted and len(reported) < wanted:
        cycle = [round(chance.uniform(0.02, 0.9) * whole, 2) for whole in (apply, release)]
        reported += host.ask(300, do="kill", cycles=[cycle], policy=POLICY, device="nic0")
    _assert_mended(reported, faults, "SIGKILL at a random moment")
    assert _killed(reported) >= wanted


def _killed(reported: list[Any]) -> int:
    return sum(sum(one["killed"]) for one in reported)


def _assert_mended(reported: list[Any], faults: Faults, name: str) -> None:
    bad = [one for one in reported if not one["mended"]]
    tried, lost = _killed(reported), _killed(bad)
    faults.count(name, tried=tried, survived=tried - lost)
    assert not bad, json.dumps(bad, indent=1)


KILL_LIBVIRTD = "(sleep {}; kill -9 $(pidof libvirtd)) > /dev/null 2>&1 &"


def _libvirtd_was_killed(host: Host) -> None:
    assert host.sh("systemctl show -p NRestarts --value libvirtd").strip() != "0"


@pytest.mark.parametrize("delay", [0.02, 0.2, 0.3, 0.4])
def test_libvirtd_killed_in_the_middle_of_an_attach_is_waited_for(
    host: Host, wanted: str, delay: float, faults: Faults
) -> None:
    """Killed after Xen was told and before anything was written down, it leaves a device that only Xen knows of."""
    at = f"before plugging {NIC} into pv1 #1"
    with faults.tried("libvirtd killed during an attach"):
        done = _run(host, "apply", "--yes", at=at, act=KILL_LIBVIRTD.format(delay))
        _libvirtd_was_killed(host)
        assert done["status"] == 0, done["out"]
        _nothing_to_do(host)
        _back(host, wanted)


def test_libvirtd_killed_in_the_middle_of_a_release_is_waited_for(
    host: Host, wanted: str, faults: Faults
) -> None:
    """Killed after Xen took the card out and before that was written down, it lists the card until the guest ends."""
    _in_sync(host)
    at = f"before unplugging {NIC} from pv1 #1"
    with faults.tried("libvirtd killed during a release"):
        done = _run(host, "release", "nic0", at=at, act=KILL_LIBVIRTD.format(0.3))
        _libvirtd_was_killed(host)
        if done["status"] == 0:
            _back(host, wanted)
        else:
            # by the moment: Xen has taken it out and libvirt lists it, or Xen has it still and the guest was asked
            assert done["status"] in {1, 75}, done["out"]
            assert re.search("remedy: .*shut (pv1|it) down", done["out"]), done["out"]
            host.sh(f"{VIRSH} destroy pv1")
            _back_but_for_the_guest(host, wanted)


def test_a_slow_xenstored_is_waited_for(host: Host, wanted: str, faults: Faults) -> None:
    at = f"before plugging {NIC} into pv1 #1"
    stop = "pid=$(pidof xenstored); kill -STOP $pid; (sleep 8; kill -CONT $pid) > /dev/null 2>&1 &"
    with faults.tried("xenstored stopped for 8 s during an attach"):
        done = _run(host, "apply", "--yes", at=at, act=stop)
        assert done["status"] == 0, done["out"]
        _back(host, wanted)


@pytest.mark.parametrize("what", ["destroy", "reboot", "suspend"])
@pytest.mark.parametrize("verb", ["apply", "release"])
def test_a_guest_that_goes_or_stops_meanwhile_harms_nothing(
    host: Host, verb: str, what: str, faults: Faults
) -> None:
    """Whatever the first one says, once the guest is back one apply is enough."""
    if verb == "release":
        host.policy("nic0", NIC, "pv1", PATIENT)
        _in_sync(host)
        at = f"before unplugging {NIC} from pv1 #1"
        argv = ["release", "nic0"]
    else:
        # a guest that is gone or stands still doesn't answer, however long it is waited for
        host.policy("nic0", NIC, "pv1", "verify: {guest: console, timeout: 5}\n")
        at = f"before plugging {NIC} into pv1 #1"
        argv = ["apply", "--yes"]
    with faults.tried(f"guest: {what} during {verb}"):
        done = _run(host, *argv, at=at, act=f"{VIRSH} {what} pv1 & sleep 0.2")
        assert done["status"] in {0, 1, 75}, done["out"]
        assert done["seconds"] < 120
        host.sh(f"{VIRSH} resume pv1 2>/dev/null || {VIRSH} start pv1 2>/dev/null || true")
        _await_guest(host)
        host.policy("nic0", NIC, "pv1", PATIENT)
        _in_sync(host)
        assert host.cede("release", NIC).returncode == 0
        assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("e1000e")


def _await_guest(host: Host) -> None:
    """Until its shell answers."""
    for _ in range(60):
        try:
            host.guest("pv1", "true")
        except AssertionError:
            continue
        return
    raise AssertionError("pv1 doesn't come back")


def test_a_guest_that_answers_a_detach_too_late_keeps_running_and_gets_it_again(
    host: Host, wanted: str, faults: Faults
) -> None:
    """libxl gives up after ten seconds and libvirt forgets the device; the guest needs no restart for all that."""
    _in_sync(host)
    domid = host.sh("xl domid pv1").strip()
    with faults.tried("a release of what a paused guest has"):
        host.sh(f"{VIRSH} suspend pv1")
        before = host.sh(f"xenstore-ls /local/domain/0/backend/pci/{domid}; {VIRSH} dumpxml pv1")
        started = time.monotonic()
        done = host.cede("release", "nic0")
        assert time.monotonic() - started < 20  # libxl alone would wait for longer
        assert (done.returncode, "pv1 is paused" in done.stdout) == (75, True), done.stdout
        after = host.sh(f"xenstore-ls /local/domain/0/backend/pci/{domid}; {VIRSH} dumpxml pv1")
        assert after == before, "something of it was begun"
        host.sh(f"{VIRSH} resume pv1")
        _back(host, wanted)
    with faults.tried("a detach by xl behind libvirt's back"):
        _in_sync(host)
        host.sh(f"xl pci-detach pv1 {NIC}")
        assert "<hostdev" in host.sh(f"{VIRSH} dumpxml pv1")
        _back(host, wanted)
        _in_sync(host)
        host.sh(f"xl pci-detach pv1 {NIC}")
        _in_sync(host)
        _back(host, wanted)
    with faults.tried("a guest that answers virsh's detach too late"):
        _in_sync(host)
        host.sh(f"{VIRSH} suspend pv1")
        host.sh(
            f"{VIRSH} dumpxml pv1 | sed -n '/<hostdev/,/<.hostdev>/p' > /tmp/hostdev.xml;"
            f" {VIRSH} detach-device pv1 /tmp/hostdev.xml --live || true"
        )
        for_later = host.cede("apply", "--yes")
        assert for_later.returncode == 75, for_later.stdout
        assert "paused" in for_later.stdout
        host.sh(
            f"{VIRSH} resume pv1; for _ in $(seq 60); do"
            f" xenstore-read /local/domain/0/backend/pci/{domid}/0/state | grep -q 4 && exit 0;"
            " sleep 0.5; done; exit 1"
        )
        _await_guest(host)
        _in_sync(host)
        _back(host, wanted)
    assert host.sh("xl domid pv1").strip() == domid


def _back_but_for_the_guest(host: Host, before: str) -> None:
    """Release reaches the original state, once pv1 is started that is off."""
    released = host.cede("release", "nic0")
    assert released.returncode == 0, released.stdout
    assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("e1000e")
    host.sh(f"{VIRSH} start pv1; modprobe -r xen-pciback")
    assert _without_domids(_state(host, before)) == _without_domids(before)


def _without_domids(state: str) -> str:
    """A guest that was started anew has another number, and what is named by that."""
    return re.sub(r" id='\d+'|/dev/pts/\d+|tty='[^']*'|/local/domain/\S+.*\n?", "", state)


@pytest.mark.usefixtures("wanted")
def test_a_card_torn_out_of_a_guest_stays_listed_and_removable(host: Host, faults: Faults) -> None:
    _in_sync(host)
    with faults.tried("surprise removal while a guest has the card"):
        host.lab.qmp("device_del", {"id": "pci_0000_01_00_0"})
        gone = f"for i in $(seq 300); do [ -e /sys/bus/pci/devices/{NIC} ] || exit 0; sleep 0.1; done; exit 1"
        assert host.run("sh", "-ec", gone).returncode == 0, host.sh("dmesg | tail")
        assert "vanished" in host.cede("devices").stdout
        assert host.cede("status").returncode == 4
        told = host.cede("status", "--json").stdout
        assert "has vanished" in told, told
        released = host.cede("release", NIC)
        assert (released.returncode, "vanished" in released.stdout) == (75, True), released.stdout
        assert "<hostdev" in host.sh(f"{VIRSH} dumpxml pv1")
        host.sh(f"{VIRSH} destroy pv1")
        assert "<hostdev" not in host.sh(f"{VIRSH} dumpxml pv1 --inactive")
        assert host.sh("systemctl show -p NRestarts --value libvirtd").strip() == "0"
        host.sh(f"{VIRSH} start pv1")


def test_without_room_for_the_journal_nothing_is_done(
    host: Host, wanted: str, faults: Faults
) -> None:
    with faults.tried("disk full under the journal"):
        host.sh(
            "mkdir -p /var/lib/cede; mount -t tmpfs -o size=16k none /var/lib/cede;"
            " dd if=/dev/zero of=/var/lib/cede/filler bs=4k 2>/dev/null || true"
        )
        done = host.cede("apply", "--yes")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "journal" in done.stdout + done.stderr
        assert _state(host, wanted) == wanted
        host.sh("umount /var/lib/cede")
        _in_sync(host)


@pytest.mark.usefixtures("wanted")
def test_a_damaged_journal_is_set_aside_and_said(host: Host, faults: Faults) -> None:
    _in_sync(host)
    with faults.tried("journal damaged"):
        host.sh(
            "printf garbage | dd of=/var/lib/cede/journal.db conv=notrunc bs=1 seek=20 2>/dev/null; "
            "dd if=/dev/urandom of=/var/lib/cede/journal.db conv=notrunc bs=4096 seek=1 count=3 2>/dev/null;"
            " rm -f /var/lib/cede/journal.db-wal"
        )
        done = host.cede("apply", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is damaged" in done.stderr
        resumed = host.cede("resume", "--yes")  # until then everything is paused
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert host.sh("ls /var/lib/cede/journal.db.damaged-*")
        history = json.loads(host.cede("history", "--json").stdout)["history"]
        assert [entry["outcome"] for entry in history] == ["found"]
        released = host.cede("release", NIC)
        assert released.returncode == 0, released.stdout
        assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("e1000e")


MANY = """\
version: 1
devices:
  a: {match: {address: "0000:01:00.0"}}
  b: {match: {address: "0000:04:00.0"}}
  c: {match: {address: "0000:05:00.0"}}
  d: {match: {address: "0000:06:00.0"}}
  e: {match: {address: "0000:07:00.0"}}
  f: {match: {address: "0000:08:00.0"}}
  g: {match: {address: "0000:00:11.0"}}
  h: {match: {address: "0000:02:00.0"}}
  i: {match: {address: "0000:02:00.1"}}
assignments:
  - {device: a, domain: pv1}
  - {device: b, domain: pv1}
  - {device: c, domain: pv1}
  - {device: d, domain: pv2, verify: {guest: none}}
  - {device: e, domain: pv2, verify: {guest: none}}
  - {device: f, domain: hvm1, verify: {guest: console, timeout: 120}}
  - {device: g, domain: hvm1, verify: {guest: console, timeout: 120}}
  - {device: h, domain: pv3, when: next-start}
  - {device: i, domain: pv3, when: next-start}
"""


@pytest.mark.long(3)
def test_many_at_once_with_a_second_cede_meanwhile(host: Host, faults: Faults) -> None:
    with faults.tried("9 assignments at once, and two more cedes meanwhile"):
        host.with_hvm(lambda: _many_at_once(host))


def _many_at_once(host: Host) -> None:
    host.write(POLICY, MANY)
    done = host.sh(
        "set +e; (cede apply --yes > /tmp/first 2>&1; echo $? >> /tmp/first) & sleep 3;"
        " cede apply --yes --wait 0 > /tmp/second 2>&1; echo $? >> /tmp/second;"
        " cede apply --yes --wait 200 > /tmp/third 2>&1; echo $? >> /tmp/third; wait;"
        " tail -n 3 /tmp/first /tmp/second /tmp/third",
        timeout=500,
    )
    assert host.sh("tail -n 1 /tmp/first").strip() == "0", host.sh("cat /tmp/first")
    assert host.sh("tail -n 1 /tmp/second").strip() == "75", done
    assert "is running" in host.sh("cat /tmp/second")
    assert host.sh("tail -n 1 /tmp/third").strip() == "0", host.sh("cat /tmp/third")
    assert "Nothing was changed." in host.sh("cat /tmp/third")
