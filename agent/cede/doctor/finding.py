"""What the doctor's rules judge, and what they find.

A finding says what is wrong, why that matters, what fixes it, and the source that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.errors import CedeError
from cede.model.actions import Action
from cede.model.inventory import Inventory, LibxlNote
from cede.model.pci import Address, Isolation
from cede.model.plan import RuleName, Sentence
from cede.model.policy import Policy
from cede.planner.hide_mistakes import BootConfiguration
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One host at one moment; None and empty mean unknown.

    `hypervisor` is /sys/hypervisor/type; `is_dom0` whether this is the domain that Xen calls initial.
    `virtualisation` are Xen's virt_caps (`pv_directio` ...). `boot` is what the host is told of xen-pciback at boot.
    `lockdown` is the kernel's (`none`, `integrity`, `confidentiality`).
    `unreadable_logs` are the logs that root can't read either. `no_libvirt`, `no_node_devices` and `no_xenstore` are
    why these do not answer, None if they do; `not_observed` is why the host could not be observed though they do, and
    then `inventory` has what is left. `libxl_notes` are those of domains that have ended, `power` is each device's
    power state (`D0`, `D3cold` ...); `pair` are the device and the guest that are asked about, None if the whole host
    is; `isolation` is what functions do that stand between devices of different guests; `msix_masked` are the devices
    nobody has whose MSI-X mask is on; `policy` is the host's, `no_policy` is why it can't be read.
    """

    is_root: bool = True
    hypervisor: str | None = "xen"
    is_dom0: bool | None = True
    has_xl: bool | None = True
    xen_command_line: str = ""
    virtualisation: tuple[str, ...] = ()
    kernel_log: tuple[str, ...] = ()
    xen_log: tuple[str, ...] = ()
    lockdown: str | None = None
    unreadable_logs: tuple[str, ...] = ()
    pciback_available: bool | None = True
    pciback_at_boot: bool | None = True
    boot: BootConfiguration = field(default_factory=BootConfiguration)
    no_libvirt: CedeError | None = None
    no_node_devices: CedeError | None = None
    no_xenstore: CedeError | None = None
    not_observed: CedeError | None = None
    libxl_notes: tuple[LibxlNote, ...] = ()
    power: Mapping[Address, str] = field(default_factory=dict)
    pair: tuple[Address, str] | None = None
    isolation: Mapping[Address, Isolation] = field(default_factory=dict)
    msix_masked: frozenset[Address] = frozenset()
    policy: Policy = field(default_factory=Policy)
    no_policy: CedeError | None = None
    inventory: Inventory = field(default_factory=Inventory)

    @property
    def complete(self) -> bool:
        """Whether `inventory` is the whole host."""
        return not (
            self.no_libvirt or self.no_node_devices or self.no_xenstore or self.not_observed
        )


HOST = "this host"
MSIX_MASKED = "msix-masked"
MSIX_UNMASK = (
    "a reset clears the mask: echo 1 > /sys/bus/pci/devices/{at}/reset, then `lspci -vvs {at}` has `Masked-`; else "
    "power the machine off and on"
)
_MAX_LENGTH = 200


class Severity(StrEnum):
    """How much a finding matters: fatal makes passthrough fail, a warning may, a note only explains."""

    FATAL = "fatal"
    WARNING = "warning"
    NOTE = "note"


_ORDER = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found.

    `name` is the rule's own, the same in every version; `subject` is the host, a device, a domain or a file; `what`
    says what is wrong; `why` is why that matters, or how it shows; `remedy` is a command or a line of XML; `source` is
    the file or document that says so; `address` is the device that it is about, None if none; `actions` fix what is
    wrong, where cede can.
    """

    name: RuleName
    severity: Severity
    subject: Sentence
    what: Sentence
    why: Sentence
    remedy: Sentence
    source: Sentence
    address: Address | None = None
    actions: tuple[Action, ...] = ()


def quoted(said: str) -> str:
    """Return a line that comes from elsewhere, cleaned and at most 200 characters long."""
    return one_line(said.strip(), _MAX_LENGTH)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the first finding of each rule on each subject, the fatal ones first."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        found.setdefault((finding.name, finding.subject), finding)
    return tuple(sorted(found.values(), key=lambda one: _ORDER.index(one.severity)))
