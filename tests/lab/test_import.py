"""A policy made from what a real host has: xl reads its files alike, hostdevs are adopted, devices told apart."""

import json
import textwrap
from typing import Any

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC, PAIR, PAIRED = "0000:01:00.0", "0000:02:00.0", "0000:02:00.1"
XL_CFG = """\
name = "pv1"   # the same name as a domain of libvirt's
type = "pv"
memory = 64
kernel = "/boot/none"
pci_msitranslate = 1
pci = [ '01:00.0@5,permissive=1', "0000:02:00.*,seize=1",
        'bdf=0000:00:11.0,vslot=1f,rdm_policy=relaxed,msitranslate=0', ]
pci += [ '00:12.0,permissive=yes,power_mgmt=1' ]
"""
# how libvirt resets each, by its configuration space
RESETS = {
    "0000:00:10.0": "none",
    "0000:00:11.0": "pm",
    "0000:01:00.0": "pm",
    "0000:02:00.0": "bus",
    "0000:02:00.1": "bus",
    "0000:09:00.0": "bus",
    "0000:09:00.1": "bus",
    "0000:0a:00.0": "flr",
    "0000:10:01.0": "bus",
    "0000:81:00.0": "pm",
}


def test_devices_are_distinguished_by_what_is_right_to_do_with_each(shared_host: Host) -> None:
    shown = shared_host.cede("devices", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = {row["address"]: row for row in json.loads(shown.stdout)["devices"]}

    def reported(address: str) -> tuple[str, str]:
        return rows[address]["fitness"]["fit"], rows[address]["fitness"]["cause"]

    assert reported(NIC) == reported("0000:00:11.0") == ("yes", "")
    assert "default-route" in reported("0000:00:02.0")[1]
    assert reported("0000:00:03.0") == ("no", "filesystem")
    assert reported("0000:00:0a.0") == ("no", "bridge")
    assert reported("0000:00:10.0") == reported("0000:00:12.0") == ("no", "no reset")
    assert {address: rows[address]["reset"] for address in RESETS} == RESETS
    on_root_bus = [rows[address]["on_root_bus"] for address in ("0000:80:00.0", "0000:81:00.0")]
    assert on_root_bus == [True, False]
    assert reported(PAIR) == reported(PAIRED) == ("together", "siblings in use")
    assert rows[PAIR]["fitness"]["together"] == rows[PAIR]["siblings"] == [PAIRED]
    assert "which holds /" in rows["0000:00:03.0"]["fitness"]["reason"]
    assert [node["name"] for node in rows["0000:00:03.0"]["nodes"]] == ["vda"]
    behind = {node["kind"]: node["about"] for node in rows["0000:00:12.0"]["nodes"]}
    assert behind.keys() == {"disk", "USB"}
    assert "HARDDISK" in behind["disk"]
    assert rows[NIC]["names"]["kind"] == "Ethernet controller"
    assert rows[NIC]["names"]["vendor"] == "Intel Corporation"
    assert "82574L" in rows[NIC]["names"]["device"]
    assert [node["name"] for node in rows[NIC]["nodes"]] == rows[NIC]["interfaces"]
    table = shared_host.cede("devices").stdout.splitlines()
    assert max(map(len, table)) <= 100


def _xl_reads(host: Host, path: str) -> list[dict[str, Any]]:
    """What `xl create` would do with the file, asked without doing it; its own order of members is kept."""
    said = host.sh(f"xl -N create {path} 2> /dev/null")
    found: list[dict[str, Any]] = json.loads(said[said.index("{") :])["pcidevs"]
    return found


def test_an_xl_cfg_is_read_as_xl_reads_it_and_makes_a_policy_that_is_planned(
    shared_host: Host,
) -> None:
    path, out = "/tmp/pv1.cfg", "/tmp/xl.yaml"
    shared_host.write(path, XL_CFG)
    before = shared_host.state()
    said = shared_host.cede("import", path, "-o", out, "--json")
    assert said.returncode == 0, said.stderr
    proposed = json.loads(said.stdout)
    devices = {device["name"]: device for device in proposed["devices"]}
    first, both, third, last = _xl_reads(shared_host, path)
    read = {devices[a["device"]]["address"]: a["permissive"] for a in proposed["assignments"]}
    assert read == {
        NIC: bool(first.get("permissive")),
        PAIR: bool(both.get("permissive")),
        PAIRED: bool(both.get("permissive")),
        "0000:00:11.0": bool(third.get("permissive")),
        "0000:00:12.0": bool(last.get("permissive")),
    }
    assert (read[NIC], read["0000:00:12.0"]) == (True, False)
    lost = {d["address"]: " ".join(d["notes"]) for d in proposed["devices"]}
    for address, xl in (
        (NIC, first),
        (PAIR, both),
        ("0000:00:11.0", third),
        ("0000:00:12.0", last),
    ):
        assert ("msitranslate=1" in lost[address]) is bool(xl.get("msitranslate"))
        assert ("power_mgmt=1" in lost[address]) is bool(xl.get("power_mgmt"))
        assert ("seize=1" in lost[address]) is bool(xl.get("seize"))
        slot = xl.get("vdevfn", 0) >> 3
        assert (f"vslot={slot:x}" in lost[address]) is bool(slot)
    assert "rdm_policy=relaxed" in lost["0000:00:11.0"]
    planned = shared_host.cede("plan", "-f", out)
    assert "nic-01-00-0 -> pv1:" in planned.stdout, planned.stderr
    assert "usb-00-12-0 -> pv1: REFUSED" in planned.stdout
    assert shared_host.state() == before


def test_what_xl_refuses_is_refused_with_its_place(shared_host: Host) -> None:
    wrong = ("01:00.0-3", "01:00.0, permissive=1", "01:00.0,,")
    text = "name = 'g'\nkernel = '/x'\npci = [{}]\n"
    for entry in wrong:
        shared_host.write("/tmp/wrong.cfg", text.format(f"'{entry}'"))
        assert shared_host.run("xl", "-N", "create", "/tmp/wrong.cfg").returncode != 0
    shared_host.write("/tmp/wrong.cfg", text.format(",\n".join(f"'{entry}'" for entry in wrong)))
    done = shared_host.cede("import", "/tmp/wrong.cfg")
    assert done.returncode == 2
    for line, column in ((3, 8), (4, 1), (5, 1)):
        assert f"/tmp/wrong.cfg:{line}:{column}: pci device" in done.stderr


def test_a_hostdev_that_a_person_attached_is_adopted_and_nothing_else_changes(
    shared_host: Host,
) -> None:
    hostdev = textwrap.dedent("""\
        <hostdev mode='subsystem' type='pci' managed='no'>
          <source><address domain='0' bus='1' slot='0' function='0'/></source>
        </hostdev>
        """)
    shared_host.write("/tmp/nic.xml", hostdev)
    shared_host.sh(
        "modprobe xen-pciback; virsh -q -c xen:///system nodedev-detach pci_0000_01_00_0;"
        " virsh -q -c xen:///system attach-device pv1 /tmp/nic.xml --live --config"
    )
    made = shared_host.cede("import", "--from-domains", "-o", "/etc/cede/policy.yaml")
    assert (made.returncode, "1 devices, 1 assignments" in made.stdout) == (0, True), made.stderr
    before = shared_host.state()
    planned = json.loads(shared_host.cede("plan", "--json").stdout)["plan"]
    assert [a["action"] for one in planned["decisions"] for a in one["actions"]] == ["adopt"]
    done = shared_host.cede("apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    changed = set(shared_host.state().splitlines()) ^ set(before.splitlines())
    assert changed
    assert all("alias" in line or "cede" in line or "metadata" in line for line in changed), changed
    assert shared_host.cede("plan").returncode == 0
    again = shared_host.cede("import", "--from-domains").stdout
    assert "devices: {}" in again
    assert "is cede's already" in again
    assert shared_host.cede("release", NIC).returncode == 0
