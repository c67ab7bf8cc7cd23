"""Examine: through every door, what the doctor's rules judge. A door that doesn't open is a fact too."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cede.doctor.device_rules import waits_for_frontend
from cede.doctor.facts import Facts
from cede.errors import CedeError
from cede.model.inventory import Inventory
from cede.services.observe import observe
from cede.util.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.composition import Doors

_T = TypeVar("_T")
_PATIENCE_SECONDS = 3.0  # a guest's frontend needs a moment


def examine(doors: Doors, *, sleep: Callable[[float], None] = time.sleep) -> Facts:
    """All that can be seen of the host, by whoever asks; none of cede's errors leaves it."""
    no_libvirt = _why_not(lambda: doors.libvirt.domains())  # noqa: PLW0108 - a shut door raises when it is named
    no_node_devices = no_libvirt or _why_not(lambda: doors.libvirt.node_devices())  # noqa: PLW0108 - as above
    no_xenstore = _why_not(doors.xenstore.backend)
    complete = not (no_libvirt or no_node_devices or no_xenstore)
    inventory, not_observed = _inventory(doors, complete=complete)
    if any(waits_for_frontend(given, inventory) for given in inventory.backend):
        sleep(_PATIENCE_SECONDS)
        inventory, not_observed = _inventory(doors, complete=complete)
    is_root = os.geteuid() == 0
    return Facts(
        is_root=is_root,
        hypervisor=doors.hypervisor.kind(),
        is_dom0=doors.hypervisor.is_dom0(),
        has_xl=doors.xl.installed(),
        kernel_command_line=doors.modules.kernel_command_line(),
        xen_command_line=doors.hypervisor.command_line() if is_root else "",
        virtualisation=doors.hypervisor.virtualisation() if is_root else (),
        kernel_log=tuple(line.text for line in doors.kernel_log.lines()),
        xen_log=tuple(doors.hypervisor.log().splitlines()) if is_root else (),
        pciback_available=doors.modules.available(),
        pciback_at_boot=doors.modules.loaded_at_boot(),
        module_options=doors.modules.options(),
        no_libvirt=no_libvirt,
        no_node_devices=no_node_devices,
        no_xenstore=no_xenstore,
        not_observed=not_observed,
        libxl_notes=() if no_xenstore else doors.xenstore.stale_notes(),
        power={one.address: doors.sysfs.power(one.address) for one in inventory.devices},
        inventory=inventory,
    )


def _inventory(doors: Doors, *, complete: bool) -> tuple[Inventory, str]:
    """The whole host; of one where not everything answers its devices, and what it does with them itself.

    And why it isn't the whole, where all that it would take answers.
    """
    why = ""
    if complete:
        found = _answer("looking at the host", lambda: observe(doors))
        if isinstance(found, Inventory):
            return found, why
        why = found.message
    uses = _answer("looking at the host's own", lambda: doors.uses.find(disks={}, interfaces={}))
    known = {} if isinstance(uses, CedeError) else uses
    left = Inventory(
        devices=tuple(
            replace(device, uses=tuple(known.get(device.address, ())))
            for device in doors.sysfs.devices()
        ),
        pciback_loaded=doors.sysfs.pciback_loaded,
    )
    return left, why


def _answer(what: str, ask: Callable[[], _T]) -> _T | CedeError:
    try:
        return within(what, ask)
    except CedeError as error:
        return error


def _why_not(ask: Callable[[], object]) -> str:
    """What came instead of an answer; empty if one did."""
    found = _answer("asking libvirt or xenstore", ask)
    return found.message if isinstance(found, CedeError) else ""
