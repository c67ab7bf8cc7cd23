"""The state before an action, for the journal: observed, not assumed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cede.domain_xml.edits import EDITS, edited
from cede.errors import PermanentError, UnsafeError, WorldMovedError
from cede.model.pci import PCIBACK, OriginalState
from cede.model.pciback_options import names_pciback
from cede.model.plan import DontLoadAtBoot, LoadAtBoot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cede.adapters.ports import Adapters
    from cede.model.pci import Address
    from cede.model.plan import Action


def read_prestate(adapters: Adapters, action: Action) -> dict[str, object]:
    """Return the state that `action` is about to change, as JSON-like values.

    For a device its driver, override, slot, and whether Xen assigns it to a guest; for a domain its persistent XML,
    without secrets; for modules loaded at boot cede's file. Unknown values are left out. Raises TransientError,
    UnreachableError or HungError if libvirt does not answer.
    """
    found: dict[str, object] = {}
    if isinstance(action, LoadAtBoot | DontLoadAtBoot):
        found["loaded_at_boot"] = adapters.modules.own_file()
    address = getattr(action, "address", None)
    if address is not None:
        found |= {
            "driver": adapters.sysfs.driver(address),
            "driver_override": adapters.sysfs.driver_override(address),
            "in_pciback_slots": address in adapters.sysfs.pciback_slots(),
        }
        if found["driver"] == PCIBACK:
            found["in_guest"] = adapters.hypervisor.in_guest(address)
    if isinstance(action, EDITS):
        # the action itself reports what is wrong with the domain; a busy libvirt is retried
        with suppress(PermanentError, UnsafeError, WorldMovedError):
            found["xml"] = adapters.timeouts.call(
                f"reading {action.domain} from libvirt",
                lambda: adapters.libvirt.persistent_xml(action.domain),
            )
    return found


def changes_nothing(action: Action, prestate: Mapping[str, object]) -> bool:
    """Whether `action` would change nothing in the XML or the file of `prestate`."""
    if isinstance(action, LoadAtBoot):
        return names_pciback(str(prestate.get("loaded_at_boot") or ""))
    kept = prestate.get("xml")
    return isinstance(action, EDITS) and isinstance(kept, str) and edited(action, kept) == kept


def original_state(adapters: Adapters, address: Address) -> OriginalState | None:
    """Return what dom0 has in the device; None if the device is on pciback, which hides that, or has vanished.

    An interrupted bind or return leaves less than dom0 had: then the remembered state is returned.
    """
    driver, identity = adapters.sysfs.driver(address), adapters.sysfs.identity(address)
    if driver == PCIBACK or identity is None:
        return None
    serial, prestate = adapters.sysfs.serial(address), adapters.journal.original_state(address)
    same = prestate is not None and (prestate.identity, prestate.serial) == (identity, serial)
    if (
        prestate is not None
        and same
        and prestate.driver is not None
        and driver in {None, prestate.driver}
    ):
        return prestate
    original = OriginalState(
        identity=identity,
        serial=serial,
        driver=driver,
        links=adapters.links.read(adapters.sysfs.interfaces(address)),
        disks=adapters.sysfs.disks(address),
    )
    return original if adapters.sysfs.identity(address) == identity else None
