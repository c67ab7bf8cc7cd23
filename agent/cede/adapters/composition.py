"""All adapters to the outside, held together for the time of one command."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from cede.adapters.libvirt.offline_libvirt import OfflineLibvirt
from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.kernel_log import KernelLog
from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.network_links import Links
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.xen.commands import Kernel, Xl
from cede.adapters.xen.hypervisor import Hypervisor
from cede.adapters.xen.xenstore import Xenstore
from cede.errors import CedeError, PermanentError
from cede.state.journal import Journal
from cede.util.timeouts import call_with_timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.adapters.libvirt.connection import Libvirt
    from cede.model.inventory import BackendDevice


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


_SYS = Path("/sys")
JOURNAL = Path("/var/lib/cede/journal.db")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Unavailable:
    """An adapter that doesn't open: whoever asks it anything is told why."""

    def __init__(self, why: CedeError) -> None:
        self._why = why

    def __getattr__(self, name: str) -> NoReturn:
        """Raises what came of opening it."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._why

    def close(self) -> None:
        """It is closed."""


class EmptyXenstore:
    """Stands in for xenstore before guests run: what one had would be on pciback, and left alone in any case."""

    def backend(self) -> tuple[BackendDevice, ...]:
        """No guest has anything."""
        return ()

    def close(self) -> None:
        """Nothing was opened."""


@contextmanager
def open_adapters(uri: str, *, require_all: bool = True) -> Iterator[Adapters]:
    """Open the adapters of this host; raises UnreachableError if libvirt doesn't answer at `uri`.

    Unless `require_all`: then it is the first question to libvirt that raises it.
    """
    connection: Libvirt | Unavailable
    try:
        connection = _libvirt(uri)
    except CedeError as error:
        if require_all:
            raise
        connection = Unavailable(error)
    with _opened(cast("Libvirt", connection), Xenstore()) as adapters:
        yield adapters


@contextmanager
def open_adapters_offline() -> Iterator[Adapters]:
    """The adapters of a host on which neither libvirt nor xenstore need run, nor are started by being asked."""
    with _opened(
        cast("Libvirt", OfflineLibvirt(_SYS)), cast("Xenstore", EmptyXenstore())
    ) as adapters:
        yield adapters


@contextmanager
def _opened(connection: Libvirt, xenstore: Xenstore) -> Iterator[Adapters]:
    journal = open_journal()
    links = Links()
    try:
        yield Adapters(
            libvirt=connection,
            sysfs=Sysfs(_SYS),
            xenstore=xenstore,
            uses=HostUses(_SYS, Path("/proc"), addresses=links.addresses),
            links=links,
            kernel=Kernel(),
            modules=Modules(Path("/")),
            kernel_log=KernelLog(),
            xl=Xl(),
            hypervisor=Hypervisor(),
            journal=journal,
        )
    finally:
        journal.close()
        xenstore.close()
        connection.close()


def _libvirt(uri: str) -> Libvirt:
    try:
        from cede.adapters.libvirt.connection import Libvirt
    except ImportError as error:
        raise PermanentError(
            f"Python has no binding to libvirt: {error}",
            name="libvirt-binding-missing",
            remedy="apt-get install python3-libvirt",
        ) from error
    return call_with_timeout(f"connecting to {uri}", lambda: Libvirt(uri))


def open_journal() -> Journal:
    """The journal of this host, which needs no libvirt to be read."""
    return Journal(JOURNAL, boot=BOOT_ID.read_text().strip() if BOOT_ID.exists() else "")
