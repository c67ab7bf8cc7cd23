"""Rules about devices, from what sysfs, their configuration space and xenstore tell of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.doctor.finding import MSIX_MASKED, MSIX_UNMASK, Finding, Severity
from cede.model.domain import GuestKind
from cede.planner.quarantine import refuse_quarantined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice, Inventory

_INITIALISING = 1  # xen/include/public/io/xenbus.h


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


def masked(facts: Facts) -> Iterator[Finding]:
    """Find a device that waits for a guest with all its MSI-X interrupts masked, as no reset leaves it.

    Source: Xen, xen/arch/x86/msi.c (pci_reset_msix_state: EBUSY).
    """
    for address in sorted(facts.msix_masked):
        yield Finding(
            name=MSIX_MASKED,
            severity=Severity.WARNING,
            subject=str(address),
            address=address,
            what=f"the MSI-X mask of {address} is on (lspci: `MSI-X: ... Masked+`)",
            why="Xen takes that as a device that was not reset, and refuses to assign it: Device or resource busy",
            remedy=MSIX_UNMASK.format(at=address),
            source="Xen, xen/arch/x86/msi.c (pci_reset_msix_state)",
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


def quarantined(facts: Facts) -> Iterator[Finding]:
    """Find a broken card, which goes to no guest. Source: PCI Express Base Specification 5.0, 2.3.2 and 6.2."""
    for device in facts.inventory.devices:
        refused = refuse_quarantined(device, str(device.address), facts.inventory)
        if refused is not None:
            yield Finding(
                name="device-quarantined",
                severity=Severity.FATAL,
                subject=str(device.address),
                address=device.address,
                what=refused.reason,
                why="the next guest would get a card that doesn't work, or stumble over it",
                remedy=refused.remedy,
                source="PCI Express Base Specification 5.0, 2.3.2 (all ones) and 6.2 (errors)",
            )


RULES = (asleep, masked, stale_note, no_frontend, quarantined)
