"""Rules about devices, from what dom0's kernel and Xen logged of each.

A log is the past: a line counts until a later one of the same device says that it is over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.doctor.finding import MSIX_MASKED, MSIX_UNMASK, Finding, Severity, quoted
from cede.model.log_lines import RESET_CAME_BACK, RESET_GIVEN_UP
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts

_AT = r"(?P<at>[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_SAID = rf"{_AT}: (?:xen[-_]pciback: )?"
_DOM0 = frozenset({"0", "32752"})  # DOMID_SELF, xen/include/public/xen.h


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sign:
    """A log line about a device, and the finding that follows from the line."""

    name: str
    line: re.Pattern[str]
    what: str
    why: str
    remedy: str
    source: str
    severity: Severity = Severity.WARNING


_KERNEL = (
    _Sign(
        name="permissive-needed",
        line=re.compile(
            rf"pciback {_AT}: (?:xen-pciback: )?Driver tried to write to a read-only configuration space field"
        ),
        what="the guest's driver wrote to a part of {at}'s configuration space that pciback keeps from it",
        why="mostly harmless; if the device does not work in the guest, this may be the reason",
        remedy="`permissive: true` at its assignment; in XML <source writeFiltering='no'>",
        source="Linux, drivers/xen/xen-pciback/conf_space.c (xen_pcibk_config_write)",
        severity=Severity.NOTE,
    ),
    _Sign(
        name="no-power",
        line=re.compile(
            rf"{_AT}: (?:Unable to change power state from D3\w* to D0|Refused to change power state, currently in D3"
            r"|can't change power state from D3\w* to D0)"
        ),
        what="{at} doesn't wake from D3",
        why="a device that can't be powered up can't be reset or given away",
        remedy="echo on > /sys/bus/pci/devices/{at}/power/control, and 0 into its d3cold_allowed; else power the "
        "machine off and on",
        source="Linux, drivers/pci/pci.c (pci_power_up)",
    ),
    _Sign(
        name="broken-rom",
        line=re.compile(
            rf"{_AT}: (?:Invalid PCI ROM (?:header|data) signature|can't ioremap ROM|ROM \[[^]]*\]: can't assign)"
        ),
        what="the ROM of {at} can't be read",
        why="a graphics card without its ROM stays dark in the guest; other devices mostly need no ROM",
        remedy="let the machine start with another graphics card (the firmware's setup, primary display), so that "
        "nothing uses this one's ROM before the guest; libvirt's Xen driver ignores a ROM given as a file",
        source="Linux, drivers/pci/rom.c (pci_get_rom_size)",
    ),
    _Sign(
        name="bus-error",
        line=re.compile(
            rf"{_AT}: (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \((?:Non-)?Fatal\)"
        ),
        what="{at} had a bus error that wasn't corrected (AER)",
        why="pciback takes a device with such an error from its guest",
        remedy="reseat the card, try another slot or firmware; `lspci -vvs {at}` shows the error's bits",
        source="Linux, drivers/pci/pcie/aer.c (aer_print_error)",
    ),
    _Sign(
        name="bus-error-corrected",
        line=re.compile(rf"{_AT}: (?:AER: )?PCIe Bus Error: severity=Correct(?:ed|able)"),
        what="{at} had a bus error that was corrected (AER)",
        why="a few are harmless; many mean a bad slot, cable or card",
        remedy="watch the kernel log; reseat the card if the errors keep coming",
        source="Linux, drivers/pci/pcie/aer.c (aer_print_error)",
        severity=Severity.NOTE,
    ),
)
_XEN = (
    _Sign(
        name=MSIX_MASKED,
        line=re.compile(rf"cannot (?:mask|disable) IRQ \d+: masking MSI-X on (?:Dom\d+'s )?{_AT}"),
        what="Xen has masked all MSI-X interrupts of {at}, whose memory did not answer",
        why="a driver left the device with its memory off; as long as the mask is on, Xen refuses to assign the "
        "device: Device or resource busy",
        remedy=MSIX_UNMASK,
        source="Xen, xen/arch/x86/msi.c (msi_set_mask_bit, pci_reset_msix_state)",
    ),
    _Sign(
        name="rmrr",
        line=re.compile(rf"\[VT-D\]\s?It's disallowed to assign {_AT} with shared RMRR"),
        what="the firmware keeps memory for {at} (RMRR) that it shares with another device",
        why="Xen gives away no device whose reserved memory another device uses too",
        remedy="switch off legacy USB or the shared device in the firmware; libvirt can't relax this, but xl can: "
        "pci = ['{at},rdm_policy=relaxed'], if you trust that guest",
        source="Xen, xen/drivers/passthrough/vtd/iommu.c (intel_iommu_assign_device)",
        severity=Severity.FATAL,
    ),
    _Sign(
        name="rmrr-relaxed",
        line=re.compile(rf"\[VT-D\]\s?It's risky to assign {_AT} with shared RMRR"),
        what="{at} was given away although it shares reserved memory (RMRR) with another device",
        why="that device's owner and this one's can harm each other",
        remedy="give both to the same guest, or to guests that you trust",
        source="Xen, xen/drivers/passthrough/vtd/iommu.c (intel_iommu_assign_device)",
    ),
)
_BOUND = re.compile(rf"pciback {_SAID}seizing device")
_GIVEN = re.compile(rf"{_SAID}(?:seizing device|(?:vpci: )?assign to virtual slot)")
_NO_IRQ = re.compile(
    rf"{_AT}: xen map irq failed (?P<code>-\d{{1,4}}) for (?P<domid>\d{{1,5}}) domain"
)
_NO_MSIX = re.compile(rf"{_SAID}MSI-X preparation failed \((?P<code>-\d{{1,4}})\)")
_GIVEN_UP = re.compile(rf"{_SAID}{RESET_GIVEN_UP}")
_CAME_BACK = re.compile(rf"{_SAID}{RESET_CAME_BACK}")
_REFUSED = re.compile(
    rf"(?<!de)assign (?:phantom function )?\({_AT}\) failed \((?P<code>-\d{{1,4}})\)"
)
_MSIX_CODES = {
    "-6": "the device's memory does not answer, mostly after a reset from which it did not come back",
    "-16": "Xen still counts MSI-X interrupts of it as in use",
    "-19": "Xen does not know the device",
}
_IRQ_CODES = {
    "-1": "that domain may not have the interrupt",
    "-19": "the device is not that domain's in Xen's eyes, or in quarantine",
    "-22": "Xen does not take the device's table of interrupts",
    "-28": "Xen has no vectors left",
}
_ASSIGN_CODES = {
    "-1": "its reserved memory (RMRR) is shared, or Xen's security policy forbids it",
    "-9": "Xen holds the device for broken",
    "-16": "another guest has it, or its MSI-X mask was left on",
    "-18": "the guest's memory is shared, paged or populated on demand",
    "-19": "Xen does not know the device, or no IOMMU covers it",
}


def logged(facts: Facts) -> Iterator[Finding]:
    """Find what dom0's kernel and Xen logged of each device that still exists."""
    for signs, lines in ((_KERNEL, facts.kernel_log), (_XEN, facts.xen_log)):
        for sign in signs:
            for line in lines:
                match = sign.line.search(line)
                if match is not None and _known(match["at"], facts) is not None:
                    yield _made(sign, match["at"], line)


def _made(sign: _Sign, at: str, line: str) -> Finding:
    return Finding(
        name=sign.name,
        severity=sign.severity,
        subject=at,
        address=Address.parse(at),
        what=sign.what.format(at=at),
        why=f"{sign.why}; the log says: {quoted(line)}",
        remedy=sign.remedy.format(at=at),
        source=sign.source,
    )


def _warned(address: Address, name: str, what: str, why: str, remedy: str, source: str) -> Finding:
    return Finding(
        name=name,
        severity=Severity.WARNING,
        subject=str(address),
        address=address,
        what=what,
        why=why,
        remedy=remedy,
        source=source,
    )


def _known(at: str, facts: Facts) -> Address | None:
    address = Address.parse(at)
    return None if facts.inventory.device(address) is None else address


def _unanswered(
    lines: tuple[str, ...], begins: re.Pattern[str], ends: re.Pattern[str]
) -> Iterator[tuple[re.Match[str], str]]:
    """Yield for each device the last match of `begins` that no later line ends, with its line."""
    found: dict[str, tuple[re.Match[str], str]] = {}
    for line in lines:
        if (begun := begins.search(line)) is not None:
            found[begun["at"]] = (begun, line)
        elif (ended := ends.search(line)) is not None:
            found.pop(ended["at"], None)
    yield from found.values()


def quarantined(facts: Facts) -> Iterator[Finding]:
    """Find a device in Xen's quarantine that is bound to dom0's driver: dead, and only a log line says so.

    Sources: Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs); Xen, docs/misc/xen-command-line.pandoc.
    """
    for lost, line in _unanswered(facts.kernel_log, _NO_IRQ, _BOUND):
        device = facts.inventory.device(Address.parse(lost["at"]))
        if (
            device is None
            or device.on_pciback
            or device.driver is None
            or lost["domid"] not in _DOM0
        ):
            continue
        yield _warned(
            device.address,
            "quarantined",
            what=f"{device.address} is bound to dom0's {device.driver}, but Xen mapped none of its interrupts for dom0",
            why="a device that returns from a guest while Xen quarantines the device is dead in dom0; "
            f"the log says: {quoted(line)}",
            remedy=f"virsh nodedev-detach {device.address.node_device}, then `cede release {device.address}`",
            source="Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs)",
        )


def no_guest_interrupts(facts: Facts) -> Iterator[Finding]:
    """Find a device of which Xen mapped an interrupt by message for no guest.

    Source: Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs), which pciback calls for a guest.
    """
    for lost, line in _unanswered(facts.kernel_log, _NO_IRQ, _GIVEN):
        address = _known(lost["at"], facts)
        if address is None or lost["domid"] in _DOM0:
            continue
        cause = _IRQ_CODES.get(lost["code"], f"error {lost['code']}")
        yield _warned(
            address,
            "map-irq-failed",
            what=f"Xen mapped no MSI of {address} for domain {lost['domid']}: {cause}",
            why=f"the guest's driver gets no interrupts by message; the log says: {quoted(line)}",
            remedy="detach the device and attach it again; else have the guest's driver use fewer queues, or legacy "
            "interrupts (pci=nomsi); `xl dmesg` may say more",
            source="Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs)",
        )


def no_msix(facts: Facts) -> Iterator[Finding]:
    """Find a device of which Xen could not prepare the MSI-X interrupts when pciback took it.

    Sources: Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init_device); Xen, xen/arch/x86/msi.c (pci_prepare_msix,
    msix_capability_init).
    """
    for failed, line in _unanswered(facts.kernel_log, _NO_MSIX, _BOUND):
        address = _known(failed["at"], facts)
        if address is None:
            continue
        cause = _MSIX_CODES.get(failed["code"], f"error {failed['code']}")
        yield _warned(
            address,
            "msix-preparation-failed",
            what=f"Xen could not prepare the MSI-X interrupts of {address}: {cause}",
            why=f"a driver that needs MSI-X won't work in the guest; the log says: {quoted(line)}",
            remedy=f"`cede release {address}`, and give it again; if that does not help, power the machine off and on; "
            "else have the guest's driver use MSI or legacy interrupts (pci=nomsi)",
            source="Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init_device)",
        )


def reset_hangs(facts: Facts) -> Iterator[Finding]:
    """Find a device that did not come back from its last reset. Source: Linux, drivers/pci/pci.c (pci_dev_wait)."""
    for failed, line in _unanswered(facts.kernel_log, _GIVEN_UP, _CAME_BACK):
        address = _known(failed["at"], facts)
        if address is None:
            continue
        yield _warned(
            address,
            "reset-hangs",
            what=f"{address} did not come back from a reset, and the kernel gave it up",
            why="it answers nothing any more: no guest and no driver can use it, and what resets it again hangs as "
            f"long; whoever had it, Xen keeps it in quarantine; the log says: {quoted(line)}",
            remedy="shut the guest down, then power the machine off, not only reboot it; `cede pause` keeps cede off "
            "the device until then; newer firmware of the card, or another slot, may end it",
            source="Linux, drivers/pci/pci.c (pci_dev_wait)",
        )


def refused(facts: Facts) -> Iterator[Finding]:
    """Find a device that Xen refused to assign. Source: Xen, xen/drivers/passthrough/pci.c (assign_device)."""
    for line in facts.xen_log:
        match = _REFUSED.search(line)
        address = None if match is None else _known(match["at"], facts)
        if match is None or address is None:
            continue
        cause = _ASSIGN_CODES.get(match["code"], f"error {match['code']}")
        yield Finding(
            name="assign-refused",
            severity=Severity.WARNING,
            subject=f"{address} ({match['code']})",
            address=address,
            what=f"Xen refused to assign {address} to a guest: {cause}",
            why=f"libxl then says `xc_assign_device failed`; the log says: {quoted(line)}",
            remedy=MSIX_UNMASK.format(at=address)
            if match["code"] == "-16"
            else "see the lines before it in `xl dmesg`",
            source="Xen, xen/drivers/passthrough/pci.c (assign_device)",
        )


RULES = (logged, quarantined, no_guest_interrupts, no_msix, reset_hangs, refused)
