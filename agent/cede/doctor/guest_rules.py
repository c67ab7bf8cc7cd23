"""Rules on what a guest's own log says; a guest can forge its log, so the findings concern that guest alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import MSIX_MASKED, Finding, Severity, quoted
from cede.model.actions import SwitchOn
from cede.model.domain import E820_HOST, GuestKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.domain import Domain

_UNCLAIMED = re.compile(
    r"pcifront pci-\d+: Could not claim resource (?P<resource>[0-9a-f:.]{1,16}/(?P<number>\d{1,2}))!"
)
_IN_RAM = re.compile(
    r"address space collision: .{0,80} conflicts with System RAM|address conflict with System RAM"
)
_NO_INTERRUPTS = re.compile(
    r"xen map irq failed -\d+|NETDEV WATCHDOG: .{0,40}: transmit queue \d+ timed out"
    r"|I/O \d+ .{0,40}timeout, completion polled|enable msix? (?:get )?err|Detected Hardware Unit Hang"
)
_COUNTER = re.compile(r"^ *\d{1,6}:(?P<counts>(?: +\d{1,20})+) +(?:xen-pirq +-msi|PCI-MSI)")
_INSTALLED = "Installing PCI frontend"
_SPEAKS = re.compile(rf"(?:^|[\s\]>])(?:xen-)?pcifront(?: pci-\d+)?: |{_INSTALLED}")
_ROM = "6"  # PCI_ROM_RESOURCE, include/linux/pci.h
_DUPLICATE = re.compile(
    r"sysfs: cannot create duplicate filename '(?P<name>[!-~]{0,80}\bpci[!-~]{0,80})'"
    r"|kobject_add_internal failed for (?P<device>[0-9a-f]{4}:[0-9a-f]{2}(?::[0-9a-f]{2}\.[0-7])?) with -EEXIST"
)
_MASKED = re.compile(r"MSI-X: Enable\+ Count=\d{1,4} Masked\+")
NO_PCIFRONT = "no-pcifront"


def unclaimed(log: Sequence[str], domain: Domain) -> Iterator[Finding]:
    """Find a BAR of the device that lies where the guest has memory.

    Both wordings: "Try using e820_host=1 in the guest config" (since Linux 3.9), "Try giving less than 4GB to domain".
    Source: Linux, drivers/pci/xen-pcifront.c (pcifront_claim_resource), drivers/pci/setup-res.c (pci_claim_resource).
    """
    lost = [match for line in log if (match := _UNCLAIMED.search(line))]
    found = next((match for match in lost if match["number"] != _ROM), None)
    if found is None:
        if lost:
            yield _rom_unclaimed(lost[0]["resource"], domain)
        return
    collides = any(_IN_RAM.search(line) for line in log)
    wanting = domain.kind is GuestKind.PV and E820_HOST not in domain.features
    yield Finding(
        name="bar-unclaimed",
        severity=Severity.FATAL,
        subject=domain.name,
        what=f"{domain.name} couldn't claim {quoted(found['resource'])} of its device, which is offline there",
        why="the BAR lies where the guest has memory, since the guest does not see the host's memory map"
        if collides or wanting
        else "something else of the guest is at that address, by the log of its kernel",
        remedy=f"<features><xen><e820_host state='on'/></xen></features> in `virsh edit {domain.name}`, shut it down "
        "and start it"
        if wanting
        else f"shut {domain.name} down and start it, so that e820_host counts; or give it less than 4 GiB of memory",
        source="Linux, drivers/pci/xen-pcifront.c (pcifront_claim_resource)",
        actions=(SwitchOn(domain=domain.name, features=(E820_HOST,)),)
        if wanting and domain.persistent
        else (),
    )


def _rom_unclaimed(resource: str, domain: Domain) -> Finding:
    return Finding(
        name="rom-unclaimed",
        severity=Severity.NOTE,
        subject=domain.name,
        what=f"{domain.name} couldn't claim {quoted(resource)} of its device, which is the option ROM",
        why="pcifront says `Device offline`, but no driver needs the option ROM, save an old graphics card's BIOS",
        remedy="none is needed",
        source="Linux, drivers/pci/xen-pcifront.c (pcifront_claim_resource); include/linux/pci.h (PCI_ROM_RESOURCE)",
    )


def no_interrupts(log: Sequence[str], domain: Domain) -> Iterator[Finding]:
    """Find interrupts that do not arrive: the log says so, or /proc/interrupts has counted no MSI of the device.

    Sources: Linux, arch/x86/pci/xen.c, net/sched/sch_generic.c (dev_watchdog), drivers/nvme/host/pci.c (nvme_timeout).
    """
    line = next((line for line in log if _NO_INTERRUPTS.search(line)), "")
    counters = [match["counts"].split() for one in log if (match := _COUNTER.search(one))]
    silent = bool(counters) and not any(int(count) for counts in counters for count in counts)
    if line or silent:
        yield Finding(
            name="no-interrupts",
            severity=Severity.WARNING,
            subject=domain.name,
            what=f"the interrupts of the device do not arrive in {domain.name}",
            why=f"the guest's log says: {quoted(line)}"
            if line
            else "all MSI counters in the guest's /proc/interrupts are 0",
            remedy="boot the guest with pci=nomsi, or the driver's own option for legacy interrupts; see `xl dmesg` "
            "for faults of the device",
            source="Linux, arch/x86/pci/xen.c",
        )


def no_pcifront(log: Sequence[str], domain: Domain) -> Iterator[Finding]:
    """Find a PV guest whose whole log does not mention pcifront. Source: Linux, drivers/pci/xen-pcifront.c."""
    whole = any("Linux version " in line for line in log)
    if domain.kind is GuestKind.PV and whole and not pcifront_speaks(log):
        yield Finding(
            name=NO_PCIFRONT,
            severity=Severity.WARNING,
            subject=domain.name,
            what=f"pcifront does not run in {domain.name}",
            why=f"the guest's log lacks `{_INSTALLED}`, which pcifront logs at its first device",
            remedy="in the guest: modprobe xen-pcifront; its kernel needs CONFIG_XEN_PCIDEV_FRONTEND",
            source="Linux, drivers/pci/xen-pcifront.c (pcifront_connect_and_init_dma)",
        )


def pcifront_speaks(log: Sequence[str]) -> bool:
    """Return whether pcifront runs in the guest by its log; a line that only names pcifront is no proof."""
    return any(_SPEAKS.search(line) for line in log)


def duplicate(log: Sequence[str], domain: Domain) -> Iterator[Finding]:
    """Find a guest's kernel that has a PCI device already at the name that it gives the new one.

    Sources: Linux, fs/sysfs/dir.c (sysfs_warn_dup), drivers/pci/xen-pcifront.c (pcifront_scan_root).
    """
    found = next((match for line in log if (match := _DUPLICATE.search(line))), None)
    if found is not None:
        name = quoted(found["name"] or found["device"])
        yield Finding(
            name="duplicate-name",
            severity=Severity.WARNING,
            subject=domain.name,
            what=f"{domain.name} still has a device at {name}, and can't add another one there",
            why="an earlier device left the guest and its kernel did not let go of it; the new one has no driver",
            remedy=f"shut {domain.name} down and start it; a detach that the guest answers leaves nothing behind",
            source="Linux, drivers/pci/xen-pcifront.c (pcifront_scan_root)",
        )


def masked(log: Sequence[str], domain: Domain) -> Iterator[Finding]:
    """Find a device with MSI-X on and all of it masked, by `lspci -vv` of the guest in its log.

    Sources: pciutils, ls-caps.c (cap_msix); Xen, xen/arch/x86/msi.c (pci_reset_msix_state).
    """
    line = next((line for line in log if _MASKED.search(line)), "")
    if line:
        yield Finding(
            name=MSIX_MASKED,
            severity=Severity.WARNING,
            subject=domain.name,
            what=f"all MSI-X interrupts of a device of {domain.name} are masked",
            why="no interrupt by message arrives, and where the mask is left on, Xen refuses to assign the device "
            f"again: Device or resource busy; lspci says: {quoted(line)}",
            remedy=f"shut {domain.name} down and start it, so that the device is reset; then lspci has `Masked-`",
            source="Xen, xen/arch/x86/msi.c (pci_reset_msix_state)",
        )


RULES = (unclaimed, no_interrupts, no_pcifront, duplicate, masked)
