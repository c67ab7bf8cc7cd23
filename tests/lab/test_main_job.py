"""The main job on a real Xen host: given, verified, taken back alive; on both dom0 releases."""

import json
import re

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
AWAIT_CARRIER = (
    'n=0; while [ $n -lt 100 ] && [ "$(cat /sys/class/net/$1/carrier)" != 1 ];'
    " do n=$((n+1)); sleep 0.1; done"
)
# every device of the lab's machine, and the bridges that lead to it
TABLE = {
    "00:02.0": "1af4:1000",
    "00:03.0": "1af4:1001",
    "00:04.0": "1af4:1000",
    "00:08.0": "1b36:000c",
    "00:09.0": "1b36:000c",
    "00:0a.0": "1b36:000c",
    "00:10.0": "8086:100e",
    "00:11.0": "8086:10d3",
    "00:12.0": "1b36:000d",
    "01:00.0": "8086:10d3",
    "00:13.0": "1b36:000c",
    "00:14.0": "1b36:000c",
    "00:15.0": "1b36:000c",
    "00:16.0": "1b36:000c",
    "00:17.0": "1b36:000b",
    "02:00.0": "8086:100e",
    "02:00.1": "8086:100e",
    **{f"{bus:02x}:00.0": "8086:10d3" for bus in range(4, 9)},
    "09:00.0": "1002:5046",
    "09:00.1": "8086:2668",
    "0a:00.0": "8086:10c9",
    "0b:00.0": "104c:8232",
    "0c:00.0": "104c:8233",
    "0c:01.0": "104c:8233",
    "0d:00.0": "8086:10d3",
    "0e:00.0": "8086:10d3",
    "0f:00.0": "1b36:000e",
    "10:01.0": "8086:100e",
    "10:02.0": "8086:100e",
    "80:00.0": "1b36:000c",
    "81:00.0": "8086:10d3",
}
RESETS = {
    "0000:00:10.0": "",
    "0000:00:11.0": "pm",
    "0000:01:00.0": "pm bus",
    "0000:02:00.0": "bus",
    "0000:09:00.0": "bus",
    "0000:09:00.1": "",
    "0000:0a:00.0": "flr pm bus",
    "0000:0d:00.0": "pm bus",
    "0000:10:01.0": "bus",
    "0000:81:00.0": "pm bus",
}


def test_the_machine_is_the_one_of_the_table(any_host: Host) -> None:
    shown = any_host.sh("lspci -nn")
    found = dict(re.findall(r"^(\S+) .*?\[([0-9a-f]{4}:[0-9a-f]{4})\]", shown, re.MULTILINE))
    assert {address: found.get(address) for address in TABLE} == TABLE


def test_the_devices_have_their_resets_and_addresses_after_a_restore(any_host: Host) -> None:
    """QEMU saves no state of the graphics card: what the kernel found at boot is what the card has now."""
    methods = any_host.sh(
        "cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/reset_method 2>/dev/null); done"
    )
    found = dict(line.partition(" ")[::2] for line in methods.splitlines())
    assert {address: found[address] for address in RESETS} == RESETS
    assert any_host.sh("cat /sys/bus/pci/devices/0000:0a:00.0/sriov_totalvfs").strip() == "7"
    bars = any_host.sh(
        "cd /sys/bus/pci/devices/0000:09:00.0; od -A n -t x4 -j 16 -N 12 config;"
        " head -n 3 resource | cut -d' ' -f1"
    ).split()
    in_card, in_kernel = bars[:3], bars[3:]
    assert [int(bar, 16) & ~0xF for bar in in_card] == [int(start, 16) for start in in_kernel]
    assert int(in_card[0], 16) & ~0xF


def test_virtual_functions_of_the_lab_are_made_and_removed(any_host: Host) -> None:
    count = "/sys/bus/pci/devices/0000:0a:00.0/sriov_numvfs"
    made = any_host.sh(f"echo 2 > {count}; lspci -n -d 8086:10ca; echo 0 > {count}")
    assert [line.split()[0] for line in made.splitlines()] == ["0a:10.0", "0a:10.2"]


def test_the_guests_run_but_for_the_one_above_4_gib(any_host: Host) -> None:
    running = set(any_host.sh("virsh -c xen:///system list --name").split())
    assert running - {"Domain-0"} == {"pv1", "pv2", "pv3", "hvm1"}


def test_a_card_is_given_verified_and_taken_back_alive_twice_over(any_host: Host) -> None:
    host = any_host
    host.policy("nic0", NIC, "pv1", "verify: {guest: console}\n")
    for _ in range(2):
        before = host.state()
        assert "8086:10d3" not in host.guest("pv1", "lspci -n")

        planned = host.cede("plan")
        assert planned.returncode == 4, planned.stdout
        applied = host.cede("apply", "--yes")
        assert applied.returncode == 0, applied.stdout + applied.stderr
        assert "[ok] guest lspci: 8086:10d3 at 0000:00:00.0" in applied.stdout

        assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("/pciback")
        nodes = host.sh("xenstore-ls -f /local/domain/0/backend/pci")
        assert f'/0/dev-0 = "{NIC}"' in nodes
        assert '/0/state = "4"' in nodes
        assert '/0/vdev-0 = "0000:00:00.00"' in nodes
        assert "driver in use: e1000e" in host.guest("pv1", "lspci -nk")
        _ping_guest(host)

        held = host.state()
        again = host.cede("apply", "--yes")
        assert (again.returncode, "Nothing was changed." in again.stdout) == (0, True)
        assert host.state() == held
        assert host.cede("status").returncode == 0
        verified = json.loads(host.cede("verify", "--json").stdout)
        assert [one["verified"] for one in verified["checked"]] == [True]

        released = host.cede("release", "nic0")
        assert released.returncode == 0, released.stdout + released.stderr
        assert "8086:10d3" not in host.guest("pv1", "lspci -n")
        assert host.cede("status").returncode == 4
        after = host.state()
        assert _without_slots(after) == _without_slots(before)
        _ping_from_dom0(host)


def test_an_hvm_guest_gets_its_card_at_the_slot_that_its_device_model_says(host: Host) -> None:
    """xenstore has both vdev-0 (slot 0, meaningless there) and vdevfn-0 (slot 3); backend rests at state 3."""
    host.with_hvm(lambda: _hvm_is_given_its_card(host))


def _hvm_is_given_its_card(host: Host) -> None:
    host.policy("nic1", "0000:00:11.0", "hvm1", "verify: {guest: console, timeout: 120}\n")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    assert "[ok] guest lspci: 8086:10d3 at 0000:00:03.0" in applied.stdout
    assert "driver in use: e1000e" in host.guest("hvm1", "lspci -nk")
    nodes = host.sh("xenstore-ls -f /local/domain/0/backend/pci")
    assert '/0/vdev-0 = "0000:00:00.00"' in nodes
    assert '/0/vdevfn-0 = "18"' in nodes
    released = host.cede("release", "nic1")
    assert released.returncode == 0, released.stdout
    assert "8086:10d3" not in host.guest("hvm1", "lspci -n")


def test_a_guest_that_asks_for_a_login_has_verified_nothing(host: Host) -> None:
    host.policy("nic0", NIC, "pv2")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 1, applied.stdout
    assert "asks for a login" in applied.stdout


def test_a_card_given_back_the_wrong_way_is_dead_and_release_revives_it(any_host: Host) -> None:
    """virsh alone leaves it to Xen's quarantine domain: bound, link up, and not one packet."""
    host = any_host
    host.policy("nic0", NIC, "pv1")
    assert host.cede("apply", "--yes").returncode == 0
    host.sh(
        "virsh -c xen:///system dumpxml pv1 | sed -n '/<hostdev/,/<.hostdev>/p' > /tmp/hostdev.xml;"
        " virsh -c xen:///system detach-device pv1 /tmp/hostdev.xml --live --config;"
        " virsh -c xen:///system nodedev-reattach pci_0000_01_00_0"
    )
    with pytest.raises(AssertionError, match="lost"):
        _ping_from_dom0(host)
    revived = host.cede("release", NIC)
    assert revived.returncode == 0, revived.stdout
    _ping_from_dom0(host)


def _without_slots(state: str) -> str:
    """pciback stays loaded once it was needed, and an empty xenstore folder may stay; all else must be as before.

    libvirt 9.0 leaves an empty element where the last note was removed.
    """
    drop = ("not loaded", "no backend", "/local/domain/0/backend/pci", "  <metadata/>")
    return "\n".join(line for line in state.splitlines() if line and not line.startswith(drop))


def _ping_guest(host: Host) -> None:
    host.guest(
        "pv1",
        "ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up;"
        + AWAIT_CARRIER.replace("$1", "eth0"),
    )
    said = host.run("ping", "-c", "3", "-i", "0.3", "-W", "5", "-I", "lab0", "10.77.0.2").stdout
    assert " 3 received" in said, f"packets to the guest were lost: {said}"


def _ping_from_dom0(host: Host) -> None:
    """The driver makes the interface a moment after it has taken the card, and udev names it a moment later."""
    host.sh(
        f"until n=$(ls /sys/bus/pci/devices/{NIC}/net) && udevadm settle; do sleep 0.2; done;"
        f" n=$(ls /sys/bus/pci/devices/{NIC}/net); ip netns add proof; ip link set $n netns proof;"
        " ip -n proof addr add 10.77.0.3/24 dev $n; ip -n proof link set $n up"
    )
    inside = ("ip", "netns", "exec", "proof")
    try:
        name = host.sh("ip -n proof -br link | sed 's/ .*//' | grep -v lo").strip()
        host.run(*inside, "sh", "-c", AWAIT_CARRIER, "sh", name)
        said = host.run(*inside, "ping", "-c", "3", "-i", "0.3", "-W", "5", "10.77.0.1").stdout
    finally:
        host.sh("ip netns del proof")
    assert " 3 received" in said, f"packets from dom0 were lost: {said}"
    host.sh(f"for n in $(seq 100); do ls /sys/bus/pci/devices/{NIC}/net && break; sleep 0.1; done")
