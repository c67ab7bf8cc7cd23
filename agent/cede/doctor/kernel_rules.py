"""Rules about dom0's kernel as a whole: what its lockdown forbids, and a suspend while devices were away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts

_LOCKED = re.compile(r"Kernel is locked down from (?P<why>[^;]{1,60})")
_FORBIDDEN = re.compile(
    r"Lockdown: .{1,64}?: (?P<what>/dev/mem,kmem,port|direct PCI access|Xen guest user action) is restricted"
)
_LOCKDOWN = "Linux, security/lockdown; kernel_lockdown(7)"
_FILE, _NOT_LOCKED = "/sys/kernel/security/lockdown", "none"
_SUSPENDED = re.compile(
    r"PM: (?:suspend entry|(?:hibernation: )?hibernation entry|Entering mem sleep)"
    r"|Preparing to enter (?:system )?sleep state S[34]\b|Preparing system for ACPI S[34] state"
)
_GIVEN = re.compile(r"seizing device|assign to virtual slot")


def locked_down(facts: Facts) -> Iterator[Finding]:
    """Find a kernel whose lockdown keeps the toolstack from devices and from Xen, or may.

    What the kernel says itself counts more than that its log once said so.

    Sources: Linux, security/lockdown/lockdown.c, drivers/char/mem.c, drivers/xen/privcmd.c; QEMU, hw/xen/xen_pt_msi.c.
    """
    refused = [line for line in facts.kernel_log if _FORBIDDEN.search(line)]
    locked = [line for line in facts.kernel_log if _LOCKED.search(line)]
    if facts.lockdown is not None and not refused:
        locked = [] if facts.lockdown == _NOT_LOCKED else locked
    if not refused and not locked and facts.lockdown in {None, _NOT_LOCKED}:
        return
    quoting = [f"the log says: {quoted(line)}" for line in (refused or locked)[-1:]]
    said = quoting[0] if quoting else f"{_FILE} says [{facts.lockdown}]"
    yield Finding(
        name="kernel-lockdown",
        severity=Severity.FATAL if refused else Severity.WARNING,
        subject=HOST,
        what="dom0's kernel is locked down, and forbids what the toolstack and device models need"
        if refused
        else "dom0's kernel is locked down, which may keep the toolstack and device models from devices",
        why="QEMU maps a device's MSI-X table by /dev/mem, libxl and Xen's library act on guests by /dev/xen/privcmd; "
        f"{said}",
        remedy="switch Secure Boot off in the firmware's setup, or take lockdown= off the kernel's command line, and "
        f"reboot; {_FILE} then says [none]",
        source=_LOCKDOWN,
    )


def suspended(facts: Facts) -> Iterator[Finding]:
    """Find devices that were away in a guest while dom0 was suspended, by dom0's or Xen's log.

    Source: Linux, drivers/xen/xen-pciback/pci_stub.c, which has no suspend and no resume.
    """
    lines = facts.kernel_log
    last = max(
        (number for number, line in enumerate(lines) if _SUSPENDED.search(line)), default=None
    )
    if last is None:
        return
    for given in facts.inventory.backend:
        later = (line for line in lines[last:] if str(given.address) in line)
        if any(_GIVEN.search(line) for line in later):
            continue
        yield Finding(
            name="suspended-while-away",
            severity=Severity.WARNING,
            subject=str(given.address),
            address=given.address,
            what=f"dom0 was suspended while a guest had {given.address}",
            why="pciback neither saves nor restores a device that a guest has, and the guest is not told: the device "
            f"may be dead there; the log says: {quoted(lines[last])}",
            remedy=f"`cede drain {given.address}`, then `cede resume {given.address}`; "
            "the hook contrib/systemd/system-sleep/cede does so for all before and after each suspend",
            source="Linux, drivers/xen/xen-pciback/pci_stub.c",
        )


RULES = (locked_down, suspended)
