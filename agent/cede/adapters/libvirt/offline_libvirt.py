"""The adapter in place of libvirt before that runs: domains from libvirt's files, binding by the same writes to sysfs.

Sources: Documentation/ABI/testing/sysfs-bus-pci; drivers/xen/xen-pciback/pci_stub.c (pcistub_probe, which respects
driver_override since Linux 4.9 and adds the slot when it binds); libvirt's src/util/virpci.c
(virPCIDeviceBindWithDriverOverride) and src/libxl/libxl_conf.h (LIBXL_CONFIG_BASE_DIR).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cede.domain_xml import document, sources
from cede.errors import PermanentError
from cede.model.pci import PCIBACK, Address
from cede.util import process
from cede.util.kernel_files import link_name, listing
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.domain import Domain

_LONGEST_NAME = 255
_LARGEST = 4 * 1024 * 1024
_WRITE_SECONDS = 20.0


def _write(path: str, said: str) -> None:
    """Write in a process of its own: an `unbind` can hang for ever, and would hang this process."""
    process.run("tee", path, stdin=said, seconds=_WRITE_SECONDS)


def _domain(path: Path) -> Domain | None:
    """The domain in a file; None if the file vanished, or is a folder."""
    try:
        if path.is_dir():
            return None
        if not path.is_file():  # a link to nothing, or what an open would hang on
            return (
                _unreadable(path, None, f"{path} is no file")
                if path.is_symlink() or path.exists()
                else None
            )
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unreadable(path, None, f"{path}: {error.strerror}")
    if len(text) > _LARGEST:
        return _unreadable(path, None, f"{path} is larger than {_LARGEST} bytes")
    try:
        said = text.decode()
    except ValueError:
        return _unreadable(path, text.decode(errors="replace"), f"{path} is not UTF-8")
    name = _name(path)
    domain = document.domain_or_remains(None, said, name=name, uuid=name, domid=None)
    return domain if domain.name else _unreadable(path, said, f"{path} names no domain")


def _pool(path: Path) -> tuple[str, tuple[str, ...]]:
    """The name and the devices of a pool; of a link to one that was undefined, none.

    Raises PermanentError if it can't be read.
    """
    if not path.is_file():
        return path.stem, ()
    try:
        with path.open("rb") as file:
            return sources.pool_devices(file.read(_LARGEST).decode())
    except (OSError, ValueError, PermanentError) as error:
        raise PermanentError(
            f"{path} can't be read: {error}; it tells which disks a storage pool is made of",
            name="pools-unknown",
            remedy=f"correct the pool's definition (`virsh pool-edit {_name(path)}`)",
        ) from error


def _name(path: Path) -> str:
    return one_line(path.stem, _LONGEST_NAME)


def _unreadable(path: Path, said: str | None, why: str) -> Domain:
    name = _name(path)
    remains = document.domain_or_remains(None, said, name=name, uuid=name, domid=None, why=why)
    return replace(remains, persistent=True)


class OfflineLibvirt:
    """Binds below `sys_root` (normally `/sys`), each write limited to 20 s; reads the domains in `definitions`.

    Pools are in `../storage/autostart` beside these.

    Has only those methods of `Libvirt` that make sense while no guest runs.
    """

    def __init__(
        self,
        sys_root: Path,
        definitions: Path,
        write: Callable[[str, str], None] = _write,
    ) -> None:
        self._devices = f"{sys_root}/bus/pci/devices"
        self._probe = f"{sys_root}/bus/pci/drivers_probe"
        self._definitions = definitions
        self._pools = definitions.parent / "storage/autostart"
        self._write = write

    def close(self) -> None:
        """Do nothing: nothing was opened."""

    def domains(self) -> tuple[Domain, ...]:
        """Return the persistent domains, all as off, since only libvirt knows which run.

        A file that can't be read or is no domain's is an unreadable domain of the file's name, and so is the whole
        folder.
        """
        try:
            names = sorted(path.name for path in self._definitions.iterdir())
        except FileNotFoundError:
            return ()  # no domain was ever defined
        except OSError as error:
            return (_unreadable(self._definitions, None, f"{self._definitions}: {error.strerror}"),)
        paths = [self._definitions / name for name in names if name.endswith(".xml")]
        found = map(_domain, paths)
        return tuple(domain for domain in found if domain is not None)

    def storage_pools(self) -> dict[str, tuple[str, ...]]:
        """Return the devices of the storage pools that libvirt starts by itself, by the pool's name.

        Raises PermanentError if the definition of one can't be read.
        """
        names = [name for name in listing(self._pools) if name.endswith(".xml")]
        found = (_pool(self._pools / name) for name in names)
        return {pool: devices for pool, devices in found if devices}

    def node_devices(self) -> frozenset[str]:
        """Return every PCI function: libvirt will list them all."""
        found = set()
        for name in listing(self._devices):
            with suppress(ValueError):
                found.add(Address.parse(name).node_device)
        return frozenset(found)

    def bind_to_pciback(self, address: Address) -> None:
        """Unbind the device from its driver and let pciback probe it; do nothing if pciback has the device.

        Read sysfs afterwards for the driver. Raises PermanentError if the kernel refuses a write, HungError if the
        write does not return.
        """
        if self._driver(address) == PCIBACK:
            return
        # before the unbind, so that no other driver can bind the device in between
        self._rebind(address, f"{self._devices}/{address}/driver_override", PCIBACK)
        self._unbind(address)
        self._rebind(address, self._probe, str(address))

    def reattach(self, address: Address) -> None:
        """Let any driver bind the device again, and probe. Raises as `bind_to_pciback` does."""
        self._rebind(address, f"{self._devices}/{address}/driver_override", "\n")
        if self._driver(address) == PCIBACK:
            self._unbind(address)
        if self._driver(address) is None:
            self._rebind(address, self._probe, str(address))

    def _driver(self, address: Address) -> str | None:
        return link_name(f"{self._devices}/{address}/driver")

    def _unbind(self, address: Address) -> None:
        driver = self._driver(address)
        if driver is None:
            return
        try:
            self._rebind(address, f"{self._devices}/{address}/driver/unbind", str(address))
        except PermanentError:
            if self._driver(address) == driver:
                raise  # else the driver let go by itself

    def _rebind(self, address: Address, path: str, said: str) -> None:
        try:
            self._write(path, said)
        except PermanentError as error:
            raise PermanentError(
                f"the kernel does not rebind {address}: {error.message}",
                name="rebind-failed",
                remedy="see the end of dom0's kernel log (dmesg)",
            ) from error
