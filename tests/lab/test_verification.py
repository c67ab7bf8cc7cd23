"""What verifies a device, on real Xen: everything that is told of a card that works, and guests that lie about it."""

import json

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
FORGED_LSPCI = (
    "printf '#!/bin/sh\\nprintf \"Slot:\\\\t0000:00:00.0\\\\nClass:\\\\t0200\\\\nVendor:\\\\t8086\\\\n"
    "Device:\\\\t10d3\\\\nSVendor:\\\\t8086\\\\nSDevice:\\\\t0000\\\\nDriver:\\\\te1000e\\\\n\\\\n\"\\n'"
    " > /bin/lspci; chmod +x /bin/lspci; mv /usr/bin/lspci /usr/bin/lspci.real;"
    " cp /bin/lspci /usr/bin/lspci; lspci"
)
# sysfs itself can't be written, but hidden: what a bind mount shows is whatever the guest likes
FORGED_SYSFS = (
    "mkdir -p /tmp/lie; cp -r /sys/bus/pci/devices/0000:00:00.0/uevent /tmp/lie/ 2>/dev/null;"
    " grep -v DRIVER /sys/bus/pci/devices/0000:00:00.0/uevent > /tmp/lie/uevent;"
    " echo DRIVER=e1000e >> /tmp/lie/uevent;"
    " mount --bind /tmp/lie/uevent /sys/bus/pci/devices/0000:00:00.0/uevent"
)
UNBIND = "echo 0000:00:00.0 > /sys/bus/pci/drivers/e1000e/unbind; sleep 1"


def _findings(host: Host) -> dict[str, tuple[str, str]]:
    """What verification finds where something is wrong in the end."""
    done = host.cede("verify", "--json")
    assert done.returncode == 4, done.stdout
    (one,) = json.loads(done.stdout)["checked"]
    return {f["source"]: (f["status"], f["found"]) for f in one["findings"]}


def test_a_card_in_a_pv_guest_is_verified_in_everything_explained_and_verified_again(
    host: Host,
) -> None:
    host.policy("nic0", NIC, "pv1", "permissive: true\n")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    for line in (
        "[ok] guest lspci: 8086:10d3 at 0000:00:00.0",
        "[ok] guest subsystem: 8086:0000",
        "[ok] guest class: 020000",
        "[ok] guest MAC: 52:54:00:01:00:00",
        "[ok] guest driver: e1000e",
        "[ok] guest BARs: 4 of 4 claimed",
        "[ok] guest interrupts: MSI-X",
        "[ok] config space: memory on, bus master on, MSI-X on",
        "[ok] guest log: no error in",
        "[ok] pciback: listed as permissive",
        "[--] kernel log: vpci: assign to virtual slot 0",
    ):
        assert line in applied.stdout, applied.stdout
    assert "permissive=1" in applied.stdout
    listed = host.sh("cat /sys/bus/pci/drivers/pciback/permissive").split()
    assert listed == [NIC]

    explained = host.cede("verify", "--restart", "--explain", "--json")
    assert explained.returncode == 0, explained.stdout
    reported = json.loads(explained.stdout)
    assert (reported["restarted"], reported["error"]) == (["pv1"], None)
    checks = {c["item"]: (c["status"], c["found"]) for c in reported["explained"][0]["checks"]}
    assert checks.pop("loaded at boot")[0] == "failed"
    assert {decision for decision, _ in checks.values()} <= {"passed", "info"}, checks
    assert checks["after shutdown and start"] == ("passed", "verified again")
    assert host.sh("xl domid pv1").strip() != "1"


def test_a_guest_that_prints_a_forged_answer_is_found_out(host: Host) -> None:
    """Its lspci and its sysfs are replaced; the card's own switches are not in its hand."""
    host.policy("nic0", NIC, "pv1")
    host.guest("pv1", FORGED_LSPCI)
    before = host.cede("verify")
    assert before.returncode == 4
    assert "not given to" in before.stdout or "no hostdev" in before.stdout
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    host.guest("pv1", UNBIND)
    host.guest("pv1", FORGED_SYSFS)
    # what is wrong stays so, and the guest would be asked all the while
    host.policy("nic0", NIC, "pv1", "verify: {guest: console, timeout: 12}\n")
    found = _findings(host)
    assert found["guest driver"] == ("passed", "e1000e"), found
    assert found["config space"][0] in {"failed", "not verified"}, found


LOAD_DRIVER = "insmod /lib/modules/$(uname -r)/$(grep e1000e /etc/modules); sleep 2"


def _asked_itself(host: Host, device: str, address: str, domain: str) -> None:
    """Nothing is on in the device before there is a driver in the guest, and all of it with one."""
    host.policy(device, address, domain, "verify: {guest: device, timeout: 10}\n")
    host.guest(domain, "rmmod e1000e")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 1, applied.stdout
    assert "no driver uses the device yet" in applied.stdout
    assert _verified(host) == ("Unknown", "DeviceNotInUse")
    host.guest(domain, LOAD_DRIVER)
    again = host.cede("apply", "--yes")
    assert again.returncode == 0, again.stdout
    assert _verified(host) == ("True", "DeviceInUse")


def _verified(host: Host) -> tuple[str, str]:
    reported = json.loads(host.cede("status", "--json").stdout)["conditions"]
    (found,) = [one for one in reported if one["type"] == "Verified"]
    return found["status"], found["reason"]


def test_a_device_is_verified_by_itself_once_a_driver_of_a_pv_guest_uses_it(host: Host) -> None:
    _asked_itself(host, "nic0", NIC, "pv1")
    host.sh("virsh -q -c xen:///system destroy pv1; virsh -q -c xen:///system start pv1")
    assert host.cede("status").returncode == 4  # that was another run of the guest
    host.guest("pv1", "true")
    assert host.cede("verify").returncode == 0


def test_a_device_is_verified_by_itself_once_a_driver_of_an_hvm_guest_uses_it(host: Host) -> None:
    host.with_hvm(lambda: _asked_itself(host, "nic1", "0000:00:11.0", "hvm1"))


def test_a_card_in_an_hvm_guest_is_verified_in_everything(host: Host) -> None:
    host.with_hvm(lambda: _hvm_is_verified(host))


def _hvm_is_verified(host: Host) -> None:
    host.policy("nic1", "0000:00:11.0", "hvm1", "verify: {guest: console, timeout: 120}\n")
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    for line in (
        "[ok] guest lspci: 8086:10d3 at 0000:00:03.0",
        "[ok] guest MAC: 52:54:00:00:11:00",
        "[ok] guest BARs: 4 of 4 claimed",
        "[ok] guest interrupts: MSI-X",
        "[ok] config space: memory on, bus master on, MSI-X on",
    ):
        assert line in applied.stdout, applied.stdout
