"""The composition root: opens the adapters of this host, all held together for the time of one command."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, cast

from cede.adapters.libvirt.offline_libvirt import OfflineLibvirt
from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.kernel_log import KernelLog
from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.network_links import Links
from cede.adapters.linux.shared_daemons import SharedDaemons
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.ports import Adapters
from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.adapters.xen.commands import Kernel, Xl
from cede.adapters.xen.hypervisor import Hypervisor, binding
from cede.adapters.xen.xenstore import Xenstore, XenstoreWatch
from cede.adapters.xen.xenstore_client import XenstoreClient
from cede.errors import LIBVIRT_SILENT, CedeError, HungError, PermanentError, UnreachableError
from cede.policy.policy_files import fingerprint
from cede.state.key_files import RefusedLogins
from cede.util.account import user
from cede.util.well_known import DEFAULT_URI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cede.adapters import ports
    from cede.adapters.ports import Source
    from cede.model.domain import Silence
    from cede.model.inventory import BackendDevice
    from cede.util.paths import Paths

_CONNECT_SECONDS = 30.0  # a libvirtd that was just started by its socket needs a few


def host_runtime() -> Runtime:
    """Return the runtime of this process on this host."""
    return Runtime(
        open_adapters=open_adapters,
        event_sources=event_sources,
        user=user,
        is_root=os.geteuid() == 0,
    )


class Unavailable:
    """An adapter that could not be opened: every call raises the error."""

    def __init__(self, why: CedeError) -> None:
        self._why = why

    def __getattr__(self, name: str) -> NoReturn:
        """Raise the error of the opening."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._why

    def close(self) -> None:
        """Do nothing."""


class EmptyXenstore:
    """Stands in for xenstore before guests run: what one had would be on pciback, and left alone in any case."""

    def backend(self) -> tuple[BackendDevice, ...]:
        """Return nothing: no guest has anything."""
        return ()

    def silences(self) -> dict[int, Silence]:
        """No guest runs."""
        return {}

    def guest_disks(self) -> dict[str, tuple[str, ...]]:
        """No guest runs."""
        return {}

    def guest_interfaces(self) -> dict[str, tuple[str, ...]]:
        """No guest runs."""
        return {}

    def guest_devices(self) -> dict[str, tuple[str, ...]]:
        """No guest runs."""
        return {}

    def close(self) -> None:
        """Do nothing: nothing was opened."""


def connect_libvirt(runtime: Runtime) -> ports.Libvirt:
    """Connect to libvirt; raises UnreachableError if it doesn't answer, PermanentError without its binding."""
    try:
        from cede.adapters.libvirt.connection import Libvirt
    except ImportError as error:
        raise PermanentError(
            f"Python has no binding to libvirt: {error}",
            name="libvirt-binding-missing",
            remedy="apt-get install python3-libvirt",
        ) from error
    try:
        return runtime.timeouts.call(
            f"connecting to {runtime.uri}", lambda: Libvirt(runtime.uri), seconds=_CONNECT_SECONDS
        )
    except (HungError, UnreachableError) as error:
        if runtime.uri != DEFAULT_URI:
            raise  # another host's
        hung = isinstance(error, HungError)
        silence = HungError(error.message, name=LIBVIRT_SILENT) if hung else error
        raise _daemons(runtime).explain(silence) from error


@contextmanager
def open_adapters(
    runtime: Runtime,
    access: LibvirtAccess,
    connect: Callable[[Runtime], ports.Libvirt] = connect_libvirt,
) -> Iterator[Adapters]:
    """Open the adapters of this host; raises UnreachableError if `connect` does and libvirt is required."""
    paths = runtime.paths
    offline = access is LibvirtAccess.OFFLINE
    if offline:
        connection = cast(
            "ports.Libvirt", OfflineLibvirt(paths.sys, paths.root / "etc/libvirt/libxl")
        )
    else:
        try:
            connection = connect(runtime)
        except CedeError as error:
            if access is LibvirtAccess.REQUIRED:
                raise
            connection = cast("ports.Libvirt", Unavailable(error))
    xenstore = cast("ports.Xenstore", EmptyXenstore()) if offline else Xenstore(_xenstore(paths))
    journal = runtime.journal()
    links = Links()
    try:
        yield Adapters(
            libvirt=connection,
            sysfs=Sysfs(paths.sys),
            xenstore=xenstore,
            uses=HostUses(paths.sys, paths.proc, paths.run, paths.dev, links),
            links=links,
            kernel=Kernel(),
            modules=Modules(paths.root),
            kernel_log=KernelLog(paths.dev / "kmsg"),
            xl=Xl(),
            hypervisor=_hypervisor(paths),
            daemons=_daemons(runtime),
            journal=journal,
            refused_logins=RefusedLogins(paths.refused_logins),
            clock=runtime.clock,
            timeouts=runtime.timeouts,
            seed=runtime.seed,
        )
    finally:
        journal.close()
        xenstore.close()
        connection.close()


def _daemons(runtime: Runtime) -> SharedDaemons:
    paths = runtime.paths
    return SharedDaemons(paths.proc, paths.run, paths.root / "var/log/libvirt/libxl", runtime.clock)


def _xenstore(paths: Paths) -> XenstoreClient:
    return XenstoreClient(paths.run / "xenstored/socket", paths.dev / "xen/xenbus")


def _hypervisor(paths: Paths) -> Hypervisor:
    files = paths.sys / "hypervisor"
    return Hypervisor(files, lambda: binding(paths.root / "usr/lib", files / "version"))


def event_sources(runtime: Runtime, paths: Sequence[Path]) -> tuple[Source, ...]:
    """Open what wakes a daemon on this host: libvirt, xenstore, the kernel, and the policy's files at `paths`."""
    from cede.adapters.libvirt.domain_events import LibvirtEvents
    from cede.adapters.linux.file_changes import FileChanges
    from cede.adapters.linux.uevents import Uevents

    changes = FileChanges(paths, lambda: fingerprint(paths))
    return (LibvirtEvents(runtime.uri), XenstoreWatch(_xenstore(runtime.paths)), Uevents(), changes)
