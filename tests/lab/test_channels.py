"""The channels into real guests: console with and without a login, ssh over the very card, xenstore's helper."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.figures import Measured
from lab.host import Host
from lab.test_main_job import AWAIT_CARRIER
from xenlab.waiting import wait_until

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
TYPING = Path(__file__).with_name("typing_while_it_ends.py")
PASSWORD = "/etc/cede/pv2.password"  # noqa: S105 - a path
# Through cede's console in dom0's Python: a long command, and looks that tell how long the guest itself took.
PROBE = """
import statistics, sys, time
from cede.model.pci import Address
from cede.guest import probe
from cede.guest.channels.console_channel import ConsoleChannel
from cede.adapters.libvirt.connection import Libvirt
LOOK = probe.command(Address.parse(sys.argv[2]))
TIMED = "read a _ < /proc/uptime; x=$(" + LOOK + "); read b _ < /proc/uptime; echo $a $b"
with Libvirt("xen:///system").console(sys.argv[1]) as line:
    asked = ConsoleChannel(line)
    def timed(command):
        begun = time.monotonic()
        return asked.run(command, 60), 1000 * (time.monotonic() - begun)
    said, _ = timed("x='" + "a" * 1500 + "'; echo ${#x}")
    looks, own = [], []
    for _ in range(7):
        looks.append(timed(LOOK)[1])
        began, ended = timed(TIMED)[0].split()
        own.append(1000 * (float(ended) - float(began)))
    asked.leave()
beyond = statistics.median(a - b for a, b in zip(looks, own))
print(said.strip(), f"{statistics.median(looks):.0f} {statistics.median(own):.0f} {beyond:.0f}")
"""


class Verified(NamedTuple):
    """Whether an assignment is verified, and what was found of the guest itself."""

    verified: bool
    guest: str


def verified(host: Host, verify: str, domain: str = "pv1") -> Verified:
    """What `cede verify` says with that channel in the policy."""
    host.policy("nic0", NIC, domain, f"verify: {{{verify}}}\n")
    (checked,) = json.loads(host.cede("verify", "--json").stdout)["checked"]
    inside = [f["found"] for f in checked["findings"] if f["source"].startswith("guest")]
    return Verified(verified=checked["verified"], guest=" ".join(inside))


def test_a_guest_is_asked_by_console_ssh_and_xenstore_alike(host: Host, measured: Measured) -> None:
    host.policy("nic0", NIC, "pv1", "verify: {guest: xenstore}\n")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "[ok] guest lspci: 8086:10d3 at 0000:00:00.0" in applied.stdout
    # nothing stays behind, and what dom0 writes there belongs to the guest
    nodes = host.sh(
        "d=/local/domain/$(virsh -c xen:///system domid pv1)/data; xenstore-ls $d;"
        " xenstore-write $d/probe x; xenstore-ls -p $d; xenstore-rm $d/probe"
    )
    assert "cede" not in nodes
    assert nodes.split("probe")[1].split("(")[1].startswith("n1")

    probed = host.lab.exec(["python3", "-", "pv1", "0000:00:00.0"], stdin=PROBE)
    assert probed.returncode == 0, probed.stderr
    length, took, own, beyond = map(int, probed.stdout.split())
    assert length == 1500
    measured.report(
        f"a look through pv1's warm console: {took} ms, of which the guest's own commands {own} ms;"
        f" beyond them {beyond} ms (target 300)"
    )
    assert verified(host, "guest: console").verified

    _ssh_over_the_card(host)

    # one that answers no more: its helper is stopped
    host.guest(
        "pv1",
        "killall -STOP cede-guest",
    )
    silent = verified(host, "guest: xenstore, timeout: 5")
    assert not silent.verified
    assert "is cede-guest" in silent.guest


def _ssh_over_the_card(host: Host) -> None:
    """By IPv6: to IPv4 the hub's sink answers too, with a reset for each connection."""
    public = host.sh(
        "rm -f /root/.ssh/id_lab*; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_lab;"
        " ip addr add fe80::4/64 dev lab0 nodad; cat /root/.ssh/id_lab.pub"
    ).strip()
    host.guest(
        "pv1",
        f"mkdir -p /root/.ssh; echo '{public}' > /root/.ssh/authorized_keys; dropbear -R; ip link set eth0 up; "
        + AWAIT_CARRIER.replace("$1", "eth0"),
    )
    there = "fe80::5054:ff:fe01:0%lab0"
    host.sh(f"until ping -c 1 -W 1 {there}; do :; done")
    ssh = f'guest: ssh, host: "{there}", user: root, identity_file: /root/.ssh/id_lab'
    assert "is unknown here" in verified(host, ssh).guest
    host.sh(f"ssh-keyscan -t ed25519 {there} > /root/.ssh/known_hosts")
    known = verified(host, ssh)
    assert known.verified, known
    host.sh("chmod 644 /root/.ssh/id_lab")
    assert "chmod 600 /root/.ssh/id_lab" in verified(host, ssh).guest
    host.sh(
        "chmod 600 /root/.ssh/id_lab; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_lab2;"
        " sed -i \"s| ssh-ed25519 .*| $(cut -d' ' -f1,2 /root/.ssh/id_lab2.pub)|\" /root/.ssh/known_hosts"
    )
    assert "is not the known one" in verified(host, ssh).guest
    host.guest("pv1", "killall dropbear")
    assert "nothing answers" in verified(host, ssh).guest


def test_a_login_is_used_once_and_left_again_and_a_busy_console_is_left_alone(host: Host) -> None:
    known = f"guest: console, user: root, password_file: {PASSWORD}"
    host.policy("nic0", NIC, "pv2", f"verify: {{{known}}}\n")
    host.write(PASSWORD, "wrong\n")
    host.sh(f"chmod 600 {PASSWORD}")
    applied = host.cede("apply", "--yes")
    assert (applied.returncode, "refused the login of root" in applied.stdout) == (1, True)
    assert "wrong\n" not in applied.stdout
    host.write(PASSWORD, "lab\n")
    assert verified(host, known, "pv2").verified
    host.sh(f"chmod 640 {PASSWORD}")
    assert f"chmod 600 {PASSWORD}" in verified(host, known, "pv2").guest
    # it asks for a login again: nobody was left on it
    assert "asks for a login" in verified(host, "guest: console", "pv2").guest
    # the administrator is on it
    host.sh(
        "mkfifo /run/person; (sleep 30 > /run/person) & setsid script -qc"
        " 'virsh -c xen:///system console pv2' /dev/null < /run/person > /run/seen 2>&1 &"
    )
    host.sh("until grep -q Escape /run/seen; do sleep 0.1; done")
    assert "another session has the console" in verified(host, "guest: console", "pv2").guest


def test_a_console_full_of_noise_is_read_for_a_bounded_time(host: Host) -> None:
    host.policy("nic0", NIC, "pv1", "verify: {guest: none}\n")
    assert host.cede("apply", "--yes").returncode == 0
    host.guest(
        "pv1",
        "(for n in $(seq 100); do sleep 0.2; echo noise; done) > /dev/console 2>&1 & true",
    )
    # without a second of silence nothing is typed
    noisy = verified(host, "guest: console, timeout: 5")
    assert not noisy.verified
    assert "console" in noisy.guest
    # and once it is silent the shell is there again
    assert wait_until(
        lambda: host.ask(do="guest", domain="pv1", command="true")["status"] == 0, timeout=120
    )
    host.guest("pv1", "(sleep 2; while :; do echo noise; done) > /dev/console 2>&1 & true")
    host.sh("sleep 4")  # cede could be done before it begins
    started = time.monotonic()
    flooded = verified(host, "guest: console, timeout: 10")
    assert time.monotonic() - started < 30
    # the answer is found in the noise, or the console is to blame
    assert flooded.verified or "console" in flooded.guest
    # the other way in doesn't mind
    assert verified(host, "guest: xenstore").verified


def test_libvirt_answers_after_a_guest_went_away_while_it_was_typed_to(
    host: Host, measured: Measured, soak: bool
) -> None:
    ways = ["destroy", "reboot", "crash"] * (17 if soak else 1)
    argv = ["python3", "-P", "-", "pv1", *ways]
    done = host.lab.exec(argv, stdin=TYPING.read_text(), timeout=60 * len(ways))
    assert done.returncode == 0, done.stdout + done.stderr
    times = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["how"] for one in times] == ways
    wrong = [
        one
        for one in times
        # a name of cede's own error, not an exception of Python's
        if not one["answered"] or one["still typing"] or one["share"] > 0.5 or ":" in one["ended"]
    ]
    assert not wrong, wrong
    slowest = max(one["seconds"] for one in times)
    measured.report(
        f"{len(times)} guests went away while cede typed: libvirt answered after each, and the console was left"
        f" {slowest:.1f} s later at most"
    )
