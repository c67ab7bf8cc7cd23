"""What a guest answers when it is asked for a look, built as its shell would print it."""

from __future__ import annotations

RECORD = """\
Slot:\t0000:00:00.0
Class:\t0200
Vendor:\t8086
Device:\t10d3
SVendor:\t8086
SDevice:\t0000
ProgIf:\t00
Driver:\te1000e
Module:\te1000e
NUMANode:\t0

"""
SYSFS = """\
DRIVER=e1000e
PCI_CLASS=20000
PCI_ID=8086:10D3
PCI_SUBSYS_ID=8086:0000
PCI_SLOT_NAME=0000:00:00.0
MODALIAS=pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00
0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000007000 0x000000000000701f 0x0000000000040101
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x000000000003ffff 0x0000000000046200
0x0000000000000000 0x0000000000003fff 0x0000000000140204
D0
msix
msix
52:54:00:01:00:00
0
"""
KERNEL = """\
[    6.003747] pcifront pci-0: Installing PCI frontend
[    6.004351] pci 0000:00:00.0: [8086:10d3] type 00 class 0x020000 PCIe Endpoint
[    6.007309] pcifront pci-0: claiming resource 0000:00:00.0/0
[    6.007313] pcifront pci-0: claiming resource 0000:00:00.0/2
[    7.986284] e1000e 0000:00:00.0: Interrupt Throttling Rate (ints/sec) set to dynamic conservative mode
fe800000-fe81ffff : 0000:00:00.0
7000-701f : 0000:00:00.0
"""


def framed(text: str) -> str:
    """The lines as the look prints them in the end, empty ones left out."""
    lines = [line for line in text.split("\n") if line]
    marked = [f"|{line}|" for line in lines]
    characters = len("\n".join(lines))
    return "\n".join([*marked, f"==end {len(lines)} {characters}", ""])


def whole(record: str = RECORD, sysfs: str = SYSFS, kernel: str = KERNEL) -> str:
    """A look by pciutils' lspci and by sysfs."""
    return framed(f"{kernel}==lspci\n{record}==sysfs\n{sysfs}")


def by_busybox(line: str, sysfs: str = SYSFS, kernel: str = KERNEL) -> str:
    """A look where lspci is busybox'; an empty line is one where there is none."""
    return framed(f"{kernel}==lspci\n==busybox\n{line}==sysfs\n{sysfs}")
