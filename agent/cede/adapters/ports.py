"""The ports: what services, executor and verifier ask of each outside world, whoever answers.

An adapter below `cede.adapters` has one of these shapes, and so has each part of the simulated host in the tests.
What goes wrong is raised as one of cede's errors; the adapter's own docstrings tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cede.model.domain import Domain
from cede.model.inventory import BackendDevice, KernelLine, LibxlNote
from cede.model.pci import Address, Device, HostUse, Identity, Link, SwitchedOn
from cede.state.journal import Journal
from cede.util.clock import Clock
from cede.util.timeouts import Timeouts


class Console(Protocol):
    """A guest's text console, for as long as it is open."""

    def send(self, data: bytes) -> None:
        """Type `data` into the guest."""

    def receive(self, seconds: float) -> bytes | None:
        """What the guest printed next; None if that takes longer than `seconds`, b"" if the console has ended."""


class Libvirt(Protocol):
    """libvirt's Xen driver."""

    def domains(self) -> tuple[Domain, ...]:
        """Every domain but dom0, running or not, by name."""

    def domain(self, name: str) -> Domain | None:
        """The domain of that name as it is now; None if there is none."""

    def running(self, name: str) -> Domain | None:
        """The domain of that name with what it has live alone; None if it doesn't run."""

    def node_devices(self) -> frozenset[str]:
        """The names of the PCI node devices (`pci_0000_01_00_0`)."""

    def bind_to_pciback(self, address: Address) -> None:
        """Unbind the device from its dom0 driver and bind it to pciback."""

    def reattach(self, address: Address) -> None:
        """Let the kernel look for a dom0 driver of the device."""

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        """Hot-plug the device into the running domain, leaving its persistent XML alone."""

    def unplug(self, domain: str, address: Address) -> bool:
        """Take the device out of the running domain; False if it wasn't there."""

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        """Edit the domain's persistent XML; False if the edit changes nothing."""

    def persistent_xml(self, domain: str) -> str:
        """The domain's persistent XML, without its secrets."""

    def last_libxl_line(self, domain: str) -> str:
        """The last thing that libxl logged of the domain; empty if nothing."""

    def shut_down(self, domain: str) -> None:
        """Ask the running domain to shut itself down; returns before it has."""

    def start(self, domain: str) -> None:
        """Start the domain from its persistent XML."""

    def console(self, domain: str) -> AbstractContextManager[Console]:
        """The domain's first console, closed afterwards."""

    def close(self) -> None:
        """End the connection."""


class Sysfs(Protocol):
    """dom0's sysfs: PCI functions, who drives them, pciback's own files."""

    @property
    def pciback_loaded(self) -> bool:
        """Whether the driver directory of xen-pciback exists."""

    def pciback_slots(self) -> frozenset[Address]:
        """The addresses that pciback binds at the next probe."""

    def remove_pciback_slot(self, address: Address) -> None:
        """Make pciback forget the address."""

    def permissive(self) -> frozenset[Address]:
        """The addresses whose guests pciback lets write where they like."""

    def devices(self) -> tuple[Device, ...]:
        """Every PCI function, in address order; what dom0 needs of each isn't told."""

    def device(self, address: Address) -> Device | None:
        """The PCI function at `address`, None if there is none."""

    def identity(self, address: Address) -> Identity | None:
        """What the function at `address` says it is; None if there is none."""

    def driver(self, address: Address) -> str | None:
        """The name of the driver bound right now, or None."""

    def driver_override(self, address: Address) -> str | None:
        """The only driver that may bind to the device, None if any may."""

    def serial(self, address: Address) -> str | None:
        """The PCIe device serial number, None if it has none."""

    def switched_on(self, address: Address) -> SwitchedOn | None:
        """What is switched on in the card itself; None if that can't be read."""

    def power(self, address: Address) -> str:
        """The device's power state, empty if that can't be read."""

    def modalias(self, address: Address) -> str:
        """What modprobe finds the device's driver by."""

    def interfaces(self, address: Address) -> tuple[str, ...]:
        """The network interfaces that hang on the device."""

    def disks(self, address: Address) -> tuple[str, ...]:
        """The whole disks behind the device, each by its WWID or else its size in sectors."""


class Xenstore(Protocol):
    """xenstore: which guest has which device, and the nodes below a guest's own `data`."""

    def backend(self) -> tuple[BackendDevice, ...]:
        """Every device that the PCI backend serves, in domain and device order."""

    def stale_notes(self) -> tuple[LibxlNote, ...]:
        """What libxl still notes of devices of domains that are gone."""

    def read_data(self, domid: int, name: str) -> bytes | None:
        """What a guest has in its own node `data/<name>`; None if there is none."""

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """Write a running guest's node `data/<name>`."""

    def remove_data(self, domid: int, name: str) -> None:
        """Remove a guest's node `data/<name>` and all below it, if it is there."""

    def close(self) -> None:
        """End the connection."""


class HostUses(Protocol):
    """What dom0 itself lives on, and what guests live on through dom0."""

    def find(
        self, disks: Mapping[str, Sequence[str]], interfaces: Mapping[str, Sequence[str]]
    ) -> dict[Address, list[HostUse]]:
        """For each device in use, every use; `disks` and `interfaces` are those that each domain lives on."""


class Links(Protocol):
    """dom0's network interfaces."""

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        """These interfaces as they are now; one that isn't there is left out."""

    def restore(self, link: Link, now: Link) -> None:
        """Make the interface that is as `now` says what `link` says."""


class Kernel(Protocol):
    """dom0's kernel, as far as programs load what it lacks."""

    def load_pciback(self) -> None:
        """Load the module xen-pciback."""

    def load_driver(self, modalias: str) -> None:
        """Load the driver for what a device's `modalias` says."""

    def await_udev(self, seconds: float) -> bool:
        """Wait until udev has loaded drivers and named interfaces; False if it hasn't by then."""


class Modules(Protocol):
    """How dom0's kernel modules are configured."""

    def available(self) -> bool | None:
        """Whether the running kernel has xen-pciback; None if its lists can't be read."""

    def loaded(self) -> str | None:
        """How xen-pciback is there now: `module` or `built in`; None if it isn't."""

    def built_in(self) -> bool:
        """Whether it is part of the kernel itself."""

    def options(self) -> tuple[tuple[str, str], ...]:
        """What modprobe's configuration says of xen-pciback: (path, line)."""

    def kernel_command_line(self) -> str:
        """dom0's kernel's command line."""

    def loaders(self) -> tuple[str, ...]:
        """What has it loaded at boot: files that name it, and words of the kernel's command line."""

    def loaded_at_boot(self) -> bool:
        """Whether something has it loaded at boot, or it needn't be."""

    def initramfs_makers(self) -> tuple[str, ...]:
        """What this host makes its initramfs with."""

    def own_file(self) -> str | None:
        """The text of cede's own list of modules, None if there is none."""

    def load_at_boot(self) -> None:
        """Name xen-pciback in cede's own list."""

    def dont_load_at_boot(self) -> None:
        """Take it out of cede's own list."""


class KernelLog(Protocol):
    """dom0's kernel log."""

    def lines(self, about: str = "") -> tuple[KernelLine, ...]:
        """Every line that the ring holds with `about` in it, the oldest first; empty if it can't be read."""


class Xl(Protocol):
    """Xen's own toolstack, for what libvirt has no call for."""

    def installed(self) -> bool:
        """Whether there is an xl to run."""

    def detach(self, domid: int, address: Address) -> None:
        """Take out of a running domain what libvirt doesn't list there."""

    def assignable_remove(self, address: Address) -> bool:
        """Take the device out of Xen's quarantine and drop its slot; False if it never was in a guest."""


class Hypervisor(Protocol):
    """The hypervisor itself. Where it can't be asked, the answer is None or empty."""

    def kind(self) -> str:
        """What is below this system: `xen`, or empty on bare metal."""

    def is_dom0(self) -> bool | None:
        """Whether Xen calls this its initial domain."""

    def virtualisation(self) -> tuple[str, ...]:
        """What the hardware under it can do."""

    def command_line(self) -> str:
        """What Xen was booted with."""

    def log(self) -> str:
        """Xen's own log, as much as its ring holds."""

    def faults(self, address: Address) -> int:
        """How many DMA faults of the device stand in Xen's log."""

    def in_guest(self, address: Address) -> bool | None:
        """Whether a guest owns the device."""

    def quarantined(self, address: Address) -> bool | None:
        """Whether the device is in Xen's quarantine."""

    def deassign(self, domid: int, address: Address) -> None:
        """Take the device from the guest where no toolstack knows that it has it."""


class Source(Protocol):
    """An adapter that tells of events. Every method but `close` raises UnreachableError when it is lost."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    def open(self) -> None:
        """Begin to listen."""

    def fileno(self) -> int:
        """What becomes readable when there is something to read."""

    def read(self) -> Collection[str]:
        """What has come, a few words each; empty if it was nothing of interest. Doesn't wait."""

    def close(self) -> None:
        """Stop listening; it can be opened again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """One adapter each; what uses them is handed this and opens nothing itself."""

    libvirt: Libvirt
    sysfs: Sysfs
    xenstore: Xenstore
    uses: HostUses
    links: Links
    kernel: Kernel
    modules: Modules
    kernel_log: KernelLog
    xl: Xl
    hypervisor: Hypervisor
    journal: Journal
    clock: Clock
    timeouts: Timeouts
