"""Rules about what Xen stopped: a device that reached for memory not of its guest, and a guest that Xen crashed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import Finding, Severity, quoted
from cede.model.log_lines import iommu_faults
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.doctor.finding import Facts

_CALLED = re.compile(r"domain_crash (?:called from|sync called from) (?P<place>[!-~]{1,100})")
_CRASHED = re.compile(
    r"Domain (?P<domid>\d{1,5}) (?:\(vcpu#\d{1,5}\) crashed|reported crashed by domain \d{1,5}) on cpu#"
)
_ADDRESS = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\b")
_BEFORE = 12  # lines in which Xen tells why it crashes a domain


def faults(facts: Facts) -> Iterator[Finding]:
    """Find each device whose accesses the IOMMU has stopped.

    Sources: Xen, xen/drivers/passthrough/vtd/iommu.c (iommu_page_fault_do_one), amd/iommu_init.c
    (parse_event_log_entry), pci.c (pci_check_disable_device).
    """
    found: dict[Address, list[str]] = {}
    for fault in iommu_faults(facts.xen_log):
        found.setdefault(fault.address, []).append(fault.line)
    for address, lines in found.items():
        device = facts.inventory.device(address)
        yield Finding(
            name="iommu-fault",
            severity=Severity.WARNING,
            subject=str(address),
            address=address,
            what=f"the IOMMU stopped {len(lines)} accesses of {address}{_owner(address, facts)}"
            + (
                "" if device else "; no device has that address, so ask who sits behind that bridge"
            ),
            why="the device was told an address that is not its owner's, by a driver or by firmware, or "
            "after its guest was gone; if that goes on, Xen switches its DMA off; the log says last: "
            f"{quoted(lines[-1])}",
            remedy="restart the guest, so that the device is reset; if faults come from the boot on, the firmware uses "
            "memory of its own: newer firmware, legacy USB off there, or rmrr= on Xen's command line",
            source="Xen, xen/drivers/passthrough/pci.c (pci_check_disable_device)",
        )


def _owner(address: Address, facts: Facts) -> str:
    given = facts.inventory.given(address)
    if given is None:
        return ""
    domain = facts.inventory.domain_by_id(given.domid)
    return f", which {domain.name if domain else f'domain {given.domid}'} has"


def crashed(facts: Facts) -> Iterator[Finding]:
    """Find each guest that Xen has crashed, and the device that the log names there.

    Sources: Xen, xen/include/xen/sched.h (domain_crash), xen/common/domain.c (__domain_crash).
    """
    lines, counted = facts.xen_log, -1
    for number, line in enumerate(lines):
        crash, called = _CRASHED.search(line), _CALLED.search(line)
        if called is not None and crash is None:
            after = (
                match for said in lines[number : number + 3] if (match := _CRASHED.search(said))
            )
            crash = next(after, None)
            counted = number + 2 if crash else number
        elif crash is None or number <= counted:
            continue
        yield _crash(
            crash and crash["domid"],
            line,
            _device(lines[max(number - _BEFORE, 0) : number + 1], facts),
            facts,
        )


def _device(lines: Sequence[str], facts: Facts) -> Address | None:
    """Return the device that is named last before a crash."""
    faulty = [fault.address for fault in iommu_faults(lines)]
    named = [Address.parse(said) for line in lines for said in _ADDRESS.findall(line)]
    known = [address for address in (*faulty, *named) if facts.inventory.device(address)]
    return known[-1] if known else None


def _crash(domid: str | None, line: str, device: Address | None, facts: Facts) -> Finding:
    domain = None if domid is None else facts.inventory.domain_by_id(int(domid))
    who = domain.name if domain else "a domain" if domid is None else f"domain {domid}"
    return Finding(
        name="domain-crashed",
        severity=Severity.WARNING,
        subject=who if device is None else f"{device} in {who}",
        address=device,
        what=f"Xen crashed {who}" + ("" if device is None else f" over {device}"),
        why=f"Xen ends a guest that it can't go on with, and its devices may stay as they were; "
        f"the log says: {quoted(line)}",
        remedy="see the lines before it in `xl dmesg`; if the device does not come back from its reset, power the "
        "machine off and on before you give it again",
        source="Xen, xen/common/domain.c (__domain_crash)",
    )


RULES = (faults, crashed)
