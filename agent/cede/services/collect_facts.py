"""Examine: through every adapter, what the doctor's rules judge. An adapter that doesn't open is a fact too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cede.doctor.device_rules import waits_for_frontend
from cede.doctor.facts import Facts
from cede.errors import CedeError
from cede.model.inventory import Inventory
from cede.services.observe import observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters

_T = TypeVar("_T")
_TIMEOUT_SECONDS = 3.0  # a guest's frontend needs a moment


def collect_facts(adapters: Adapters, *, is_root: bool) -> Facts:
    """All that can be seen of the host, by whoever asks, root or not; none of cede's errors leaves it."""
    no_libvirt = _why_not(adapters, lambda: adapters.libvirt.domains())  # noqa: PLW0108 - a shut adapter raises when it is named
    no_node_devices = no_libvirt or _why_not(adapters, lambda: adapters.libvirt.node_devices())  # noqa: PLW0108 - as above
    no_xenstore = _why_not(adapters, adapters.xenstore.backend)
    complete = not (no_libvirt or no_node_devices or no_xenstore)
    inventory, not_observed = _inventory(adapters, complete=complete)
    if any(waits_for_frontend(given, inventory) for given in inventory.backend):
        adapters.clock.sleep(_TIMEOUT_SECONDS)
        inventory, not_observed = _inventory(adapters, complete=complete)
    return Facts(
        is_root=is_root,
        hypervisor=adapters.hypervisor.kind(),
        is_dom0=adapters.hypervisor.is_dom0(),
        has_xl=adapters.xl.installed(),
        kernel_command_line=adapters.modules.kernel_command_line(),
        xen_command_line=adapters.hypervisor.command_line() if is_root else "",
        virtualisation=adapters.hypervisor.virtualisation() if is_root else (),
        kernel_log=tuple(line.text for line in adapters.kernel_log.lines()),
        xen_log=tuple(adapters.hypervisor.log().splitlines()) if is_root else (),
        pciback_available=adapters.modules.available(),
        pciback_at_boot=adapters.modules.loaded_at_boot(),
        module_options=adapters.modules.options(),
        no_libvirt=no_libvirt,
        no_node_devices=no_node_devices,
        no_xenstore=no_xenstore,
        not_observed=not_observed,
        libxl_notes=() if no_xenstore else adapters.xenstore.stale_notes(),
        power={
            device.address: adapters.sysfs.power(device.address) for device in inventory.devices
        },
        inventory=inventory,
    )


def _inventory(adapters: Adapters, *, complete: bool) -> tuple[Inventory, str]:
    """The whole host; of one where not everything answers its devices, and what it does with them itself.

    And why it isn't the whole, where all that it would take answers.
    """
    why = ""
    if complete:
        found = _answer(adapters, "looking at the host", lambda: observe(adapters))
        if isinstance(found, Inventory):
            return found, why
        why = found.message
    uses = _answer(
        adapters, "looking at the host's own", lambda: adapters.uses.find(disks={}, interfaces={})
    )
    known = {} if isinstance(uses, CedeError) else uses
    left = Inventory(
        devices=tuple(
            replace(device, uses=tuple(known.get(device.address, ())))
            for device in adapters.sysfs.devices()
        ),
        pciback_loaded=adapters.sysfs.pciback_loaded,
    )
    return left, why


def _answer(adapters: Adapters, what: str, ask: Callable[[], _T]) -> _T | CedeError:
    try:
        return adapters.timeouts.call(what, ask)
    except CedeError as error:
        return error


def _why_not(adapters: Adapters, ask: Callable[[], object]) -> str:
    """What came instead of an answer; empty if one did."""
    found = _answer(adapters, "asking libvirt or xenstore", ask)
    return found.message if isinstance(found, CedeError) else ""
