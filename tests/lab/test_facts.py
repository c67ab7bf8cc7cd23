"""What libvirt and Xen really do where cede has to know better: its decisions rest on this."""

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
VIRSH = "virsh -q -c xen:///system"
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='no'><driver name='xen'/><source>"
    "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
)


def test_libvirt_calls_a_guest_off_whose_device_vanished_before_libvirtd_was_restarted(
    host: Host,
) -> None:
    """Xen still runs it. cede strikes what vanished from the XML and leaves the guest alone."""
    host.policy("nic0", NIC, "pv1")
    assert host.cede("apply", "--yes").returncode == 0
    host.lab.qmp("device_del", {"id": "pci_0000_01_00_0"})
    host.sh(
        f"for i in $(seq 300); do [ -e /sys/bus/pci/devices/{NIC} ] || exit 0; sleep 0.1; done; exit 1"
    )
    assert host.sh(f"{VIRSH} domstate pv1").strip() == "running"
    domid = host.sh("xl domid pv1")
    host.sh("systemctl restart libvirtd")
    assert host.sh(f"{VIRSH} domstate pv1").strip() == "shut off"
    assert host.sh("xl domid pv1") == domid
    assert "vanished" in host.cede("devices").stdout
    released = host.cede("release", NIC)
    assert released.returncode == 0, released.stdout
    assert "<hostdev" not in host.sh(f"{VIRSH} dumpxml pv1 --inactive")
    assert host.sh("xl domid pv1") == domid


def test_libvirt_tries_to_give_away_what_xl_gave_to_another_guest(host: Host) -> None:
    """It doesn't know who has it; libxl refuses, after libvirt has come as far as to ask for it."""
    host.write("/tmp/hostdev.xml", HOSTDEV)
    host.sh(f"modprobe xen-pciback; xl pci-assignable-add {NIC}; xl pci-attach pv1 {NIC}")
    assert "<hostdev" not in host.sh(f"{VIRSH} dumpxml pv1")
    failed = host.run(*VIRSH.split(), "attach-device", "hvm1", "/tmp/hostdev.xml", "--live")
    assert (failed.returncode, "libxenlight failed to attach" in failed.stderr) == (1, True)
    assert "already assigned to a different guest" in host.sh("cat /var/log/libvirt/libxl/hvm1.log")
    given = host.sh("xenstore-ls -f /local/domain/0/backend/pci")
    assert f'/0/dev-0 = "{NIC}"' in given
    assert "/backend/pci/1/" in given
