"""All doors to the outside, held together for the time of one command."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cede.host.addresses import ip_addresses
from cede.host.before_libvirt import BeforeLibvirt
from cede.host.command import Kernel, Xl
from cede.host.hypervisor import Hypervisor
from cede.host.journal import Journal
from cede.host.links import Links
from cede.host.modules import Modules
from cede.host.sysfs import Sysfs
from cede.host.uses import HostUses
from cede.host.xenstore import Xenstore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.host.libvirt import Libvirt
    from cede.model import BackendDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """One door each; what uses them is handed this and opens nothing itself."""

    libvirt: Libvirt
    sysfs: Sysfs
    xenstore: Xenstore
    uses: HostUses
    links: Links
    kernel: Kernel
    modules: Modules
    xl: Xl
    hypervisor: Hypervisor
    journal: Journal


JOURNAL = Path("/var/lib/cede/journal.db")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class NoGuests:
    """Stands in for xenstore before guests run: what one had would be on pciback, and left alone in any case."""

    def backend(self) -> tuple[BackendDevice, ...]:
        """No guest has anything."""
        return ()


@contextmanager
def open_doors_before_libvirt() -> Iterator[Doors]:
    """The doors of a host on which neither libvirt nor xenstore need run, nor are started by being asked."""
    sys_root = Path("/sys")
    journal = open_journal()
    try:
        yield Doors(
            libvirt=cast("Libvirt", BeforeLibvirt(sys_root)),
            sysfs=Sysfs(sys_root),
            xenstore=cast("Xenstore", NoGuests()),
            uses=HostUses(sys_root, Path("/proc"), addresses=ip_addresses),
            links=Links(),
            kernel=Kernel(),
            modules=Modules(Path("/")),
            xl=Xl(),
            hypervisor=Hypervisor(),
            journal=journal,
        )
    finally:
        journal.close()


@contextmanager
def open_doors(uri: str) -> Iterator[Doors]:
    """Open the doors of this host; raises UnreachableError if libvirt doesn't answer at `uri`."""
    from cede.host.libvirt import Libvirt

    connection = Libvirt(uri)
    xenstore = Xenstore()
    journal = open_journal()
    sys_root = Path("/sys")
    try:
        yield Doors(
            libvirt=connection,
            sysfs=Sysfs(sys_root),
            xenstore=xenstore,
            uses=HostUses(sys_root, Path("/proc"), addresses=ip_addresses),
            links=Links(),
            kernel=Kernel(),
            modules=Modules(Path("/")),
            xl=Xl(),
            hypervisor=Hypervisor(),
            journal=journal,
        )
    finally:
        journal.close()
        xenstore.close()
        connection.close()


def open_journal() -> Journal:
    """The journal of this host, which needs no libvirt to be read."""
    return Journal(JOURNAL, boot=BOOT_ID.read_text().strip() if BOOT_ID.exists() else "")
