"""Rules about xen-pciback, dom0's driver that holds devices for guests: available, loaded, hiding the right devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted
from cede.errors import FailureKind
from cede.model.actions import LoadAtBoot, LoadPciback
from cede.model.pciback_options import SPELLING
from cede.planner.boot_plan import early_boot
from cede.planner.hide_mistakes import configured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cede.doctor.finding import Facts
    from cede.planner.hide_mistakes import Mistake

_REFUSED = re.compile(r'Error parsing pci_devs_to_hide at "(?P<rest>.*)"')
_STUB = "Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init)"


def not_loaded(facts: Facts) -> Iterator[Finding]:
    """Find a kernel that has no xen-pciback, or has not loaded xen-pciback now or at boot.

    Sources: Linux, drivers/xen/Kconfig (XEN_PCIDEV_BACKEND); modules-load.d(5).
    """
    loaded = facts.inventory.pciback_loaded
    if not loaded and facts.pciback_available is False:
        yield Finding(
            name="pciback-missing",
            severity=Severity.FATAL,
            subject=HOST,
            what="this kernel has no module xen-pciback",
            why="without it dom0 can't hold a device for guests",
            remedy="boot a kernel with CONFIG_XEN_PCIDEV_BACKEND; Debian's linux-image-amd64 has it",
            source="Linux, drivers/xen/Kconfig (XEN_PCIDEV_BACKEND)",
        )
        return
    if not loaded:
        yield Finding(
            name="pciback-not-loaded",
            severity=Severity.WARNING,
            subject=HOST,
            what="the kernel module xen-pciback is not loaded",
            why="libvirt would try `modprobe pciback`, which no present kernel has; cede loads xen-pciback when "
            "a plan needs it",
            remedy="modprobe xen-pciback",
            source="libvirt, src/util/virpci.c (virPCIProbeStubDriver)",
            actions=() if facts.boot.broken else (LoadPciback(),),
        )
    if facts.pciback_at_boot is False:
        yield Finding(
            name="pciback-not-at-boot",
            severity=Severity.WARNING,
            subject=HOST,
            what="xen-pciback is not loaded at boot",
            why="a guest that starts at boot finds its device not bound to pciback",
            remedy="echo xen-pciback > /etc/modules-load.d/cede.conf",
            source="modules-load.d(5)",
            actions=(LoadAtBoot(),),
        )


def hidden(facts: Facts) -> Iterator[Finding]:
    """Find what is wrong with what xen-pciback is told to hide: the same as `cede boot --print`.

    Without a policy that assigns something, what is hidden is compared with the host alone.
    Source: Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init).
    """
    for mistake in _mistakes(facts):
        place, entry = quoted(mistake.place), quoted(mistake.entry)
        yield Finding(
            name=f"hide-{mistake.name}",
            severity=_severity(mistake, facts),
            subject=f"{entry} of {place}" if entry else place,
            what=f"{place} {mistake.what}",
            why=mistake.why,
            remedy=mistake.remedy,
            source=mistake.source,
        )
    refused = [match for line in facts.kernel_log if (match := _REFUSED.search(line))]
    if (
        refused
        and not facts.inventory.pciback_loaded
        and not any(f.bad for f in facts.boot.settings)
    ):
        yield Finding(
            name="hide-refused",
            severity=Severity.WARNING,
            subject=HOST,
            what="xen-pciback could not read its hide=, and did not load",
            why=f'the kernel log says: Error parsing pci_devs_to_hide at "{quoted(refused[-1]["rest"])}"',
            remedy=f"modprobe xen-pciback, with hide=(0000:01:00.0)(0000:02:00.0): {SPELLING}, and no commas",
            source=_STUB,
        )


def _mistakes(facts: Facts) -> Iterable[Mistake]:
    if facts.policy.assignments:
        return early_boot(facts.policy, facts.inventory, facts.boot).mistakes
    return configured(facts.boot, facts.inventory, protect=facts.policy.protect)


def _severity(mistake: Mistake, facts: Facts) -> Severity:
    if mistake.name in {"twice", "pending"}:
        return Severity.NOTE
    if mistake.name == "malformed" and facts.inventory.pciback_loaded:
        return Severity.WARNING  # it counts from the next boot
    fatal = mistake.name in {"malformed", "guarded"} and mistake.kind is not FailureKind.OUT_OF_SYNC
    return Severity.FATAL if fatal else Severity.WARNING


RULES = (not_loaded, hidden)
