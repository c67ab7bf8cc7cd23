"""What was so before a deed, for the journal: looked at, not assumed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cede.adapters.linux.kernel_modules import names_pciback
from cede.domain_xml.edits import EDITS, edited
from cede.errors import PermanentError, UnsafeError, WorldMovedError
from cede.model.pci import PCIBACK, Origin
from cede.model.plan import DontLoadAtBoot, LoadAtBoot
from cede.util.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cede.adapters.composition import Doors
    from cede.model.pci import Address
    from cede.model.plan import Step


def look(doors: Doors, step: Step) -> dict[str, object]:
    """The state that `step` is about to change, as JSON-like values.

    For a device its driver, override, slot, and whether Xen has it with a guest; for a domain its persistent XML,
    without secrets; for what is loaded at boot cede's file. What can't be seen is left out. Raises TransientError,
    UnreachableError or HungError if libvirt can't be asked.
    """
    found: dict[str, object] = {}
    if isinstance(step, LoadAtBoot | DontLoadAtBoot):
        found["loaded_at_boot"] = doors.modules.own_file()
    address = getattr(step, "address", None)
    if address is not None:
        found |= {
            "driver": doors.sysfs.driver(address),
            "driver_override": doors.sysfs.driver_override(address),
            "in_pciback_slots": address in doors.sysfs.pciback_slots(),
        }
        if found["driver"] == PCIBACK:
            found["in_guest"] = doors.hypervisor.in_guest(address)
    if isinstance(step, EDITS):
        # the deed itself will say what is wrong with the domain; one that can't be asked just now is asked again
        with suppress(PermanentError, UnsafeError, WorldMovedError):
            found["xml"] = within(
                f"looking at {step.domain}", lambda: doors.libvirt.persistent_xml(step.domain)
            )
    return found


def is_so(step: Step, was: Mapping[str, object]) -> bool:
    """Whether the edit that `step` is has nothing to change in the XML or the file that was so before."""
    if isinstance(step, LoadAtBoot):
        return names_pciback(str(was.get("loaded_at_boot") or ""))
    kept = was.get("xml")
    return isinstance(step, EDITS) and isinstance(kept, str) and edited(step, kept) == kept


def origin(doors: Doors, address: Address) -> Origin | None:
    """What dom0 has in the device; None for one on pciback, of which that can no longer be seen, or one that went.

    A seizing or a giving back that was cut off leaves less than dom0 had: then what is remembered stays.
    """
    driver, identity = doors.sysfs.driver(address), doors.sysfs.identity(address)
    if driver == PCIBACK or identity is None:
        return None
    serial, was = doors.sysfs.serial(address), doors.journal.origin(address)
    same = was is not None and (was.identity, was.serial) == (identity, serial)
    if was is not None and same and was.driver is not None and driver in {None, was.driver}:
        return was
    found = Origin(
        identity=identity,
        serial=serial,
        driver=driver,
        links=doors.links.read(doors.sysfs.interfaces(address)),
        disks=doors.sysfs.disks(address),
    )
    return found if doors.sysfs.identity(address) == identity else None
