"""libvirt, xenstore, xl and Xen as a recorded host tells of them; nothing here changes anything or runs a program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from cede.adapters.libvirt.offline_libvirt import OfflineLibvirt
from cede.adapters.recorded.answers import XEN_LOGS, first_text, not_recorded, raise_silence
from cede.errors import PermanentError
from cede.model.log_lines import own_lines
from cede.util.kernel_files import listing, text

if TYPE_CHECKING:
    from cede.errors import CedeError
    from cede.model.domain import Domain, Silence
    from cede.model.host_answers import HostAnswers
    from cede.model.inventory import BackendDevice, LibxlNote
    from cede.model.pci import Address
    from cede.util.paths import Paths

_DOM0 = re.compile(r"[0-9a-f]+")
_INITIAL_DOMAIN = 1 << 11  # XENFEAT_dom0, xen/include/public/features.h


class _ReadOnly:
    """Refuses what is no question."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise PermanentError(f"a recorded host can't be asked for {name}", name="recorded-host")

    def close(self) -> None:
        """Do nothing: nothing was opened."""


class RecordedLibvirt(_ReadOnly):
    """The recorded domains, else those in libvirt's files, all as off; `strict` raises what isn't told."""

    def __init__(self, paths: Paths, answers: HostAnswers, *, strict: bool) -> None:
        self._folder = paths.root / "etc/libvirt/libxl"
        self._files = OfflineLibvirt(paths.sys, self._folder)
        self._answers, self._strict = answers, strict

    def domains(self) -> tuple[Domain, ...]:
        """Return the domains.

        Raises UnreachableError if libvirt didn't answer, PermanentError if `strict` and not told.
        """
        raise_silence(self._answers.silence("domains"))
        if self._answers.domains is not None:
            return self._answers.domains
        if self._strict and not listing(self._folder):
            raise not_recorded("what libvirt's domains are: it has no /etc/libvirt/libxl")
        return self._files.domains()

    def domain(self, name: str) -> Domain | None:
        """Return the domain of that name; None if there is none. Raises as `domains`."""
        return next((found for found in self.domains() if found.name == name), None)

    def storage_pools(self) -> dict[str, tuple[str, ...]]:
        """Return the pools that libvirt starts by itself; of no others it is told whether they were active."""
        return self._files.storage_pools()

    def node_devices(self) -> frozenset[str]:
        """Return what libvirt listed; every PCI function if not told. Raises as `domains`."""
        raise_silence(self._answers.silence("node-devices"))
        recorded = self._answers.node_devices
        return self._files.node_devices() if recorded is None else frozenset(recorded)

    def persistent_xml(self, domain: str) -> str:
        """Return the domain's definition. Raises PermanentError if not told."""
        said = "" if "/" in domain else text(self._folder / f"{domain}.xml")
        if not said:
            raise not_recorded(f"the XML of {domain}")
        return said


class RecordedXenstore(_ReadOnly):
    """xenstore's PCI backend; `strict` raises what isn't told."""

    def __init__(self, answers: HostAnswers, *, strict: bool) -> None:
        self._answers, self._strict = answers, strict

    def backend(self) -> tuple[BackendDevice, ...]:
        """Return what Xen gave to guests. Raises UnreachableError if xenstore didn't answer.

        Raises PermanentError if `strict` and not told. Where it is not told, no device on pciback is called free:
        Xen's word on its owner is missing too.
        """
        raise_silence(self._answers.silence("xenstore"))
        if self._answers.backend is None and self._strict:
            raise not_recorded("what xenstore has of guests' devices")
        return self._answers.backend or ()

    def silences(self) -> dict[int, Silence]:
        """Return nothing: what a guest was doing is not recorded."""
        return {}

    def guest_disks(self) -> dict[str, tuple[str, ...]]:
        """Return nothing: what guests use through dom0 is part of the recorded uses."""
        return {}

    def guest_interfaces(self) -> dict[str, tuple[str, ...]]:
        """Return nothing, as `guest_disks`."""
        return {}

    def guest_devices(self) -> dict[str, tuple[str, ...]]:
        """Return nothing, as `guest_disks`."""
        return {}

    def stale_notes(self) -> tuple[LibxlNote, ...]:
        """Return libxl's records of devices of domains that had ended."""
        return self._answers.libxl_notes


class RecordedHypervisor(_ReadOnly):
    """Xen's answers, and its log in a file."""

    def __init__(self, paths: Paths, answers: HostAnswers) -> None:
        self._paths, self._answers = paths, answers

    def kind(self) -> str | None:
        """Return the hypervisor's name, empty on bare metal; None if not told."""
        recorded = self._answers.hypervisor
        return text(self._paths.sys / "hypervisor/type") or None if recorded is None else recorded

    def is_dom0(self) -> bool | None:
        """Return whether this is Xen's initial domain; None if not told."""
        said = text(self._paths.sys / "hypervisor/properties/features")
        if self._answers.is_dom0 is not None or not _DOM0.fullmatch(said):
            return self._answers.is_dom0
        return bool(int(said, 16) & _INITIAL_DOMAIN)

    def virtualisation(self) -> tuple[str, ...]:
        """Return Xen's virt_caps; empty if not told."""
        return self._answers.virtualisation

    def command_line(self) -> str:
        """Return Xen's command line; empty if not told."""
        return self._answers.xen_command_line

    def log(self) -> str | None:
        """Return Xen's own lines; None if the tree has no log of Xen's."""
        said = first_text(self._paths.root, XEN_LOGS)
        return None if said is None else own_lines(said)

    def silences(self) -> dict[int, Silence]:
        """Return nothing: what a guest was doing is not recorded."""
        return {}

    def in_guest(self, address: Address) -> bool | None:
        """Return whether a guest owned the device; None if not told."""
        owners = (one.in_guest for one in self._answers.owners if one.address == address)
        return next(owners, None)


class RecordedXl(_ReadOnly):
    """Whether xl was installed."""

    def __init__(self, answers: HostAnswers) -> None:
        self._answers = answers

    def installed(self) -> bool | None:
        """Return whether xl was installed; None if not told."""
        return self._answers.has_xl


class RecordedDaemons:
    """Nothing more is known of a daemon that was silent."""

    def explain(self, silence: CedeError) -> CedeError:
        """Return the error as it is."""
        return silence
