"""Never the wrong device, never the host's own, never another tool's: seen on the real host."""

import json

import pytest

from lab.host import Host
from xenlab.waiting import wait_until

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
NIC_ID = "pci_0000_01_00_0"
AWAIT_GONE = (
    f"for i in $(seq 300); do [ -e /sys/bus/pci/devices/{NIC} ] || exit 0; sleep 0.1; done; exit 1"
)
# libvirt hears of it from udev, a moment after it is there
AWAIT_BACK = (
    "for i in $(seq 300); do [ -e /sys/bus/pci/devices/$1 ] && virsh -q -c xen:///system"
    " nodedev-dumpxml pci_$(echo $1 | tr :. __) > /dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1"
)


def _pull_out(host: Host) -> None:
    """Ask for the card at 01:00.0 as the administrator at the machine would, and wait until dom0 has let go."""
    host.lab.qmp("device_del", {"id": NIC_ID})
    host.sh(AWAIT_GONE)


def _put_in(host: Host, driver: str, bus: str, address: str, mac: str) -> None:
    host.lab.qmp("device_add", {"driver": driver, "id": f"new_{bus}", "bus": bus, "mac": mac})
    done = host.run("sh", "-ec", AWAIT_BACK, "sh", address)
    assert done.returncode == 0, f"nothing came up at {address}"


def test_another_card_at_the_same_address_is_refused(host: Host) -> None:
    host.write(
        "/etc/cede/policy.yaml",
        'version: 1\ndevices: {nic0: {match: {address: "0000:01:00.0"}, expect: {vendor: "8086", device: "10d3"}}}\n'
        "assignments: [{device: nic0, domain: pv1}]\n",
    )
    assert host.cede("plan").returncode == 4
    _pull_out(host)
    _put_in(host, "e1000", "rp1", NIC, "52:54:00:99:00:01")
    before = host.state()
    done = host.cede("apply", "--yes")
    assert (done.returncode, "another device than nic0 expects" in done.stdout) == (3, True), (
        done.stdout
    )
    assert host.state() == before


def test_a_card_that_moved_is_found_by_its_mac(host: Host) -> None:
    mac = host.sh(f"cat /sys/bus/pci/devices/{NIC}/net/*/address").strip()
    host.write(
        "/etc/cede/policy.yaml",
        f'version: 1\ndevices: {{nic0: {{match: {{mac: "{mac}"}}}}}}\n'
        "assignments: [{device: nic0, domain: pv1}]\n",
    )
    assert f"bind {NIC} " in host.cede("plan").stdout
    _pull_out(host)
    _put_in(host, "e1000e", "rp3", "0000:03:00.0", mac)
    host.sh(
        "for i in $(seq 300); do ls /sys/bus/pci/devices/0000:03:00.0/net && exit 0; sleep 0.1; done; exit 1"
    )
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    assert "hot-plug 0000:03:00.0 into the running domain pv1" in applied.stdout
    again = host.cede("apply", "--yes")
    assert (again.returncode, "Nothing was changed." in again.stdout) == (0, True), again.stdout
    assert host.cede("release", "nic0").returncode == 0


def test_any_of_two_like_cards_goes_to_each_of_two_guests_at_the_first_apply(host: Host) -> None:
    host.write("/etc/cede/password", "lab\n")
    host.sh("chmod 600 /etc/cede/password")
    host.write(
        "/etc/cede/policy.yaml",
        "version: 1\ndevices:\n"
        '  a: {match: {vendor: "8086", device: "10d3", any: true}}\n'
        '  b: {match: {vendor: "8086", device: "10d3", any: true}}\n'
        "assignments:\n"
        "  - {device: a, domain: pv1}\n"
        "  - {device: b, domain: pv2, verify: {guest: console, user: root, password_file: /etc/cede/password}}\n",
    )
    applied = host.cede("apply", "--yes")
    assert applied.returncode == 0, applied.stdout
    conditions = json.loads(host.cede("status", "--json").stdout)["conditions"]
    kinds = ("Attached", "Persistent", "Verified", "InSync")
    holds = {(c["subject"], c["type"]): c["status"] for c in conditions if c["type"] in kinds}
    assert holds == {
        (subject, kind): "True" for subject in ("a -> pv1", "b -> pv2") for kind in kinds
    }
    given = host.sh("for g in pv1 pv2; do xl pci-list $g | awk 'NR > 1 {print $2}'; done")
    first, second = given.split()
    assert first != second
    assert host.cede("apply", "--yes").returncode == 0
    assert host.sh("for g in pv1 pv2; do xl pci-list $g | awk 'NR > 1 {print $2}'; done") == given


def test_a_path_holds_when_bus_numbers_shift(host: Host) -> None:
    """The root ports get other bus numbers, as a firmware may give them when a card is added.

    Xen has learnt the numbers at its own boot, so this goes as far as the plan.
    """
    host.write(
        "/etc/cede/policy.yaml",
        'version: 1\ndevices: {nic0: {match: {path: "pci0000:00/08.0/00.0"}, expect: {device: "10d3"}}}\n'
        "assignments: [{device: nic0, domain: pv1}]\n",
    )
    assert f"bind {NIC} " in host.cede("plan").stdout
    host.sh(
        "cd /sys/bus/pci/devices; echo 1 > 0000:00:08.0/remove; echo 1 > 0000:00:09.0/remove;"
        " for p in 08:40 09:41; do"
        " setpci -A intel-conf1 -s 00:${p%:*}.0 SECONDARY_BUS=${p#*:} SUBORDINATE_BUS=${p#*:}; done;"
        " echo 1 > /sys/bus/pci/rescan"
    )
    moved = "0000:40:00.0"
    assert host.run("sh", "-ec", AWAIT_BACK, "sh", moved).returncode == 0, host.sh("lspci -nn")
    planned = host.cede("plan")
    assert (planned.returncode, f"bind {moved} " in planned.stdout) == (4, True), planned.stdout


def test_a_hostdev_added_with_virsh_is_a_reservation(host: Host) -> None:
    host.policy("nic0", NIC, "pv1")
    host.write(
        "/tmp/hostdev.xml",
        "<hostdev mode='subsystem' type='pci' managed='no'><source>"
        "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>",
    )
    host.sh("virsh -c xen:///system attach-device hvm1 /tmp/hostdev.xml --config")
    before = host.state()
    done = host.cede("apply", "--yes")
    assert (done.returncode, f"{NIC} is in the XML of hvm1" in done.stdout) == (3, True), (
        done.stdout
    )
    assert host.state() == before


def test_a_device_that_xl_attached_is_left_where_it_is(host: Host) -> None:
    """libvirt knows nothing of it and would reset a device in use; xenstore tells."""
    host.policy("nic0", NIC, "hvm1")
    host.sh(f"modprobe xen-pciback; xl pci-assignable-add {NIC}; xl pci-attach pv1 {NIC}")
    before = host.state()
    done = host.cede("apply", "--yes")
    assert (done.returncode, "put into pv1 behind libvirt's back" in done.stdout) == (3, True), (
        done.stdout
    )
    released = host.cede("release", NIC)
    assert (released.returncode, "xl pci-detach" in released.stdout) == (3, True), released.stdout
    assert host.state() == before


def test_what_xl_took_out_libvirt_can_not_detach(host: Host) -> None:
    """Seen on libvirt 9.0 and 11.3, where it was the only device: libvirt still lists it, and must not be asked."""
    host.policy("nic0", NIC, "pv1")
    assert host.cede("apply", "--yes").returncode == 0
    host.sh(
        "virsh -q -c xen:///system dumpxml pv1 | sed -n '/<hostdev/,/<.hostdev>/p' > /tmp/hostdev.xml;"
        f" xl pci-detach pv1 {NIC}"
    )
    failed = host.run(
        "virsh", "-c", "xen:///system", "detach-device", "pv1", "/tmp/hostdev.xml", "--live"
    )
    assert "libxenlight failed to detach" in failed.stderr


def test_a_disk_below_a_mounted_logical_volume_keeps_its_controller(host: Host) -> None:
    host.policy("usb", "0000:00:12.0", "pv1")
    unused = host.cede("plan")
    assert "the host itself uses the device" not in unused.stdout, unused.stdout
    host.sh(
        "disk=/dev/$(ls /sys/bus/pci/devices/0000:00:12.0/usb*/*/*/host*/target*/*/block);"
        " wipefs -qa $disk; pvcreate -qy $disk; vgcreate -q data $disk; lvcreate -qy -n home -l 100%FREE data;"
        " mkfs.ext4 -q /dev/data/home; mkdir -p /mnt/home; mount /dev/data/home /mnt/home"
    )
    done = host.cede("plan")
    assert done.returncode == 3, done.stdout
    assert "dm-0 (data-home), which holds /mnt/home" in done.stdout
    host.sh("umount /mnt/home; vgchange -qan data")
    assert "the host itself uses the device" not in host.cede("plan").stdout


def test_what_left_the_policy_is_taken_out_and_given_back(host: Host) -> None:
    host.policy("nic0", NIC, "pv1")
    before = host.state()
    assert host.cede("apply", "--yes").returncode == 0
    assert "<cede:device" in host.sh("virsh -c xen:///system dumpxml --inactive pv1")
    host.write("/etc/cede/policy.yaml", "version: 1\n")
    done = host.cede("apply", "--yes")
    assert done.returncode == 0, done.stdout
    kept = ("not loaded", "no backend", "/local/domain/0/backend/pci")
    assert [line for line in host.state().splitlines() if line and not line.startswith(kept)] == [
        line for line in before.splitlines() if line and not line.startswith(kept)
    ]


def test_a_domain_started_without_passthrough_gets_it_at_its_next_start(host: Host) -> None:
    host.policy("nic0", NIC, "pv3")
    done = host.cede("apply", "--yes")
    assert (done.returncode, "shut pv3 down and start it" in done.stdout) == (4, True), done.stdout
    assert host.cede("status").returncode == 4
    host.sh("virsh -c xen:///system destroy pv3; virsh -c xen:///system start pv3")
    assert wait_until(
        lambda: "NOT VERIFIED" in host.cede("status").stdout, timeout=180, interval=1.0
    )
    again = host.cede("apply", "--yes")
    assert (again.returncode, "Nothing was changed." in again.stdout) == (0, True), again.stdout
    verified = host.cede("verify")
    assert verified.returncode == 0, verified.stdout


def test_a_saved_host_gives_the_same_plan_elsewhere(host: Host) -> None:
    host.policy("nic0", NIC, "pv1")
    assert host.cede("devices", "--save", "/tmp/host.json").returncode == 0
    here = json.loads(host.cede("plan", "--json").stdout)
    there = json.loads(host.cede("plan", "--json", "--host", "/tmp/host.json").stdout)
    assert here == there
    assert "+    <hostdev" in host.cede("plan", "--diff").stdout


def test_one_offs_attach_detach_and_give_back(host: Host) -> None:
    attached = host.cede("attach", NIC, "pv1")
    assert attached.returncode == 0, attached.stdout + attached.stderr
    refused = host.cede("attach", "0000:00:03.0", "pv1")
    assert refused.returncode == 3, refused.stdout
    detached = host.cede("detach", NIC)
    assert detached.returncode == 0, detached.stdout
    assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("pciback")
    assert host.cede("release", NIC).returncode == 0
    assert host.sh(f"readlink /sys/bus/pci/devices/{NIC}/driver").strip().endswith("e1000e")
