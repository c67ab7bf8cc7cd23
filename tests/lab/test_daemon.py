"""The daemon on real Xen, as its unit starts it: what people and tools do behind its back, and what it costs."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xenlab.waiting import wait_until

if TYPE_CHECKING:
    from lab.figures import Faults, Measured
    from lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.long(9)]

NIC = "0000:01:00.0"
UNITS = Path(__file__).parents[2] / "contrib/systemd"
VIRSH = "virsh -q -c xen:///system"
EVENTS = 200
ROUNDS, ROUNDS_SOAKED = 1, 3
RESTARTS, RESTARTS_SOAKED = 2, 20
IDLE_SECONDS, IDLE_SECONDS_SOAKED = 4, 600
_IDLE_SHARE, _IDLE_WINDOWS = 0.01, 5
# libvirt may still be taking apart what was there before
START = f"until {VIRSH} start pv1; do sleep 0.2; done"
VERIFIED = "nic0 -> pv1: in sync"
NOTHING_WANTED = "version: 1\ndevices: {}\nassignments: []\n"
AWAIT_DOM0S = f"""\
for _ in $(seq 120); do [ -e /sys/bus/pci/drivers/e1000e/{NIC} ] && exit 0; sleep 0.25; done
journalctl -q -u cede --no-pager; exit 1
"""
# await: until the daemon has said $1 for the $2-th time since the first; prints when that was, in seconds. It reads the
# log as it is written, since dom0 has one slow processor, and the daemon needs it.
# await_in_sync: until a pass that begins now or later has found all in sync.
SAID = """\
give_up() { journalctl -q -u cede -o short-precise --no-pager; exit 1; }
await() { rm -f /run/said; mkfifo /run/said
timeout 200 journalctl -q -u cede -o short-unix --no-tail -f > /run/said & follower=$!
t=$(grep -F -m "$2" -- "$1" < /run/said | sed -n "$2p" | cut -d' ' -f1); kill $follower || true
[ "$t" ] || give_up; echo "$t"; }
passes() { systemctl show cede -P StatusText | sed 's/.*pass \\([0-9]*\\).*/\\1/'; }
await_in_sync() { end=$(($(date +%s) + 200)); n=$(passes); systemctl reload cede
until sleep 1; s=$(systemctl show cede -P StatusText); m=${s##*pass }
[ ${m%%,*} -gt $n ] && [ -z "${s##*1 of 1 in sync*}" ]; do
[ $(date +%s) -lt $end ] || give_up; done; }
"""


@pytest.fixture
def running(host: Host) -> Host:
    """cede.service runs and has brought nic0 to pv1."""
    for unit in UNITS.glob("cede*"):
        host.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
    host.write("/etc/sysusers.d/cede.conf", (UNITS / "sysusers.d/cede.conf").read_text())
    host.policy("nic0", NIC, "pv1", "verify: {guest: console}\n")
    host.sh(
        f"{SAID} systemd-sysusers; systemctl daemon-reload; systemctl start cede; await '{VERIFIED}' 1",
        timeout=300,
    )
    host.sh(f"{VIRSH} dumpxml pv1 | sed -n '/<hostdev/,/<.hostdev>/p' > /tmp/hostdev.xml")
    return host


def _said(host: Host, what: str, time: int = 1) -> float:
    return float(host.sh(f"{SAID} await '{what}' {time}", timeout=300))


def _count(host: Host, what: str) -> int:
    return int(host.sh(f"journalctl -q -u cede --no-pager | grep -cF -- '{what}' || true"))


def _detached(host: Host) -> tuple[float, float]:
    """When `virsh detach-device` had done it behind the daemon's back, and when it was verified in the guest again."""
    before = _count(host, VERIFIED)
    done, verified = host.sh(
        f"{SAID} {VIRSH} detach-device pv1 /tmp/hostdev.xml --live; date +%s.%N;"
        f" await '{VERIFIED}' {before + 1}",
        timeout=300,
    ).split()
    return float(done), float(verified)


def test_it_is_in_sync_whatever_is_done_behind_its_back(
    running: Host, faults: Faults, measured: Measured, soak: bool
) -> None:
    host = running
    rounds = ROUNDS_SOAKED if soak else ROUNDS
    _costs_little(host, measured, IDLE_SECONDS_SOAKED if soak else IDLE_SECONDS)
    began = _holds(host)
    _puts_back_what_virsh_took(host, measured, rounds)
    _many_events_are_few_passes(host, measured)
    _a_pass_is_cheap(host, measured, rounds)
    _puts_back_what_xl_took(host)
    _follows_the_guest_through(
        host,
        faults,
        {
            "destroyed and started": f"{VIRSH} destroy pv1; {VIRSH} start pv1",
            "rebooted": f"{VIRSH} reboot pv1",
            "destroyed by xl": f"xl destroy pv1; {START}",
        },
    )
    host.guest("pv1", "(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 & true")
    host.sh(f"until {VIRSH} domstate pv1 | grep 'shut off'; do sleep 0.2; done")
    _follows_the_guest_through(host, faults, {"crashed": START})
    _takes_back_what_was_rebound_by_hand(host)
    _outlives_libvirtd(host, faults, RESTARTS_SOAKED if soak else RESTARTS)
    _follows_the_policy(host)
    _has_not_grown(host, began, measured)
    _keeps_the_timer_away_and_stops_cleanly(host)


def _holds(host: Host) -> tuple[int, int, int]:
    """What the daemon holds: kilobytes resident, file descriptors, threads."""
    pid = host.sh("systemctl show cede -P MainPID").strip()
    said = host.sh(
        f"cd /proc/{pid}; sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' status; ls fd | wc -l; ls task | wc -l"
    )
    resident, descriptors, threads = map(int, said.split())
    return resident, descriptors, threads


def _files(host: Host) -> str:
    # one that is closed while it is listed makes ls fail
    return host.sh("ls -l /proc/$(systemctl show cede -P MainPID)/fd || true")


def _costs_little(host: Host, measured: Measured, seconds: int) -> None:
    resident, _, _ = _holds(host)
    # what began with its start ends first, and an emulated core that it shares is slow
    for _ in range(_IDLE_WINDOWS):
        began, ended = host.sh(
            f"c='systemctl show cede -P CPUUsageNSec'; sleep 2; $c; sleep {seconds}; $c"
        ).split()
        share = (int(ended) - int(began)) / (1e9 * seconds)
        if share < _IDLE_SHARE:
            break
    measured.report(f"cede run: {resident / 1000:.1f} MB resident, idle {share:.3%} of a core")
    assert resident < 64_000
    assert share < _IDLE_SHARE, "the emulated core is slow; it must be idle all the same"


def _has_not_grown(host: Host, began: tuple[int, int, int], measured: Measured) -> None:
    # between two passes: one holds the lock and libvirt's answers
    assert wait_until(lambda: "/run/cede.lock" not in _files(host), timeout=60, interval=1)
    resident, descriptors, threads = _holds(host)
    passes = host.sh(f"{SAID} passes").strip()
    measured.report(
        f"after {passes} passes: {(resident - began[0]) / 1000:+.1f} MB resident,"
        f" {descriptors - began[1]:+d} descriptors, {threads - began[2]:+d} threads"
    )
    assert resident < 64_000
    assert descriptors <= began[1] + 2
    assert threads <= began[2] + 1


def _puts_back_what_virsh_took(host: Host, measured: Measured, rounds: int) -> None:
    took = []
    for _ in range(rounds):
        done, verified = _detached(host)
        took.append(verified - done)
    plugs = host.sh("journalctl -q -u cede --no-pager | grep -o 'hot-plug.*done, .*' || true")
    seconds = [float(line.split("done, ")[1].split()[0]) for line in plugs.splitlines()]
    measured.report(
        f"virsh detach-device to verified again: median {statistics.median(took):.2f} s,"
        f" of which the attach alone {statistics.median(seconds):.2f} s"
    )
    assert "e1000e" in host.guest("pv1", "lspci -k")


def _many_events_are_few_passes(host: Host, measured: Measured) -> None:
    before, after = host.sh(
        f"{SAID} sleep 3; passes; for n in $(seq {EVENTS}); do"
        " echo /local/domain/0/backend/pci/cede-test/$n; done | xargs -n 50 sh -c"
        ' \'for p; do set -- "$@" "$p" 1; shift; done; xenstore-write "$@"\' sh;'
        " xenstore-rm /local/domain/0/backend/pci/cede-test; sleep 5; passes"
    ).split()
    measured.report(f"{EVENTS} events in a moment: {int(after) - int(before)} passes")
    assert 1 <= int(after) - int(before) <= 5


def _a_pass_is_cheap(host: Host, measured: Measured, rounds: int) -> None:
    """Against the shell loop that the administrator would write."""
    passes, loops = [], []
    for _ in range(rounds):
        before, took, after = host.sh(
            f"{SAID} date +%s.%N; for d in $({VIRSH} list --all --name); do {VIRSH} dumpxml $d; done"
            " > /dev/null; date +%s.%N; systemctl reload cede; sleep 2;"
            " systemctl show cede -P StatusText | sed 's/.*, //; s/ s$//'"
        ).split()
        loops.append(float(took) - float(before))
        passes.append(float(after))
    measured.report(
        f"a pass with nothing to do: {statistics.median(passes):.2f} s;"
        f" a shell loop of virsh dumpxml: {statistics.median(loops):.2f} s"
    )


def _puts_back_what_xl_took(host: Host) -> None:
    """libvirt lists it all the while, and would crash sooner or later if it were asked to detach it."""
    verified, put_back = _count(host, VERIFIED), f"put {NIC} back into the running pv1"
    host.sh(f"xl pci-detach pv1 {NIC}")
    _said(host, VERIFIED, verified + 1)
    assert _count(host, put_back), host.sh("journalctl -q -u cede --no-pager | tail -n 30")
    _guest_has_it(host)


def _follows_the_guest_through(host: Host, faults: Faults, ways: dict[str, str]) -> None:
    """A guest that is back before the next pass was never out of sync in the log; it has its device all the same."""
    for name, script in ways.items():
        with faults.tried(f"guest {name} under the daemon"):
            host.sh(f"{SAID} {script}; await_in_sync", timeout=300)
            _guest_has_it(host)


def _guest_has_it(host: Host) -> None:
    """The guest shows the device with its driver, once neither a pass of the daemon nor a restart is on its console."""
    shown: list[str] = []

    def seen() -> bool:
        done = host.ask(do="guest", domain="pv1", command="lspci -k")
        shown.append(done["out"] + done["err"])
        return done["status"] == 0 and "e1000e" in done["out"]

    assert wait_until(seen, timeout=120, interval=2), shown[-1]


def _takes_back_what_was_rebound_by_hand(host: Host) -> None:
    """While its guest is off, so that the start finds it."""
    bound, verified = f"bind {NIC} from e1000e to pciback: done", _count(host, VERIFIED)
    before = _count(host, bound)
    host.sh(
        f"{VIRSH} destroy pv1; sleep 3; cd /sys/bus/pci; echo {NIC} > drivers/pciback/unbind;"
        f" echo > devices/{NIC}/driver_override; echo {NIC} > drivers/e1000e/bind"
    )
    _said(host, bound, before + 1)
    host.sh(START)
    _said(host, VERIFIED, verified + 1)


def _outlives_libvirtd(host: Host, faults: Faults, restarts: int) -> None:
    with faults.tried("libvirtd restarted under the daemon", times=restarts):
        host.sh(
            f"for _ in $(seq {restarts}); do systemctl reset-failed libvirtd; systemctl restart libvirtd; done;"
            f" {VIRSH} list > /dev/null; systemctl is-active cede",
            timeout=400,
        )
        _detached(host)
        assert host.sh("systemctl show cede -P NRestarts").strip() == "0"


def _follows_the_policy(host: Host) -> None:
    right = host.sh("cat /etc/cede/policy.yaml")
    host.write("/etc/cede/policy.yaml", "version: 1\ndevcies: {}\n")
    _said(host, "the policy is wrong, so cede follows the last valid one")
    host.write("/etc/cede/policy.yaml", NOTHING_WANTED)
    host.sh(AWAIT_DOM0S)
    plugged = _count(host, "hot-plug")
    host.write("/etc/cede/policy.yaml", right)
    _said(host, "hot-plug", plugged + 1)
    host.write("/etc/cede/policy.yaml", NOTHING_WANTED)  # in the middle of the pass
    host.sh(AWAIT_DOM0S)
    before = _count(host, VERIFIED)
    host.write("/etc/cede/policy.yaml", right)
    _said(host, VERIFIED, before + 1)


def _keeps_the_timer_away_and_stops_cleanly(host: Host) -> None:
    host.sh("systemctl start cede-apply")
    assert "Skipped due to 'exec-condition'" in host.sh("journalctl -q -u cede-apply --no-pager")
    assert host.sh("systemctl is-active cede").strip() == "active"
    host.sh("systemctl stop cede")
    assert host.sh("systemctl show cede -P Result").strip() == "success"
    host.sh("systemctl start cede-apply")
    assert host.sh("systemctl show cede-apply -P Result").strip() == "success"
