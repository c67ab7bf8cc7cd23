"""What a host's daemons, programs and device nodes answered cede, which no file of the host tells afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cede.model.domain import Domain
from cede.model.inventory import BackendDevice, LibxlNote
from cede.model.journal_state import Held, LastApplied, Origin, Pause, Unfinished
from cede.model.network import Network
from cede.model.pci import Address, HostUse

# where a recorded host has its answers and logs, and with which line a recorded log begins
ANSWERS = "cede/answers.json"
KERNEL_LOG = "var/log/dmesg"
XEN_LOG = "var/log/xen/xl-dmesg.log"
LOG_HEAD = "# recorded by cede report"
Asked = Literal["domains", "node-devices", "xenstore", "network", "uses", "journal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """That `asked` gave an error instead of an answer: its name, message and remedy."""

    asked: Asked
    name: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUses:
    """What dom0 uses the device at `address` for."""

    address: Address
    uses: tuple[HostUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class XenOwner:
    """Whether a guest has the device by Xen's word; asked of what is on pciback."""

    address: Address
    in_guest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswers:
    """The answers of one host at one moment, each as its port gives it (adapters/ports.py); None is not told.

    `silences` are the errors that came instead of answers. `hypervisor` is /sys/hypervisor/type, empty without one;
    `virtualisation` are Xen's virt_caps; `owners` are what Xen says of devices on pciback. `has_xl`,
    `pciback_available`, `pciback_loaded`, `pciback_at_boot`, `pciback_built_in` and `initramfs_makers` are what is
    installed and loaded. `memory` tells whether `unfinished`, `held`, `pauses`, `last_applied` and `origins` are those
    of cede's journal, `boot` is the boot that they were read in.
    """

    version: Literal[1] = 1
    silences: tuple[NoAnswer, ...] = ()
    domains: tuple[Domain, ...] | None = None
    node_devices: tuple[str, ...] | None = None
    backend: tuple[BackendDevice, ...] | None = None
    libxl_notes: tuple[LibxlNote, ...] = ()
    network: Network | None = None
    uses: tuple[DeviceUses, ...] | None = None
    owners: tuple[XenOwner, ...] = ()
    hypervisor: str | None = None
    is_dom0: bool | None = None
    virtualisation: tuple[str, ...] = ()
    xen_command_line: str = ""
    has_xl: bool | None = None
    pciback_available: bool | None = None
    pciback_loaded: bool | None = None
    pciback_at_boot: bool | None = None
    pciback_built_in: bool | None = None
    initramfs_makers: tuple[str, ...] = ()
    memory: bool = False
    unfinished: tuple[Unfinished, ...] = ()
    held: tuple[Held, ...] = ()
    pauses: tuple[Pause, ...] = ()
    last_applied: tuple[LastApplied, ...] = ()
    origins: tuple[Origin, ...] = ()
    boot: str = ""

    def silence(self, asked: Asked) -> NoAnswer | None:
        """Return the error that came instead of that answer."""
        return next((one for one in self.silences if one.asked == asked), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFile:
    """A file by its path below the root, or a link there with its target; `serial` is the one in this `config`."""

    path: str
    content: bytes = b""
    link: str = ""
    serial: str | None = None
