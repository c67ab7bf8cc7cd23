"""The channels into real guests: console with and without a login, ssh over the very card, xenstore's helper."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

import pytest

from lab.host import Host
from lab.test_main_job import AWAIT_CARRIER
from lab.told import Measured

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
PASSWORD = "/etc/cede/pv2.password"  # noqa: S105 - a path
# 1,500 characters and their number, asked through cede's own console in dom0's Python
PROBE = """
import sys, time
from cede.errors import CedeError
from cede.guest.console import Console
from cede.host.libvirt import Libvirt
domain, command = sys.argv[1:]
with Libvirt("xen:///system").console(domain) as line:
    asked = Console(line)
    try:
        asked.run("true", 60)
        begun = time.monotonic()
        said = asked.run(command, 60)
        print(f"{(time.monotonic() - begun) * 1000:.0f}")
        print(said, end="")
    except CedeError as error:
        sys.exit(error.message)
    finally:
        asked.leave()
"""


class Verified(NamedTuple):
    """Whether an assignment is proven, and what was found of the guest itself."""

    proven: bool
    guest: str


def verified(host: Host, verify: str, domain: str = "pv1") -> Verified:
    """What `cede verify` says with that channel in the policy."""
    host.policy("nic0", NIC, domain, f"verify: {{{verify}}}\n")
    (checked,) = json.loads(host.cede("verify", "--json").stdout)["checked"]
    inside = [f["found"] for f in checked["findings"] if f["source"].startswith("guest")]
    return Verified(proven=checked["proven"], guest=" ".join(inside))


def probe(host: Host, domain: str, command: str) -> tuple[int, str]:
    """The milliseconds and the answer of a command on a guest's warm console."""
    done = host.lab.exec(["python3", "-", domain, command], stdin=PROBE)
    assert done.returncode == 0, done.stderr
    took, _, said = done.stdout.partition("\n")
    return int(took), said


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

    long = "x='" + "a" * 1500 + "'; echo ${#x}"
    took, said = probe(host, "pv1", long)
    assert said == "1500\n"
    bare, _ = probe(host, "pv1", "true")
    measured.tell(
        f"a command through pv1's warm console: {bare} ms; one of 1,500 characters: {took} ms"
    )
    assert verified(host, "guest: console").proven

    _ssh_over_the_card(host)

    # one that answers no more: its helper is stopped
    host.guest(
        "pv1",
        "killall -STOP cede-guest",
    )
    silent = verified(host, "guest: xenstore, timeout: 5")
    assert not silent.proven
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
    assert "isn't known here" in verified(host, ssh).guest
    host.sh(f"ssh-keyscan -t ed25519 {there} > /root/.ssh/known_hosts")
    known = verified(host, ssh)
    assert known.proven, known
    host.sh("chmod 644 /root/.ssh/id_lab")
    assert "chmod 600 /root/.ssh/id_lab" in verified(host, ssh).guest
    host.sh(
        "chmod 600 /root/.ssh/id_lab; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_lab2;"
        " sed -i \"s| ssh-ed25519 .*| $(cut -d' ' -f1,2 /root/.ssh/id_lab2.pub)|\" /root/.ssh/known_hosts"
    )
    assert "another than the known one" in verified(host, ssh).guest
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
    assert verified(host, known, "pv2").proven
    host.sh(f"chmod 640 {PASSWORD}")
    assert f"chmod 600 {PASSWORD}" in verified(host, known, "pv2").guest
    # it asks for a login again: nobody was left on it
    assert "asks for a login" in verified(host, "guest: console", "pv2").guest
    # a person is on it
    host.sh(
        "mkfifo /run/person; (sleep 30 > /run/person) & setsid script -qc"
        " 'virsh -c xen:///system console pv2' /dev/null < /run/person > /run/seen 2>&1 &"
    )
    host.sh("until grep -q Escape /run/seen; do sleep 0.1; done")
    assert "somebody is on the console" in verified(host, "guest: console", "pv2").guest


def test_a_console_full_of_noise_proves_nothing_in_bounded_time(host: Host) -> None:
    host.policy("nic0", NIC, "pv1", "verify: {guest: none}\n")
    assert host.cede("apply", "--yes").returncode == 0
    host.guest(
        "pv1", "(while sleep 0.2; do echo noise; done) > /dev/console 2>&1 & echo $! > /run/noise"
    )
    assert verified(host, "guest: console").proven
    host.guest("pv1", "kill $(cat /run/noise)")
    host.guest("pv1", "(sleep 2; while :; do echo noise; done) > /dev/console 2>&1 & true")
    begun = time.monotonic()
    flooded = verified(host, "guest: console, timeout: 10")
    assert time.monotonic() - begun < 30
    assert not flooded.proven
    assert "console" in flooded.guest
    # the other way in doesn't mind
    assert verified(host, "guest: xenstore").proven
