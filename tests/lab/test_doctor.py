"""cede doctor on the real host: nothing fatal where nothing is wrong, and the known failures made and recognised."""

import json
from typing import Any

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
VIRSH = "virsh -q -c xen:///system"
DRIVER = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_libxl.so"


def doctor(host: Host, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what was found by the rules' names."""
    done = host.cede("doctor", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def fatal(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in found.items() if one["severity"] == "fatal"}


def test_the_doctor_knows_a_healthy_host_and_what_is_made_wrong_with_it(host: Host) -> None:
    """In one go, since each pristine host costs half a minute; what is wrong is put right before the next."""
    status, found = doctor(host)
    assert (status, fatal(found)) == (0, set()), found
    assert {"pciback-not-loaded", "pciback-not-at-boot"} <= set(found)
    status, found = doctor(host, NIC, "pv1")
    assert (status, fatal(found), "ready" in found) == (0, set(), True), found
    for address, name in (("0000:00:10.0", "no-reset"), ("0000:02:00.0", "sibling-active")):
        status, found = doctor(host, address, "pv1")
        assert (status, fatal(found)) == (1, {name}), found
    _malformed_hide(host)
    _started_without_passthrough(host)
    _somebody_else(host)
    _no_libvirt(host)


def _malformed_hide(host: Host) -> None:
    config = "/etc/modprobe.d/pciback.conf"
    host.write(config, "options xen-pciback hide=(0000:01:00.0)(01:00\n")
    refused = host.run("modprobe", "xen-pciback")
    assert (refused.returncode, "Invalid argument" in refused.stderr) == (1, True)
    assert 'Error parsing pci_devs_to_hide at "(01:00"' in host.sh("dmesg | tail -n 3")
    status, found = doctor(host)
    assert (status, fatal(found)) == (1, {"hide-malformed"}), found
    assert found["hide-malformed"]["what"] == f'hide= in {config} can\'t be read from "(01:00" on'
    host.write(config, "options xen-pciback hide=(7f:00.0)(00:03.0)\n")
    status, found = doctor(host)
    assert (status, fatal(found)) == (1, {"hide-guarded"}), found
    assert found["hide-no-device"]["subject"] == f"(7f:00.0) of hide= in {config}"
    host.sh(f"rm {config}")


def _started_without_passthrough(host: Host) -> None:
    status, found = doctor(host, NIC, "pv3")
    assert (status, fatal(found)) == (1, {"passthrough-off"}), found
    assert found["e820-host-off"]["severity"] == "warning"
    done = host.cede("doctor", NIC, "pv3", "--fix", "--yes")
    assert "shut pv3 down and start it" in done.stdout, done.stdout + done.stderr
    assert host.sh("stat -c %a /etc/modules-load.d/cede.conf").strip() == "644"
    assert "pciback" in host.sh("ls /sys/bus/pci/drivers; cat /etc/modules-load.d/cede.conf")
    host.sh(f"{VIRSH} destroy pv3; {VIRSH} start pv3")
    status, found = doctor(host, NIC, "pv3")
    assert (status, fatal(found), found["ready"]["remedy"]) == (0, set(), "none is needed"), found
    attached = host.cede("attach", NIC, "pv3")
    assert attached.returncode == 0, attached.stdout + attached.stderr
    history = host.cede("history", "pv3").stdout
    assert "fix pv3: done" in history
    assert f"with cede doctor {NIC} pv3 --fix" in history


def _somebody_else(host: Host) -> None:
    status, found = doctor(host, NIC, "pv1")
    assert (status, fatal(found)) == (1, {"elsewhere"}), found
    seen = host.run("runuser", "-u", "nobody", "--", "cede", "doctor")
    assert "does not run as root" in seen.stdout, seen.stdout + seen.stderr
    assert "Traceback" not in seen.stderr


def _no_libvirt(host: Host) -> None:
    units = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
    host.sh(f"systemctl stop {units} libvirtd")
    status, found = doctor(host)
    assert (status, fatal(found)) == (1, {"libvirt-down"}), found
    host.sh(f"mv {DRIVER} /root/; systemctl start {units} libvirtd")
    status, found = doctor(host, NIC, "pv1")
    assert (status, fatal(found)) == (1, {"libvirt-no-xen-driver"}), found
