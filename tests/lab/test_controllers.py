"""A controller takes along what hangs on it, and gives it back: a USB controller behind a port, with a stick."""

import json
from typing import Any

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

USB = "0000:03:00.0"  # plugged into the empty root port
_DISK = f"ls /sys/bus/pci/devices/{USB}/usb*/*/*/host*/target*/*/block"
_AWAIT_DISK = f"for i in $(seq 600); do {_DISK} 2> /dev/null && exit 0; sleep 0.1; done; exit 1"
_AWAIT_LISTED = (
    "for i in $(seq 300); do virsh -q -c xen:///system nodedev-dumpxml pci_0000_03_00_0 > /dev/null 2>&1"
    " && exit 0; sleep 0.1; done; exit 1"
)


def _nodes(host: Host) -> list[dict[str, Any]]:
    listed = json.loads(host.cede("devices", "--json", USB).stdout)
    found: list[dict[str, Any]] = listed["devices"][0]["nodes"]
    return found


def _known_by(nodes: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(node["kind"], node["id"] or node["about"]) for node in nodes}


def test_a_usb_controller_goes_with_its_stick_and_both_come_back(host: Host) -> None:
    size = 64 << 20
    host.lab.qmp(
        "blockdev-add",
        {"driver": "null-co", "node-name": "stick", "size": size, "read-zeroes": True},
    )
    host.lab.qmp("device_add", {"driver": "qemu-xhci", "id": "usb3", "bus": "rp3"})
    stick = {"driver": "usb-storage", "id": "stick", "bus": "usb3.0", "drive": "stick"}
    host.lab.qmp("device_add", {**stick, "serial": "CEDE0001"})
    name = host.sh(_AWAIT_DISK).strip()
    host.sh(_AWAIT_LISTED)

    before = _nodes(host)
    assert {node["kind"] for node in before} == {"disk", "USB"}
    assert all(node["pluggable"] for node in before)
    assert any("CEDE0001" in node["id"] for node in before), before
    tree = host.cede("devices", "--tree", USB).stdout
    drawn = [line.split()[1] for line in tree.splitlines()[2:]]
    assert drawn == ["0000:00:0a.0", USB], tree

    given = host.cede("attach", USB, "pv1")
    assert given.returncode == 0, given.stdout
    assert f"and with it {name} (" in given.stdout
    assert _nodes(host) == []
    back = host.cede("release", USB)
    assert back.returncode == 0, back.stdout
    assert _known_by(_nodes(host)) == _known_by(before)

    assert host.cede("attach", USB, "pv1").returncode == 0
    host.lab.qmp("device_del", {"id": "stick"})
    missing = host.cede("release", USB)
    assert missing.returncode == 1, missing.stdout
    assert "CEDE0001" in missing.stdout
    assert host.cede("release", USB).returncode == 0
    driver = host.sh(f"readlink /sys/bus/pci/devices/{USB}/driver").strip()
    assert driver.endswith("xhci_hcd")
