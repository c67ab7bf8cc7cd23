"""Return a device from pciback to the dom0 driver that it had, and check that the device works there.

The order matters. Xen's quarantine must be lifted and pciback's slot dropped while the device is still bound to
pciback; in the other order libvirt reports success, and the device can't reach memory. Source:
tools/libs/light/libxl_pci.c (libxl__device_pci_assignable_remove), src/util/virpci.c (virPCIDeviceReattach).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import IndeterminateError, PermanentError, UnsafeError
from cede.model.pci import PCIBACK
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters
    from cede.model.actions import ReturnToDom0
    from cede.model.pci import Link, Node, OriginalState

_PROBE_SECONDS = 15.0
_NAMING_SECONDS = 5.0
_CARRIER_SECONDS = 20.0
_NODES_SECONDS = 30.0
_REMEDY = "Xen's Python binding (xen.lowlevel.xc, of xen-utils) must answer: see `xl dmesg`, then release again"


class DeviceReturn:
    """The return of one device; its original state comes from the journal, if that has it."""

    def __init__(self, adapters: Adapters, action: ReturnToDom0) -> None:
        self._adapters = adapters
        self._step = action
        self._address = action.address
        self._was = self._original_state()

    def do(self) -> None:
        """Return the device and check that it works. Raises PermanentError or UnsafeError."""
        faults = self._adapters.hypervisor.faults(self._address)
        self._refuse_in_guest()
        if not self._free_already():
            self._free()
            self._adapters.timeouts.call(
                f"binding {self._address} to its driver",
                lambda: self._adapters.libvirt.reattach(self._address),
            )
        self._await_driver()
        self._refuse_quarantined()
        if self._was is not None:
            if self._was.boot and self._was.boot == self._adapters.journal.boot:
                self._restore_links(self._was)
            self._await_nodes(self._was)
        self._refuse_faults(faults)
        self._adapters.journal.forget_original_state(self._address)

    def _original_state(self) -> OriginalState | None:
        original = self._adapters.journal.original_state(self._address)
        return (
            original
            if original and original.identity == self._adapters.sysfs.identity(self._address)
            else None
        )

    def _driver(self) -> str | None:
        return self._adapters.sysfs.driver(self._address)

    def _refuse_in_guest(self) -> None:
        owned = self._adapters.hypervisor.in_guest(self._address)
        if owned is None:
            raise IndeterminateError(
                f"whether Xen assigns {self._address} to a guest can't be told, so dom0 does not get the device",
                name="owner-unknown",
                remedy=_REMEDY,
            )
        if owned:
            raise UnsafeError(
                f"Xen assigns {self._address} to a guest, though no toolstack lists the device",
                name="assigned-to-guest",
                remedy="`xl debug-keys Q; xl dmesg` names the guest's id; shut that guest down, then release again",
            )

    def _free_already(self) -> bool:
        """Whether an interrupted return had freed the device already: then its driver stays bound."""
        if self._adapters.sysfs.driver_override(self._address) == PCIBACK:
            return False
        return self._driver() not in {None, PCIBACK} and self._free_of_xen()

    def _free_of_xen(self) -> bool:
        """Whether neither pciback's slots nor Xen's quarantine have the device."""
        if self._address in self._adapters.sysfs.pciback_slots():
            return False
        return self._adapters.hypervisor.quarantined(self._address) is False

    def _free(self) -> None:
        """Free the device from quarantine and from pciback's slots.

        A device that was returned in the wrong order (driver bound, slot left) is bound to pciback once more.
        """
        sysfs, address = self._adapters.sysfs, self._address
        if self._driver() not in {None, PCIBACK} and not self._free_of_xen():
            self._adapters.timeouts.call(
                f"unbinding {address}", lambda: self._adapters.libvirt.bind_to_pciback(address)
            )
        lifted = self._driver() == PCIBACK and self._adapters.timeouts.call(
            f"lifting the quarantine of {address}",
            lambda: self._adapters.xl.assignable_remove(address),
        )
        if not lifted and address in sysfs.pciback_slots():
            self._adapters.timeouts.call(
                f"dropping the slot of {address}", lambda: sysfs.remove_pciback_slot(address)
            )

    def _await_driver(self) -> None:
        address, wanted = self._address, self._step.driver
        if self._step.undriven:
            if PCIBACK in {self._driver(), self._adapters.sysfs.driver_override(address)}:
                raise PermanentError(
                    f"{address} is still bound to pciback, or reserved for pciback",
                    name="bound-to-pciback",
                )
            return

        def taken() -> bool:
            return self._driver() not in {None, PCIBACK}

        if not taken() and wanted is not None:
            # libvirt's reattach loads no module; only a device that appears does
            modalias = self._adapters.sysfs.modalias(address)
            with suppress(PermanentError):  # which driver has the device is checked below
                self._adapters.timeouts.call(
                    f"modprobe {wanted}", lambda: self._adapters.kernel.load_driver(modalias)
                )
        if not wait_until(taken, _PROBE_SECONDS, self._adapters.clock):
            raise PermanentError(
                f"no dom0 driver has bound {address}, which is bound to {self._driver() or 'no driver'}",
                name="no-driver",
                remedy=f"load {wanted or 'its driver'}, then: echo {address} > /sys/bus/pci/drivers_probe",
            )
        if wanted is not None and self._driver() != wanted:
            raise PermanentError(
                f"{self._driver()} has bound {address}, whose driver was {wanted} before",
                name="other-driver",
                remedy=f"choose one of the two drivers; {wanted} had {address} when the device was given away",
            )

    def _refuse_quarantined(self) -> None:
        quarantined = self._adapters.hypervisor.quarantined(self._address)
        if quarantined is None:
            raise IndeterminateError(
                f"{self._address} has its driver back, but whether Xen quarantines the device can't be told",
                name="quarantine-unknown",
                remedy=_REMEDY,
            )
        if quarantined:
            raise PermanentError(
                f"{self._address} has its driver back, but Xen still quarantines the device, which can't reach memory",
                name="quarantined",
                remedy=f"`cede release {self._address}` once more; else see `xl dmesg`",
            )

    def _restore_links(self, original: OriginalState) -> None:
        for link in original.links:
            self._restore(link)
            if link.carrier and not wait_until(
                self._carrier(link), _CARRIER_SECONDS, self._adapters.clock
            ):
                raise PermanentError(
                    f"{link.name} is back and up, but has no carrier, unlike before",
                    name="no-carrier",
                    remedy=f"see `ethtool {link.name}` and dom0's kernel log (dmesg)",
                )

    def _restore(self, link: Link) -> None:
        """Restore the interface, after udev had time to rename it."""
        seen: list[Link] = []
        refused: list[PermanentError] = []

        def named() -> bool:
            if link.name not in self._adapters.sysfs.interfaces(self._address):
                return False
            seen[:] = self._seen(link)
            return any(now.name == link.name for now in seen)

        def restored() -> bool:
            links = seen or self._seen(link)
            if not links:
                return False
            now, seen[:] = (
                links[0],
                [],
            )  # the state before the first try is stale in the next
            refused.clear()
            try:
                self._adapters.links.restore(link, now)
            except PermanentError as error:
                refused.append(error)
            return not refused

        wait_until(named, _NAMING_SECONDS, self._adapters.clock)
        if not wait_until(restored, _PROBE_SECONDS, self._adapters.clock):
            raise (
                refused[0]
                if refused
                else PermanentError(
                    f"{self._address} has its driver back, but no interface with the MAC {link.mac}",
                    name="interface-missing",
                    remedy="see dom0's kernel log (dmesg)",
                )
            )

    def _seen(self, link: Link) -> list[Link]:
        """Return the interface with the MAC of `link`, whatever its name; empty if there is none.

        A MAC that the driver made up is another one now: then the device's only interface is meant.
        """
        names = self._adapters.sysfs.interfaces(self._address)
        links = list(self._adapters.links.read(names))
        if link.random:
            return links if len(links) == 1 else []
        return [now for now in links if now.mac == link.mac]

    def _carrier(self, link: Link) -> Callable[[], bool]:
        return lambda: any(now.carrier for now in self._adapters.links.read([link.name]))

    def _await_nodes(self, original: OriginalState) -> None:
        """Wait until its disks and USB devices are there again, whatever their names are now.

        What is missing is reported once, and not waited for in the next try: the guest had the controller, and may have
        deleted a volume of it; a disk may have been pulled out, or have died.
        """
        there: list[Node] = []
        missing: list[Node] = []

        def back() -> bool:
            left = list(self._adapters.sysfs.nodes().get(self._address, ()))
            there.clear()
            missing.clear()
            for node in original.nodes:
                (there if _taken(node, left) else missing).append(node)
            return not missing

        if wait_until(back, _NODES_SECONDS, self._adapters.clock):
            return
        self._adapters.journal.keep_original_state(
            self._address, replace(original, nodes=tuple(there))
        )
        disks = any(node.kind == "disk" for node in missing)
        plug = ", and plug in what was pulled out" if any(n.pluggable for n in missing) else ""
        raise PermanentError(
            f"{self._address} has its driver back, but not all that hung on it: {'; '.join(map(str, missing))}",
            name="disks-missing" if disks else "usb-missing",
            remedy=f"see dom0's kernel log (dmesg) and `lsblk`{plug}; `cede release {self._address}` once more goes on "
            "without what is missing",
        )

    def _refuse_faults(self, before: int | None) -> None:
        now = self._adapters.hypervisor.faults(self._address)
        if before is None or now is None:
            raise IndeterminateError(
                f"{self._address} has its driver back, but Xen's log, which has its DMA faults, is unreadable",
                name="faults-unknown",
                remedy=_REMEDY,
            )
        if now > before:
            raise PermanentError(
                f"{self._address} has its driver back, but Xen's log has new DMA faults of the device",
                name="dma-faults",
                remedy=f"see `xl dmesg`; `cede release {self._address}` once more, else restart the host",
            )


def _taken(node: Node, left: list[Node]) -> bool:
    same = next((other for other in left if other.same_as(node)), None)
    if same is None:
        return False
    left.remove(same)
    return True
