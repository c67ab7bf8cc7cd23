"""The facts that the rules judge: what was collected from a host, and the errors of what did not answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cede.model.inventory import Inventory, LibxlNote
from cede.model.pci import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One host at one moment; None and empty mean unknown.

    `hypervisor` is /sys/hypervisor/type; `is_dom0` whether this is the domain that Xen calls initial.
    `virtualisation` are Xen's virt_caps (`pv_directio` ...). `module_options` are (file, line) of modprobe's
    configuration. `no_libvirt`, `no_node_devices` and `no_xenstore` are why these do not answer, empty if they do;
    `not_observed` is why the host could not be observed though they do, and then `inventory` has what is left.
    `libxl_notes` are those of domains that have ended, `power` is each device's power state (`D0`, `D3cold` ...).
    """

    is_root: bool = True
    hypervisor: str = "xen"
    is_dom0: bool | None = True
    has_xl: bool = True
    kernel_command_line: str = ""
    xen_command_line: str = ""
    virtualisation: tuple[str, ...] = ()
    kernel_log: tuple[str, ...] = ()
    xen_log: tuple[str, ...] = ()
    pciback_available: bool | None = True
    pciback_at_boot: bool = True
    module_options: tuple[tuple[str, str], ...] = ()
    no_libvirt: str = ""
    no_node_devices: str = ""
    no_xenstore: str = ""
    not_observed: str = ""
    libxl_notes: tuple[LibxlNote, ...] = ()
    power: Mapping[Address, str] = field(default_factory=dict)
    inventory: Inventory = field(default_factory=Inventory)

    @property
    def complete(self) -> bool:
        """Whether `inventory` is the whole host."""
        return not (
            self.no_libvirt or self.no_node_devices or self.no_xenstore or self.not_observed
        )
