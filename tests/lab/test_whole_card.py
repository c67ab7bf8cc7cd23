"""The whole card on real Xen: graphics and sound as one thing, which only a restart of the guest can take."""

import json
from typing import Any

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

CARD = ("0000:09:00.0", "0000:09:00.1")
VGA = "VGA compatible controller: Advanced Micro Devices, Inc. [AMD/ATI]"
POLICY = """\
version: 1
devices:
  gpu: {match: {address: "0000:09:00"}, expect: {vendor: "1002", device: "5046"}}
assignments:
  - {device: gpu, domain: pv1, restart: when-asked}
"""


def test_the_graphics_card_and_its_sound_are_prepared_come_by_a_restart_and_return(
    host: Host,
) -> None:
    host.write("/etc/cede/policy.yaml", POLICY)
    prepared = host.cede("apply", "--yes")
    assert prepared.returncode == 4, prepared.stdout + prepared.stderr
    assert [_driver(host, address) for address in CARD] == ["pciback", "pciback"]
    xml = host.sh("virsh -c xen:///system dumpxml --inactive pv1")
    assert xml.count("<hostdev ") == 2
    (one,) = _status(host, 4)["checked"]
    assert [(f["attached"], f["persistent"]) for f in one["functions"]] == [(False, True)] * 2
    assert {f["reason"] for f in one["functions"]} == {"RestartRequired"}

    restarted = host.cede("apply", "--yes", "--restart", "--json")
    (one,) = json.loads(restarted.stdout)["checked"]
    assert [(f["attached"], f["persistent"]) for f in one["functions"]] == [(True, True)] * 2
    graphics, sound = one["functions"]
    assert sound["verified"], sound
    wrong = [found["source"] for found in graphics["findings"] if found["status"] == "failed"]
    assert wrong == ["guest driver"], (
        "the guest's kernel has none for this card, and all else is right"
    )
    assert restarted.returncode == 1
    shown = host.guest("pv1", "lspci")
    assert f"00:00.0 {VGA}" in shown
    assert "00:00.1 Audio device" in shown

    released = host.cede("release", "09:00")
    assert released.returncode == 0, released.stdout + released.stderr
    assert VGA not in host.guest("pv1", "lspci")
    assert "hostdev" not in host.sh("virsh -c xen:///system dumpxml --inactive pv1")
    assert _driver(host, CARD[1]) == "snd_hda_intel"
    identities = [host.sh(f"setpci -s {address} 0.l").strip() for address in CARD]
    assert identities == ["50461002", "26688086"], "both answer"
    assert not host.sh("xl pci-assignable-list").strip(), "pciback has none of them"


def _driver(host: Host, address: str) -> str:
    """The driver that is bound, empty if none."""
    link = host.sh(f"readlink /sys/bus/pci/devices/{address}/driver || true")
    return link.strip().rpartition("/")[2]


def _status(host: Host, status: int) -> Any:  # noqa: ANN401 - JSON is any
    shown = host.cede("status", "--json")
    assert shown.returncode == status, shown.stdout + shown.stderr
    return json.loads(shown.stdout)
