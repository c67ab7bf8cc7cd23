"""Rules about Xen itself: is this dom0, is the toolstack installed, is there an IOMMU to give devices away safely."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts

_FALSE = frozenset({"0", "no", "off", "false", "disable"})
_TABLE = re.compile(
    r"Failed to parse ACPI DMAR|Invalid ACPI DMAR entry|Invalid DMAR width|Invalid device scope|Unknown scope type"
    r"|Only one (?:INCLUDE_ALL|ALL_PORTS) device scope|Non-existent device \(.{1,20}\) in this DRHD's scope"
    r"|AMD-Vi: Error: |IV(?:RS|HD|MD) Error: |No southbridge IO-APIC found in IVRS table"
    r"|Cannot find supported IVHD type|SP5100 erratum 28 detected"
)
_IN_LOG = re.compile(r"^\(XEN\)\s+(?:\[[^\]]*\]\s*)?Command line: (.*)$")


def not_xen(facts: Facts) -> Iterator[Finding]:
    """Find a system that runs without Xen, or is a guest.

    Sources: Linux Documentation/ABI/stable/sysfs-hypervisor-xen; xen/include/public/features.h (XENFEAT_dom0).
    """
    if facts.hypervisor not in {None, "xen"}:
        said = quoted(facts.hypervisor or "") or "nothing"
        yield Finding(
            name="not-xen",
            severity=Severity.FATAL,
            subject=HOST,
            what="this system does not run on Xen",
            why=f"/sys/hypervisor/type says {said}, so Linux was booted without Xen",
            remedy="boot the entry `Xen hypervisor` of the boot menu; `apt-get install xen-system-amd64` adds it",
            source="Linux, Documentation/ABI/stable/sysfs-hypervisor-xen",
        )
    elif facts.is_dom0 is False:
        yield Finding(
            name="not-dom0",
            severity=Severity.FATAL,
            subject=HOST,
            what="this is a Xen guest, not dom0",
            why="only dom0 can give devices away",
            remedy="run cede in dom0",
            source="Xen, xen/include/public/features.h (XENFEAT_dom0)",
        )


def no_toolstack(facts: Facts) -> Iterator[Finding]:
    """Find that the xl toolstack is missing. Source: Xen, docs/man/xl.1.pod.in."""
    if facts.has_xl is False:
        yield Finding(
            name="no-xl",
            severity=Severity.FATAL,
            subject=HOST,
            what="the program xl is not installed",
            why="only xl lifts the quarantine in which Xen puts a device that leaves a guest",
            remedy="apt-get install xen-utils-common (and the xen-utils of the Xen that runs)",
            source="Xen, docs/man/xl.1.pod.in (pci-assignable-remove)",
        )


def iommu_off(facts: Facts) -> Iterator[Finding]:
    """Find a VT-d or AMD-Vi that is off, in the firmware or on Xen's command line.

    Sources: xen/drivers/passthrough/iommu.c (parse_iommu_param, iommu_setup), xen/common/kernel.c (`no-` before a
    name), tools/libs/light/libxl.c (virt_caps).
    """
    capable = any(cap.endswith("directio") for cap in facts.virtualisation)
    said = any("I/O virtualisation disabled" in line for line in facts.xen_log)
    off = not capable if facts.virtualisation else said
    word = _switched_off(facts)
    table = next((line for line in facts.xen_log if _TABLE.search(line)), "")
    if off and table and not word:
        yield Finding(
            name="iommu-table-wrong",
            severity=Severity.FATAL,
            subject=HOST,
            what="Xen has no IOMMU to give devices away with: the firmware describes it wrongly (I/O virtualisation "
            "disabled)",
            why=f"Xen does not use an IOMMU whose ACPI table (DMAR, IVRS) is wrong; its log says: {quoted(table)}",
            remedy="newer firmware for the board; Xen can be told what an AMD table leaves out, by ivrs_ioapic[], "
            "ivrs_hpet[] and ivmd= on its command line",
            source="Xen, xen/drivers/passthrough/vtd/dmar.c, amd/iommu_acpi.c",
        )
    elif off:
        yield Finding(
            name="iommu-off",
            severity=Severity.FATAL,
            subject=HOST,
            what="Xen has no IOMMU to give devices away with (I/O virtualisation disabled)",
            why=f"Xen's command line says {quoted(word)}"
            if word
            else "VT-d (Intel) or AMD-Vi is switched off in the firmware, or this machine has none",
            remedy=f"take {quoted(word)} off GRUB_CMDLINE_XEN in /etc/default/grub, then update-grub and reboot"
            if word
            else "switch VT-d, AMD-Vi or IOMMU on in the firmware's setup; `xl info` then has pv_directio in virt_caps",
            source="Xen, xen/drivers/passthrough/iommu.c (iommu_setup)",
        )
    elif any("Interrupt remapping disabled" in line for line in facts.xen_log):
        yield Finding(
            name="interrupt-remapping-off",
            severity=Severity.WARNING,
            subject=HOST,
            what="Xen remaps no interrupts",
            why="a guest with a device can send the host any interrupt",
            remedy="give devices only to guests that you trust; newer firmware, or other settings there, may remap",
            source="Xen, xen/drivers/passthrough/iommu.c (iommu_setup)",
        )


def _switched_off(facts: Facts) -> str:
    """The word on Xen's command line that switches the IOMMU off; empty if none does."""
    logged = (match[1] for line in facts.xen_log if (match := _IN_LOG.match(line)))
    off = ""
    for word in (facts.xen_command_line or next(logged, "")).split():
        if word == "no-iommu":
            off = word
        elif word.startswith("iommu="):
            for part in word.removeprefix("iommu=").split(","):
                if part in _FALSE:
                    off = word
                elif part in {"1", "yes", "on", "true", "enable", "force", "required"}:
                    off = ""
    return off


RULES = (not_xen, no_toolstack, iommu_off)
