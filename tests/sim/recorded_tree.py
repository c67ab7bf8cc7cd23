"""A small host in a folder, as somebody would send it: what a plain tar has, and beside it what no tar should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.config_spaces import IGB, RADEON_HD_6970
from sim.sys_tree import SysTree, write

if TYPE_CHECKING:
    from pathlib import Path

DEFINITION = """\
<domain type='xen'>
  <name>guest-a</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='KiB'>524288</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='xenpv'>linux</type></os>
  <devices>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <source><address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></source>
    </hostdev>
  </devices>
</domain>"""
POLICY = """\
version: 1
devices:
  nic0:
    match: {address: "0000:03:00.0"}
    expect: {vendor: "8086"}
assignments:
  - {device: nic0, domain: guest-a}"""


def small_tree(root: Path, *, definitions: bool = True) -> SysTree:
    """Build a NIC and a disk of dom0, a display with a driver and nothing on it, and a NIC on pciback."""
    root.mkdir()
    tree = SysTree(root)
    tree.function("0000:01:00.0", driver="e1000e", net={"eth0": "02:00:00:00:00:01"})
    display = tree.function(
        "0000:02:00.0",
        driver="radeon",
        class_code="030000",
        identity="1002:6718",
        config=RADEON_HD_6970,
    )
    write(display / "boot_vga", "0")
    tree.function("0000:03:00.0", driver="pciback")
    disk = tree.function("0000:04:00.0", driver="nvme", class_code="010802", config=IGB)
    write(tree.disk("nvme0n1", disk) / "size", "2097152")
    tree.mount("/", tree.sys / "class/block/nvme0n1")
    tree.slots("0000:03:00.0")
    write(tree.sys / "hypervisor/type", "xen")
    write(tree.sys / "hypervisor/properties/features", "00002705\n"[:8])
    write(tree.proc / "cmdline", "root=/dev/nvme0n1 xen-pciback.hide=(03:00.0)")
    write(tree.proc / "sys/kernel/osrelease", "6.1.0-9-arm64")
    write(tree.proc / "sys/kernel/random/boot_id", "11111111-0000-0000-0000-000000000000")
    write(root / "etc/modules", "xen-pciback")
    write(root / "etc/modprobe.d/hide.conf", "options xen-pciback hide=(09:00.0)")
    write(root / "etc/cede/policy.yaml", POLICY)
    write(root / "var/log/dmesg", "[    0.000000] Linux version 6.1\n[    1.500000] pci: fine")
    write(root / "var/log/xen/xl-dmesg.log", "(XEN) I/O virtualisation disabled\nsomebody else")
    if definitions:
        write(root / "etc/libvirt/libxl/guest-a.xml", DEFINITION)
    return tree
