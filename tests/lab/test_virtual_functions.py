"""Virtual functions of the lab's SR-IOV card: made, set up, given, kept right, and taken away, on the real host.

QEMU's igb is an 82576, whose driver has no link state for virtual functions (drivers/net/ethernet/intel/igb/igb_main.c,
igb_netdev_ops), and takes a rate only while the link is up.
"""

import json
from typing import Any

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC, FIRST = "0000:0a:00.0", "0000:0a:10.0"
MAC = "52:54:00:aa:00:01"
FOLDER = f"/sys/bus/pci/devices/{NIC}"
PORT = f"$(ls {FOLDER}/net)"


def _write(host: Host, functions: str, *, assigned: bool = True) -> None:
    vf0 = "  vf0: {match: {physical_function: nic, function: 0}}\n"
    host.write(
        "/etc/cede/policy.yaml",
        f'version: 1\ndevices:\n  nic: {{match: {{address: "{NIC}"}}, virtual_functions: {functions}}}\n'
        + (
            f"{vf0}assignments: [{{device: vf0, domain: pv1}}]\n"
            if assigned
            else "assignments: []\n"
        ),
    )


def _kept(host: Host) -> list[dict[str, Any]]:
    """What the driver keeps for each, as `ip` tells it."""
    (shown,) = json.loads(host.sh(f"ip -json -details link show dev {PORT}"))
    found: list[dict[str, Any]] = shown["vfinfo_list"]
    return found


def _rules(host: Host) -> list[str]:
    planned = json.loads(host.cede("plan", "--json").stdout)["plan"]["decisions"]
    return [one["rule"] for one in planned if one["decision"] == "refused"]


def test_virtual_functions_are_made_set_up_given_and_kept_right(host: Host) -> None:
    wanted = f'{{count: 2, mac: ["{MAC}", "52:54:00:aa:00:02"], vlan: 7, trust: true}}'
    _write(host, wanted)
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    first, second = _kept(host)
    assert (first["address"], first["vlan_list"], first["trust"]) == (MAC, [{"vlan": 7}], True)
    assert second["address"] == "52:54:00:aa:00:02"
    assert "UP" in host.sh(f"ip link show dev {PORT}")  # else a guest isn't told its MAC
    assert host.sh(f"cat {FOLDER}/sriov_drivers_autoprobe").strip() == "0"
    assert not host.sh(f"ls -d {FOLDER}/virtfn1/driver 2>/dev/null || true").strip()
    assert "8086:10ca" in host.guest("pv1", "lspci -n")
    assert MAC in host.guest("pv1", "cat /sys/class/net/*/address")

    host.sh(
        f"ip link set dev {PORT} vf 0 vlan 9; ip link set dev {PORT} vf 1 mac 00:00:00:00:00:00"
    )
    assert host.cede("status").returncode == 4
    again = host.cede("apply", "--yes")
    assert again.returncode == 0, again.stdout
    assert [one["vlan_list"] for one in _kept(host)] == [[{"vlan": 7}]] * 2
    assert _kept(host)[1]["address"] == "52:54:00:aa:00:02"
    assert "Nothing was changed." in host.cede("apply", "--yes").stdout

    _write(host, wanted.replace("count: 2, mac: [", 'count: 3, mac: ["52:54:00:aa:00:03", '))
    assert _rules(host) == ["virtual-functions-in-use"]
    _write(host, "{count: 9}")
    assert _rules(host) == ["too-many-virtual-functions"]

    _write(host, "{count: 0}", assigned=False)
    gone = host.cede("apply", "--yes")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert host.sh(f"cat {FOLDER}/sriov_numvfs {FOLDER}/sriov_drivers_autoprobe").split() == [
        "0",
        "1",
    ]
    assert "8086:10ca" not in host.guest("pv1", "lspci -n")


def test_a_guest_that_restarts_keeps_its_virtual_function_as_it_was_set_up(host: Host) -> None:
    """And what the driver can't do is told, with nothing given away."""
    _write(host, "{count: 1, link_state: disable}")
    refused = host.cede("apply", "--yes")
    assert (refused.returncode, "link_state" in refused.stdout) == (1, True), refused.stdout
    assert host.sh(f"cat {FOLDER}/sriov_numvfs").strip() == "0"

    _write(host, f'{{count: 1, mac: "{MAC}", spoof_check: false}}')
    assert host.cede("apply", "--yes").returncode == 0
    verified = host.cede("verify", "--restart")
    assert verified.returncode == 0, verified.stdout
    (kept,) = _kept(host)
    assert (kept["address"], kept["spoofchk"]) == (MAC, False)
    assert MAC in host.guest("pv1", "cat /sys/class/net/*/address")

    # as after a restart of dom0, which knows of no virtual function
    host.sh(
        "virsh -q -c xen:///system destroy pv1;"
        f" echo {FIRST} > /sys/bus/pci/drivers/pciback/unbind; echo 0 > {FOLDER}/sriov_numvfs"
    )
    booted = host.cede("boot")
    assert booted.returncode == 0, booted.stdout + booted.stderr
    assert [one["address"] for one in _kept(host)] == [MAC]
    assert host.sh(f"readlink /sys/bus/pci/devices/{FIRST}/driver").strip().endswith("/pciback")
    host.sh(
        "virsh -q -c xen:///system start pv1; state=/local/domain/0/backend/pci/$(xl domid pv1)/0/state;"
        " for i in $(seq 900); do [ $(xenstore-read $state) = 4 ] && exit 0; sleep 0.1; done; exit 1"
    )
