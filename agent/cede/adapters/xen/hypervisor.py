"""The adapter to the hypervisor: which guest really owns a device, what Xen logged, and the last way out of a guest.

xenstore has what toolstacks wrote; the hypervisor has what the IOMMU is programmed to. Both differ after a toolstack
died during an attach. Uses Xen's own Python binding, which xen-utils installs in a folder of its own.
Source: tools/python/xen/lowlevel/xc/xc.c, xen/drivers/passthrough/pci.c (test_assign_device, dump_pci_devices).
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cede.errors import PermanentError
from cede.model.domain import Silence
from cede.model.log_lines import iommu_faults, own_lines
from cede.util.kernel_files import text
from cede.util.log import log_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cede.model.pci import Address

_INITIAL_DOMAIN = 1 << 11  # XENFEAT_dom0, xen/include/public/features.h
_KEY_THAT_LISTS_DEVICES = "Q"
_NO_DOMAIN = 0x7FF4  # DOMID_INVALID: asks whether any guest may get the device
_SUSPENDED, _CRASHED = 2, 3  # SHUTDOWN_suspend and _crash, xen/include/public/sched.h
_NO_IOMMU = -1  # the binding's ENOSYS; else 0, or the device that can't be given
_ERRORS = (Exception,)  # xen.lowlevel.xc.Error, unknown before the binding is loaded
_NO_BINDING = "shut the guest down: its end frees all its devices"


def binding(libraries: Path, version: Path) -> Any:  # noqa: ANN401 - no types
    """Load the binding of the running Xen; None without Xen, or if that version has none."""
    try:
        number = ".".join((version / part).read_text().strip() for part in ("major", "minor"))
        sys.path.append(str(libraries / f"xen-{number}/lib/python"))
        return log_calls(import_module("xen.lowlevel.xc").xc(), "xc")
    except Exception:  # noqa: BLE001 - the binding raises its own, and OSError, and ImportError
        return None


class Hypervisor:
    """Opened by `find` at the first question; where there is no binding it says that it doesn't know.

    `files` is what the kernel tells of Xen (normally `/sys/hypervisor`).
    """

    def __init__(self, files: Path, find: Callable[[], Any]) -> None:
        self._files = files
        self._find = find
        self._given: Any = None
        self._looked = False

    @property
    def _xc(self) -> Any:  # noqa: ANN401 - no types
        if not self._looked:
            self._given, self._looked = self._find(), True
        return self._given

    def kind(self) -> str:
        """Return the hypervisor below this system: `xen`, or empty on bare metal (/sys/hypervisor/type)."""
        return text(self._files / "type")

    def is_dom0(self) -> bool | None:
        """Return whether this is Xen's initial domain; None if unknown."""
        try:
            return bool(int(text(self._files / "properties/features"), 16) & _INITIAL_DOMAIN)
        except ValueError:
            return None

    def virtualisation(self) -> tuple[str, ...]:
        """Return Xen's virt_caps as `xl info` shows them; empty if unknown."""
        return tuple(self._ask("physinfo", "virt_caps").split())

    def command_line(self) -> str:
        """Return Xen's command line; empty if unknown."""
        return self._ask("xeninfo", "xen_commandline")

    def _ask(self, question: str, name: str) -> str:
        if self._xc is None:
            return ""
        try:
            return str(getattr(self._xc, question)().get(name, ""))
        except _ERRORS:
            return ""

    def in_guest(self, address: Address) -> bool | None:
        """Return whether a guest owns the device; None if unknown.

        False means dom0, or the quarantine in which Xen puts a device that leaves a guest. Of what it has no number for
        Xen is not asked: the binding cuts the segment off at 16 bits.
        """
        if address.beyond_xen:
            return False
        if self._xc is None:
            return None
        try:
            refused = self._xc.test_assign_device(_NO_DOMAIN, _spelt(address))
        except _ERRORS:
            return None
        return None if refused == _NO_IOMMU else bool(refused)

    def silences(self) -> Mapping[int, Silence]:
        """Return by its id each domain that doesn't run now, and why; empty if Xen can't be asked.

        A guest that saves itself has shut down with the reason "suspend". Source: tools/python/xen/lowlevel/xc/xc.c
        (pyxc_domain_getinfo).
        """
        if self._xc is None:
            return {}
        try:
            states = [(int(one["domid"]), _silence(one)) for one in self._xc.domain_getinfo()]
        except _ERRORS:
            return {}
        return {domid: silence for domid, silence in states if silence is not None}

    def quarantined(self, address: Address) -> bool | None:
        """Return whether the device is in Xen's quarantine; None if unknown.

        Makes Xen print a line for each device of the host, also on a serial console: call this rarely.
        """
        if address.beyond_xen:
            return False
        owner = self._owner(address)
        return None if owner is None else not re.fullmatch(r"d\d+", owner)

    def _owner(self, address: Address) -> str | None:
        if self._xc is None:
            return None
        try:
            self._xc.send_debug_keys(_KEY_THAT_LISTS_DEVICES)
        except _ERRORS:
            return None
        found = re.findall(
            rf"^\(XEN\) .*?{re.escape(str(address))} - (\S+)", self.log() or "", re.MULTILINE
        )
        return found[-1] if found else None

    def log(self) -> str | None:
        """Return Xen's own lines in its ring buffer (`xl dmesg`), as many as that holds; None if unreadable."""
        if self._xc is None:
            return None
        try:
            said = self._xc.readconsolering()
        except _ERRORS:
            return None
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return own_lines(text)

    def faults(self, address: Address) -> int | None:
        """Count the DMA faults of the device in Xen's log (VT-d and AMD-Vi); None if the log is unreadable."""
        log = self.log()
        if log is None:
            return None
        return sum(fault.address == address for fault in iommu_faults(log.splitlines()))

    def deassign(self, domid: int, address: Address) -> None:
        """Take the device from the guest `domid` when no toolstack lists it there; Xen quarantines the device.

        Raises PermanentError if Xen refuses, or there is no binding.
        """
        if self._xc is None:
            raise PermanentError(
                f"cede can't take {address} from domain {domid}: Xen's Python binding is missing",
                name="xen-binding-missing",
                remedy=_NO_BINDING,
            )
        try:
            refused = self._xc.deassign_device(domid, _spelt(address))
        except _ERRORS as error:
            raise PermanentError(
                f"Xen does not take {address} from domain {domid}: {error}",
                name="deassign-failed",
                remedy=_NO_BINDING,
            ) from error
        if refused:
            raise PermanentError(
                f"Xen does not take {address} from domain {domid}",
                name="deassign-failed",
                remedy=_NO_BINDING,
            )


def _silence(info: Mapping[str, int]) -> Silence | None:
    if info.get("dying"):
        return Silence.SHUTTING_DOWN
    if info.get("crashed"):
        return Silence.CRASHED
    if info.get("shutdown"):
        reasons = {_SUSPENDED: Silence.SAVING, _CRASHED: Silence.CRASHED}
        return reasons.get(info.get("shutdown_reason", -1), Silence.SHUTTING_DOWN)
    return Silence.PAUSED if info.get("paused") else None


def _spelt(address: Address) -> str:
    """Return the address as the binding reads it: four hexadecimal numbers with commas."""
    return f"{address.segment:#x},{address.bus:#x},{address.slot:#x},{address.function:#x}"
