"""A host that is restarted: its guests find their devices again, and itself its network, without the administrator."""

import json
import time
from pathlib import Path

import pytest

from lab.figures import Measured
from lab.host import Host
from xenlab.errors import LabError
from xenlab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.long(5)]

SYSTEMD = Path(__file__).parents[2] / "contrib/systemd"
VIRSH = "virsh -q -c xen:///system"
NETWORK, NEW = "0000:00:02.0", "0000:06:00.0"
GIVEN = {"pv1": "0000:01:00.0", "pv2": "0000:04:00.0", "pv3": "0000:05:00.0"}
UP_SECONDS = 400
POLICY = """\
version: 1
devices:
  nic1: {match: {address: "0000:01:00.0"}}
  nic2: {match: {address: "0000:04:00.0"}}
  nic3: {match: {address: "0000:05:00.0"}}
assignments:
  - {device: nic1, domain: pv1, verify: {guest: console}}
  - {device: nic2, domain: pv2, verify: {guest: none}}
  - {device: nic3, domain: pv3, verify: {guest: none}}
"""
LATER = """\
  new: {match: {address: "0000:06:00.0"}}
  network: {match: {address: "0000:00:02.0"}}
assignments:
  - {device: new, domain: pv1}
  - {device: network, domain: pv1}
"""


def _install(host: Host) -> None:
    host.write("/etc/systemd/system/cede-boot.service", (SYSTEMD / "cede-boot.service").read_text())
    host.write("/etc/modules-load.d/cede.conf", (SYSTEMD / "modules-load.d/cede.conf").read_text())
    host.sh(
        "systemd-analyze verify /etc/systemd/system/cede-boot.service; systemctl daemon-reload;"
        " systemctl -q enable cede-boot.service"
    )


def _restart(host: Host) -> float:
    """Restart dom0 as by a reset button, once all is on its disk; the seconds until it answers again."""
    before = host.sh("cat /proc/sys/kernel/random/boot_id")
    host.run("sh", "-c", "sync; (sleep 1; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &")
    started = time.monotonic()
    dom0 = host.lab.dom0()

    def up() -> bool:
        if not dom0.listens():
            return False
        for socket in host.lab.folder.glob("ssh-*"):
            socket.unlink(missing_ok=True)  # the connection behind it leads to what is gone
        try:
            said = dom0.run(["cat", "/proc/sys/kernel/random/boot_id"], timeout=20).stdout
        except LabError:
            return False
        return said not in {"", before}

    assert wait_until(up, timeout=UP_SECONDS, interval=1.0)
    return time.monotonic() - started


def _driver(host: Host, address: str) -> str:
    return host.sh(f"basename $(readlink /sys/bus/pci/devices/{address}/driver)").strip()


def test_after_a_restart_every_guest_has_its_device_and_the_host_its_network(
    host: Host, measured: Measured
) -> None:
    host.write("/etc/cede/policy.yaml", POLICY)
    applied = host.cede("apply", "--yes")
    assert applied.returncode in {0, 4}, applied.stdout + applied.stderr  # pv3 waits for a restart
    host.sh("; ".join(f"{VIRSH} autostart {name}" for name in GIVEN))
    _install(host)
    host.write("/etc/cede/policy.yaml", POLICY.replace("assignments:\n", LATER))
    seconds = _restart(host)
    assert host.sh("systemctl is-active cede-boot.service").strip() == "active"
    said = host.sh("journalctl -b -o cat -u cede-boot.service")
    for address in GIVEN.values():
        assert f"bind {address} from e1000e to pciback ... done" in said
    assert said.count("dom0 has no default route yet") == 2
    assert _driver(host, NEW) == "e1000e"
    began = host.sh(
        "systemctl show -P ExecMainExitTimestampMonotonic cede-boot.service;"
        " systemctl show -P ExecMainStartTimestampMonotonic systemd-networkd.service libvirtd.service"
    )
    bound, *after = (int(stamp) for stamp in began.split())
    assert 0 < bound < min(after)

    def back() -> bool:
        given = host.run(
            "sh", "-c", "xenstore-ls -f /local/domain/0/backend/pci | grep '/dev-'"
        ).stdout
        return all(f'"{address}"' in given for address in GIVEN.values())

    assert wait_until(back, timeout=120, interval=1.0), said

    def connected() -> bool:
        found = host.run(
            "sh", "-c", "xenstore-ls -f /local/domain | grep '/device/pci/0/state = \"4\"'"
        )
        return len(found.stdout.splitlines()) == len(GIVEN)

    assert wait_until(connected, timeout=240, interval=2.0), "the guests are still starting"
    # with the network up the host's own card is refused for what it is, and the new one may go
    planned = json.loads(host.run("cede", "boot", "--plan", "--json").stdout)["plan"]
    decided = planned["decisions"]
    assert [one["kind"] for one in decided if one["decision"] == "refused"] == ["unsafe"]
    assert [one["address"] for one in decided if one["decision"] == "change"] == [NEW]
    seen = host.run("cede", "verify", "--json")
    verified = {one["subject"]: one["verified"] for one in json.loads(seen.stdout)["checked"]}
    for number, name in enumerate(GIVEN, 1):
        assert verified[f"nic{number} -> {name}"], seen.stdout
    printed = host.run("cede", "boot", "--print").stdout
    hide = "".join(f"({address})" for address in [*GIVEN.values(), NEW])
    assert f"options xen-pciback hide={hide}\nsoftdep e1000e pre: xen-pciback" in printed.replace(
        "    ", ""
    )
    measured.report(
        f"a restart of dom0, to its first answer, with three devices bound: {seconds:.0f} s"
    )
