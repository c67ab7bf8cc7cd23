"""Rules about devices, from what dom0's kernel, Xen and xenstore record of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.doctor.finding import Finding, Severity, quoted
from cede.model.domain import GuestKind
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice, Inventory

_AT = r"(?P<at>[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_INITIALISING = 1  # xen/include/public/io/xenbus.h


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
_BOUND = re.compile(rf"pciback {_AT}: (?:xen[-_]pciback: )?seizing device")
_NO_IRQ = re.compile(rf"{_AT}: xen map irq failed (?P<code>-\d+) for \d+ domain")


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


def _known(at: str, facts: Facts) -> Address | None:
    address = Address.parse(at)
    return None if facts.inventory.device(address) is None else address


def quarantined(facts: Facts) -> Iterator[Finding]:
    """Find a device in Xen's quarantine that is bound to dom0's driver: dead, and only a log line says so.

    Sources: Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs); Xen, docs/misc/xen-command-line.pandoc.
    """
    dead: dict[str, str] = {}
    for line in facts.kernel_log:
        if (lost := _NO_IRQ.search(line)) is not None:
            dead[lost["at"]] = line
        elif (bound := _BOUND.search(line)) is not None:
            dead.pop(bound["at"], None)  # older lines no longer count
    for at, line in dead.items():
        address = _known(at, facts)
        device = None if address is None else facts.inventory.device(address)
        if device is None or device.on_pciback or device.driver is None:
            continue
        yield Finding(
            name="quarantined",
            severity=Severity.WARNING,
            subject=str(device.address),
            address=device.address,
            what=f"{device.address} is bound to dom0's {device.driver}, but Xen mapped none of its interrupts for dom0",
            why="a device that returns from a guest while Xen quarantines the device is dead in dom0; "
            f"the log says: {quoted(line)}",
            remedy=f"virsh nodedev-detach {device.address.node_device}, then `cede release {device.address}`",
            source="Linux, arch/x86/pci/xen.c (xen_initdom_setup_msi_irqs)",
        )


def asleep(facts: Facts) -> Iterator[Finding]:
    """Find a device without power. Source: Linux, Documentation/ABI/testing/sysfs-bus-pci (power_state)."""
    for address, state in facts.power.items():
        if state == "D3cold":
            yield Finding(
                name="asleep",
                severity=Severity.WARNING,
                subject=str(address),
                address=address,
                what=f"{address} is in D3cold, without power",
                why="a sleeping device's configuration space reads as all ones, and pciback can't reset the device",
                remedy=f"echo on > /sys/bus/pci/devices/{address}/power/control",
                source="Linux, Documentation/ABI/testing/sysfs-bus-pci (power_state)",
            )


def stale_note(facts: Facts) -> Iterator[Finding]:
    """Find libxl's record of a device in a domain that has ended. Source: Xen, tools/libs/light/libxl_pci.c."""
    for note in facts.libxl_notes:
        path = f"/libxl/pci/{str(note.address).replace(':', '-').replace('.', '-')}/domid"
        yield Finding(
            name="stale-libxl-note",
            severity=Severity.WARNING,
            subject=str(note.address),
            address=note.address,
            what=f"libxl still records {note.address} as given to domain {note.domid}, which has ended",
            why="a toolstack was interrupted; the next attach fails once on that record",
            remedy=f"xenstore-rm {path}",
            source="Xen, tools/libs/light/libxl_pci.c (pci_info_xs_write)",
        )


def no_frontend(facts: Facts) -> Iterator[Finding]:
    """Find a PV guest that was given a device and does not take the device, because no pcifront runs there.

    Sources: Xen, xen/include/public/io/xenbus.h; Linux, drivers/pci/Kconfig (XEN_PCIDEV_FRONTEND).
    """
    for given in facts.inventory.backend:
        domain = waits_for_frontend(given, facts.inventory)
        if domain is not None:
            yield Finding(
                name="no-pcifront",
                severity=Severity.WARNING,
                subject=f"{given.address} in {domain.name}",
                address=given.address,
                what=f"{domain.name} does not take {given.address}: its frontend stays in state 1",
                why="the guest's kernel has no pcifront, or has not loaded pcifront",
                remedy="in the guest: modprobe xen-pcifront; its kernel needs CONFIG_XEN_PCIDEV_FRONTEND",
                source="Linux, drivers/pci/Kconfig (XEN_PCIDEV_FRONTEND)",
            )


def waits_for_frontend(given: BackendDevice, inventory: Inventory) -> Domain | None:
    """Return the running PV guest that has not begun to take `given`, or None."""
    domain = inventory.domain_by_id(given.domid)
    if domain is None or domain.paused or domain.kind is not GuestKind.PV:
        return None
    return domain if given.frontend_state in {None, _INITIALISING} else None


RULES = (logged, quarantined, asleep, stale_note, no_frontend)
