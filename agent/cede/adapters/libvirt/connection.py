"""The adapter to libvirt's Xen driver: domains, their XML, node devices, guest consoles.

Sources: https://libvirt.org/html/libvirt-libvirt-domain.html, src/libxl/libxl_driver.c (libvirt 9.0 and 11.3).
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import libvirt

from cede.adapters.libvirt import libxl_logs
from cede.adapters.libvirt.libvirt_errors import NO_DOMAIN, classify
from cede.adapters.libvirt.pty_console import PtyConsole, open_pty_console
from cede.adapters.libvirt.storage import active_pools, with_volumes
from cede.domain_xml import document, metadata
from cede.domain_xml.edits import (
    AttachHostdev,
    DetachHostdev,
    IncrementalEdit,
    SetMetadata,
    incremental_edits,
)
from cede.errors import PermanentError, UnreachableError, WorldMovedError
from cede.util.log import log_calls
from cede.util.well_known import DEFAULT_URI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cede.model.domain import Domain
    from cede.model.pci import Address

_LOG = logging.getLogger(__name__)
_KEEPALIVE_SECONDS, _KEEPALIVE_TRIES = 5, 3


_REREADS = 5


_NOT_RUNNING = -1  # as a domain's id


def _apply_edit(domain: libvirt.virDomain, change: IncrementalEdit) -> None:
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    match change:
        case AttachHostdev():
            domain.attachDeviceFlags(change.hostdev, config)
        case DetachHostdev():
            domain.detachDeviceFlags(change.hostdev, config)
        case SetMetadata():
            element = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(element, change.element, metadata.PREFIX, metadata.NAMESPACE, config)


class Libvirt:
    """One connection; every failure is raised as one of cede's errors, named for what the caller may do."""

    def __init__(self, uri: str, logs: Path = libxl_logs.FOLDER) -> None:
        start_event_loop()
        self._uri = uri
        self._logs = logs
        self._opening = threading.Lock()
        with self._classified():
            self._opened = self._open()

    def _open(self) -> libvirt.virConnect:
        connection = log_calls(libvirt, "libvirt").open(self._uri)
        connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_TRIES)
        if connection.getType() != "Xen":
            raise PermanentError(
                f"{self._uri} is libvirt's {connection.getType()} driver, not Xen",
                name="not-xen",
                remedy=f"use --connect {DEFAULT_URI} on a Xen dom0",
            )
        return connection

    @property
    def _connection(self) -> libvirt.virConnect:
        """The connection, reopened if its daemon was restarted meanwhile."""
        with self._opening:
            if not self._opened.isAlive():
                with suppress(libvirt.libvirtError):  # it is lost in any case
                    self._opened.close()
                self._opened = self._open()
            return self._opened

    def close(self) -> None:
        """Close the connection; errors no longer matter."""
        with suppress(libvirt.libvirtError):  # it was lost before
            self._opened.close()

    @contextmanager
    def _classified(self, *, about: str = "") -> Iterator[None]:
        """Turn libvirt's errors into cede's; for the domain `about`, add what libxl logged meanwhile."""
        before = libxl_logs.log_sizes(self._logs, about) if about else ()
        try:
            yield
        except libvirt.libvirtError as error:
            raise classify(
                error.get_error_code() or 0,
                error.get_error_message() or str(error),
                cause=libxl_logs.ending_line(before),
            ) from error

    def domains(self) -> tuple[Domain, ...]:
        """Return every domain but dom0, running or not, with its live and its persistent hostdevs."""
        with self._classified():
            connection = self._connection
            handles = connection.listAllDomains()
            paused = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED)
            kept = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        still, lasting = ({handle.UUID() for handle in some} for some in (paused, kept))
        found = (
            self._domain_or_remains(
                handle, paused=handle.UUID() in still, kept=handle.UUID() in lasting
            )
            for handle in handles
            if handle.ID() != 0
        )
        return tuple(sorted((d for d in found if d is not None), key=lambda d: d.name))

    def _domain_or_remains(
        self, handle: libvirt.virDomain, *, paused: bool, kept: bool
    ) -> Domain | None:
        """The domain, or what can be made out of one that can't be read; None if it vanished while it was read.

        Raises UnreachableError if libvirt doesn't answer at all.
        """
        domid = handle.ID()
        wanted = {"live": 0} if domid != _NOT_RUNNING else {}
        if kept:
            wanted["config"] = libvirt.VIR_DOMAIN_XML_INACTIVE
        xml: dict[str, str] = {}
        why = ""
        for name, flags in wanted.items():
            try:
                xml[name] = handle.XMLDesc(flags)
            except libvirt.libvirtError as error:
                if error.get_error_code() == NO_DOMAIN:
                    return None
                said = error.get_error_message() or str(error)
                failed = classify(error.get_error_code() or 0, said)
                if isinstance(failed, UnreachableError):
                    raise failed from error
                why = failed.message
        if not wanted:
            return None  # a transient domain that ended while it was read
        read = partial(
            document.domain_or_remains, xml.get("live"), xml.get("config"), name=handle.name(),
            uuid=handle.UUIDString(), domid=None if domid == _NOT_RUNNING else domid, paused=paused,
        )  # fmt: skip
        domain = read(why=why)
        try:
            return with_volumes(self._connection, domain) if domain.unknown_volumes else domain
        except PermanentError as error:
            return read(why=error.message)

    @staticmethod
    def _domain(handle: libvirt.virDomain, *, paused: bool, kept: bool) -> Domain | None:
        try:
            live = handle.XMLDesc() if handle.ID() != _NOT_RUNNING else None
            config = handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if kept else None
        except libvirt.libvirtError as error:
            if error.get_error_code() == NO_DOMAIN:
                return None  # it vanished while it was read
            raise classify(error.get_error_code() or 0, str(error)) from error
        if live is None and config is None:
            return None  # a transient domain that ended while it was read
        return document.domain(live, config, paused=paused)

    def storage_pools(self) -> dict[str, tuple[str, ...]]:
        """Return the devices that each active storage pool is made of, by its name (model/served.py).

        Raises PermanentError if a pool can't be read.
        """
        with self._classified():
            return active_pools(self._connection)

    def node_devices(self) -> frozenset[str]:
        """Return the names of the PCI node devices that libvirt lists (`pci_0000_01_00_0`)."""
        with self._classified():
            connection = self._connection
            # listAllDevices has libvirtd read the capabilities of every device anew, which takes ten times as long
            names = connection.listDevices("pci")
            for _ in range(_REREADS):
                if len(names) >= connection.numOfDevices("pci"):
                    break  # else one came between the call that counts and the call that lists, both of `listDevices`
                names = connection.listDevices("pci")
            return frozenset(names)

    def domain(self, name: str) -> Domain | None:
        """Return the domain of that name as it is now; None if there is none."""
        try:
            with self._classified():
                handle = self._connection.lookupByName(name)
                paused = handle.state()[0] == libvirt.VIR_DOMAIN_PAUSED
                return self._domain(handle, paused=paused, kept=bool(handle.isPersistent()))
        except WorldMovedError:
            return None

    def running(self, name: str) -> Domain | None:
        """Return the running domain of that name, without its persistent XML; None if it does not run."""
        try:
            with self._classified():
                handle = self._connection.lookupByName(name)
                domain = document.domain(handle.XMLDesc(), None)
        except WorldMovedError:
            return None
        return domain if domain.running else None

    def bind_to_pciback(self, address: Address) -> None:
        """Unbind from the dom0 driver and bind to pciback, by virNodeDeviceDetachFlags.

        libvirt does not check which driver is bound afterwards: read sysfs.
        """
        with self._classified():
            self._connection.nodeDeviceLookupByName(address.node_device).detachFlags(None, 0)

    def reattach(self, address: Address) -> None:
        """Clear driver_override, unbind, let the kernel probe again, by virNodeDeviceReAttach."""
        with self._classified():
            self._connection.nodeDeviceLookupByName(address.node_device).reAttach()

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        """Hot-plug the device into the running domain, leaving its persistent XML alone."""
        with self._classified(about=domain):
            self._connection.lookupByName(domain).attachDeviceFlags(
                document.new_hostdev(address, alias, permissive=permissive),
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            )

    def unplug(self, domain: str, address: Address) -> bool:
        """Take the device out of the running domain; False if the live XML does not list it.

        Passes the element exactly as the live XML shows it: libvirt 11.3 leaks a device whose element lacks the driver,
        and a live detach that fails must never be provoked.
        """
        with self._classified(about=domain):
            handle = self._connection.lookupByName(domain)
            element = document.hostdev_as_shown(handle.XMLDesc(), address)
            if element is None:
                return False
            handle.detachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            return True

    def last_libxl_line(self, domain: str) -> str:
        """Return the last line that libxl logged of the domain, through libvirt; empty if none."""
        return libxl_logs.last_line(self._logs, domain)

    def shut_down(self, domain: str) -> None:
        """Ask the running domain to shut itself down; returns before it has."""
        with self._classified(about=domain):
            self._connection.lookupByName(domain).shutdown()

    def destroy(self, domain: str) -> None:
        """Force the running domain off; what it hasn't written is lost."""
        with self._classified(about=domain):
            self._connection.lookupByName(domain).destroy()

    def start(self, domain: str) -> None:
        """Start the domain from its persistent XML."""
        with self._classified(about=domain):
            self._connection.lookupByName(domain).create()

    def persistent_xml(self, domain: str) -> str:
        """Return the domain's persistent XML, without its secrets."""
        with self._classified():
            found: str = self._connection.lookupByName(domain).XMLDesc(
                libvirt.VIR_DOMAIN_XML_INACTIVE
            )
        return found

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        """Edit the persistent XML; False if the edit changes nothing.

        Hostdevs and ownership metadata are changed one by one, so that edits of other tools stay. Any other edit
        defines the whole domain: the XML is read again right before, and if another tool changed it, the edit is
        repeated on the new XML. Secrets are included (XML_SECURE), or the define would erase a VNC password. Raises
        WorldMovedError if another tool keeps changing the XML.
        """
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        with self._classified():
            handle = self._connection.lookupByName(domain)
            read = handle.XMLDesc(flags)
            for _ in range(_REREADS):
                edited = edit(read)
                if edited == read:
                    return False
                found = incremental_edits(read, edited)
                if found is not None:
                    for change in found:
                        _apply_edit(handle, change)
                    return True
                again = handle.XMLDesc(flags)
                if again == read:
                    self._connection.defineXML(edited)
                    return True
                read = again
        raise WorldMovedError(
            f"another tool keeps changing the XML of {domain}",
            name="xml-keeps-changing",
            remedy="apply again",
        )

    @contextmanager
    def console(self, domain: str) -> Iterator[PtyConsole]:
        """Open the domain's first console. Raises GuestSilentError if another session has it, or there is none."""
        with self._classified():
            handle = self._connection.lookupByName(domain)
            domid = handle.ID()
            path = "" if domid == _NOT_RUNNING else document.console_terminal(handle.XMLDesc())
        with open_pty_console(domain, domid, path) as opened:
            yield opened


def _serve_events() -> None:
    """Run libvirt's event loop for the life of the process."""
    while libvirt.virEventRunDefaultImpl() == 0:
        pass


_event_loop: threading.Thread | None = None


_starting = threading.Lock()


def start_event_loop() -> None:
    """Start libvirt's event loop once; call this before the first connection is opened."""
    global _event_loop  # noqa: PLW0603 - libvirt has one default event loop a process
    with _starting:
        if _event_loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _event_loop = threading.Thread(target=_serve_events, name="libvirt-events", daemon=True)
            _event_loop.start()
