"""Rules about devices, from what dom0's kernel, Xen and xenstore have on record of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.doctor.finding import Finding, Severity, quoted
from cede.model.domain import GuestKind
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.facts import Facts
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice, Inventory

_AT = r"(?P<at>[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_INITIALISING = 1  # xen/include/public/io/xenbus.h


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sign:
    """A line of a log that tells of a device: the finding that it makes."""

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
        why="mostly harmless; but if the device doesn't work in the guest, it may be for this",
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
        why="what can't be powered up can't be reset or given away",
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
        why="a graphics card without its ROM stays dark in the guest; others mostly don't need it",
        remedy="in an HVM guest give it a saved copy: <rom file='/path/to/card.rom'/> in its hostdev",
        source="Linux, drivers/pci/rom.c (pci_get_rom_size)",
    ),
    _Sign(
        name="bus-error",
        line=re.compile(
            rf"{_AT}: (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \((?:Non-)?Fatal\)"
        ),
        what="{at} had a bus error that wasn't corrected (AER)",
        why="pciback takes a device with such an error from its guest",
        remedy="reseat the card, try another slot or firmware; `lspci -vvs {at}` tells the error's bits",
        source="Linux, drivers/pci/pcie/aer.c (aer_print_error)",
    ),
    _Sign(
        name="bus-error-corrected",
        line=re.compile(rf"{_AT}: (?:AER: )?PCIe Bus Error: severity=Correct(?:ed|able)"),
        what="{at} had a bus error that was corrected (AER)",
        why="a few are harmless, many of them are a bad slot, cable or card",
        remedy="watch the kernel log; reseat the card if they keep coming",
        source="Linux, drivers/pci/pcie/aer.c (aer_print_error)",
        severity=Severity.NOTE,
    ),
)
_XEN = (
    _Sign(
        name="rmrr",
        line=re.compile(rf"\[VT-D\]\s?It's disallowed to assign {_AT} with shared RMRR"),
        what="the firmware keeps memory for {at} (RMRR) that it shares with another device",
        why="Xen gives away no device whose reserved memory another one uses as well",
        remedy="switch off legacy USB or the shared device in the firmware; libvirt can't say it, but xl can: "
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
_BOUND = re.compile(rf"pciback {_AT}: (?:xen[-_]pciback: )?seizing device")
_NO_IRQ = re.compile(rf"{_AT}: xen map irq failed (?P<code>-\d+) for \d+ domain")


def logged(facts: Facts) -> Iterator[Finding]:
    """What dom0's kernel and Xen logged of each device that is there still."""
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
        what=sign.what.format(at=at),
        why=f"{sign.why}; it was logged: {quoted(line)}",
        remedy=sign.remedy.format(at=at),
        source=sign.source,
    )


def _known(at: str, facts: Facts) -> Address | None:
    address = Address.parse(at)
    return None if facts.inventory.device(address) is None else address


def quarantined(facts: Facts) -> Iterator[Finding]:
    """dom0's driver has a device that Xen still keeps in quarantine: it is dead, and nothing says so but a line.

    Sources: Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs); Xen, docs/misc/xen-command-line.pandoc.
    """
    dead: dict[str, str] = {}
    for line in facts.kernel_log:
        if (lost := _NO_IRQ.search(line)) is not None:
            dead[lost["at"]] = line
        elif (bound := _BOUND.search(line)) is not None:
            dead.pop(bound["at"], None)  # what was said before is over
    for at, line in dead.items():
        address = _known(at, facts)
        device = None if address is None else facts.inventory.device(address)
        if device is None or device.on_pciback or device.driver is None:
            continue
        yield Finding(
            name="quarantined",
            severity=Severity.WARNING,
            subject=str(device.address),
            what=f"{device.address} is bound to dom0's {device.driver}, but Xen mapped no interrupt of it for dom0",
            why="a device that comes back from a guest without its quarantine being lifted is dead in dom0; "
            f"it was logged: {quoted(line)}",
            remedy=f"virsh nodedev-detach {device.address.node_device}, then `cede release {device.address}`",
            source="Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs)",
        )


def asleep(facts: Facts) -> Iterator[Finding]:
    """A device without power. Source: Linux, Documentation/ABI/testing/sysfs-bus-pci (power_state)."""
    for address, state in facts.power.items():
        if state == "D3cold":
            yield Finding(
                name="asleep",
                severity=Severity.WARNING,
                subject=str(address),
                what=f"{address} is in D3cold: it has no power",
                why="its configuration space reads as all ones until it wakes, and pciback can't reset it so",
                remedy=f"echo on > /sys/bus/pci/devices/{address}/power/control",
                source="Linux, Documentation/ABI/testing/sysfs-bus-pci (power_state)",
            )


def stale_note(facts: Facts) -> Iterator[Finding]:
    """libxl's note of a device in a domain that is gone. Source: Xen, tools/libs/light/libxl_pci.c."""
    for note in facts.libxl_notes:
        path = f"/libxl/pci/{str(note.address).replace(':', '-').replace('.', '-')}/domid"
        yield Finding(
            name="stale-libxl-note",
            severity=Severity.WARNING,
            subject=str(note.address),
            what=f"libxl still notes {note.address} as given to domain {note.domid}, which is gone",
            why="the next attach fails on that note, once: a toolstack was cut off there",
            remedy=f"xenstore-rm {path}",
            source="Xen, tools/libs/light/libxl_pci.c (pci_info_xs_write)",
        )


def no_frontend(facts: Facts) -> Iterator[Finding]:
    """A PV guest that was given a device and doesn't take it: it has no pcifront.

    Sources: Xen, xen/include/public/io/xenbus.h; Linux, drivers/pci/Kconfig (XEN_PCIDEV_FRONTEND).
    """
    for given in facts.inventory.backend:
        domain = waits_for_frontend(given, facts.inventory)
        if domain is not None:
            yield Finding(
                name="no-pcifront",
                severity=Severity.WARNING,
                subject=f"{given.address} in {domain.name}",
                what=f"{domain.name} doesn't take {given.address}: its frontend stays in state 1",
                why="its kernel has no pcifront, or didn't load it",
                remedy="in the guest: modprobe xen-pcifront; its kernel needs CONFIG_XEN_PCIDEV_FRONTEND",
                source="Linux, drivers/pci/Kconfig (XEN_PCIDEV_FRONTEND)",
            )


def waits_for_frontend(given: BackendDevice, inventory: Inventory) -> Domain | None:
    """The running PV guest that has not begun to take what it was given, or None."""
    domain = inventory.domain_by_id(given.domid)
    if domain is None or domain.paused or domain.kind is not GuestKind.PV:
        return None
    return domain if given.frontend_state in {None, _INITIALISING} else None


RULES = (logged, quarantined, asleep, stale_note, no_frontend)
