"""The adapter that stands in for libvirt before it runs: its domains from its files, its binding by the same writes.

Sources: Documentation/ABI/testing/sysfs-bus-pci; drivers/xen/xen-pciback/pci_stub.c (pcistub_probe, which heeds
driver_override since Linux 4.9 and notes the slot when it binds); libvirt's src/util/virpci.c
(virPCIDeviceBindWithDriverOverride) and src/libxl/libxl_conf.h (LIBXL_CONFIG_BASE_DIR).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cede.domain_xml import document
from cede.errors import PermanentError
from cede.model.pci import PCIBACK, Address
from cede.util import process
from cede.util.kernel_files import link_name, listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.domain import Domain

_LARGEST = 4 * 1024 * 1024
_WRITE_SECONDS = 20.0


def _write(path: str, said: str) -> None:
    """A process of its own: an `unbind` can hang for ever, and would take this one with it."""
    process.run("tee", path, stdin=said, seconds=_WRITE_SECONDS)


class OfflineLibvirt:
    """Binds below `sys_root` (normally `/sys`), each write bounded by 20 s; reads the domains in `definitions`.

    It has only those methods of `Libvirt` that make sense while no guest runs.
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
        self._write = write

    def close(self) -> None:
        """Nothing was opened."""

    def domains(self) -> tuple[Domain, ...]:
        """The persistent domains, as if all were off: only libvirt knows which run. An unreadable file is none."""
        found = []
        for name in listing(self._definitions):
            path = self._definitions / name
            with suppress(OSError, ValueError, PermanentError):
                if path.suffix == ".xml" and path.is_file() and path.stat().st_size <= _LARGEST:
                    found.append(document.domain(None, path.read_text(encoding="utf-8")))
        return tuple(domain for domain in found if domain.name)

    def node_devices(self) -> frozenset[str]:
        """Every PCI function: libvirt will list them all."""
        found = set()
        for name in listing(self._devices):
            with suppress(ValueError):
                found.add(Address.parse(name).node_device)
        return frozenset(found)

    def bind_to_pciback(self, address: Address) -> None:
        """Unbind the device from its driver and have pciback probe it; nothing if pciback has it.

        What was bound in the end must be read. Raises PermanentError if the kernel refuses a write, HungError if it
        doesn't answer.
        """
        if self._driver(address) == PCIBACK:
            return
        # before the unbinding: from then on no other driver gets it, whatever else probes meanwhile
        self._rebind(address, f"{self._devices}/{address}/driver_override", PCIBACK)
        self._unbind(address)
        self._rebind(address, self._probe, str(address))

    def reattach(self, address: Address) -> None:
        """Let any driver have it again, and probe for one. Raises as `seize` does."""
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
                raise  # else it went by itself in that moment

    def _rebind(self, address: Address, path: str, said: str) -> None:
        try:
            self._write(path, said)
        except PermanentError as error:
            raise PermanentError(
                f"the kernel doesn't rebind {address}: {error.message}",
                name="rebind-failed",
                remedy="see the end of dom0's kernel log (dmesg)",
            ) from error
