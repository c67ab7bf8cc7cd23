"""dom0 as its recorded files tell it: PCI functions, modules, network, the kernel's log, and what the host lives on.

What the files don't tell is not told: nothing here takes a missing file for a no.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.host_uses.nodes import Nodes
from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.recorded.answers import KERNEL_LOGS, first_text, not_recorded, raise_silence
from cede.adapters.recorded.network_texts import read_network
from cede.errors import PermanentError
from cede.model.host_answers import LOG_HEAD
from cede.model.log_lines import KernelLine
from cede.model.network import Network, Redirect
from cede.model.pci import PCIBACK, UNTOLD, HostUse, Identity
from cede.util.kernel_files import listing, text
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.nodes import DeviceNumber
    from cede.model.host_answers import HostAnswers
    from cede.model.pci import Address, Device, Link
    from cede.model.served import Served
    from cede.util.paths import Paths

_LINE = re.compile(
    r"^(?:<[0-9]{1,3}>)?(?:.{0,64}?\bkernel: ?)?\[ *([0-9]{1,12}\.[0-9]{1,9})\] ?(.*)$"
)
_BARE = re.compile(r"^(?:\[[A-Z][a-z]{2} [^\]]{1,40}\] ?)?(.*)$")
_MAX_LINE, _MAX_LINES = 8192, 262144
_HEX = re.compile(r"0x([0-9a-f]{4,6})")
_DIGITS, _CLASS_DIGITS = 4, 6
_VGA = "0300"


class RecordedSysfs(Sysfs):
    """Reads a recorded tree, in which a function may have the single files instead of `uevent`."""

    def __init__(self, root: Path, answers: HostAnswers) -> None:
        super().__init__(root)
        self._answers = answers

    @property
    def pciback_loaded(self) -> bool:
        """Whether xen-pciback is loaded; where the tree has no drivers at all, that is not told, and none is missed."""
        if self._answers.pciback_loaded is not None:
            return self._answers.pciback_loaded
        return not (self.root / "bus/pci/drivers").is_dir() or super().pciback_loaded

    def identity(self, address: Address) -> Identity | None:
        """Return the identity from `uevent`, else from `vendor`, `device`, `class` and the subsystem's two files."""
        found = super().identity(address)
        if found is not None and re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", str(found)):
            return found
        here = f"{self.root}/bus/pci/devices/{address}"
        vendor, device, maker, model = (
            _number(f"{here}/{name}", _DIGITS)
            for name in ("vendor", "device", "subsystem_vendor", "subsystem_device")
        )
        if not vendor or not device:
            return None
        return Identity(
            vendor=vendor,
            device=device,
            subsystem=f"{maker}:{model}" if maker and model else "",
            class_code=_number(f"{here}/class", _CLASS_DIGITS),
        )

    def devices(self) -> tuple[Device, ...]:
        """Return every PCI function. Raises PermanentError if the tree has none at all."""
        if not listing(self.root / "bus/pci/devices"):
            raise not_recorded("which PCI devices the host has: it has no /sys/bus/pci/devices")
        return super().devices()

    def instance(self, address: Address) -> int | None:  # noqa: ARG002 - the port's
        """Return None: the inode was the kernel's, and that of a copy tells nothing."""
        return None


def _number(path: str, digits: int) -> str:
    found = _HEX.fullmatch(text(path).lower())
    return found[1] if found is not None and len(found[1]) == digits else ""


class RecordedModules(Modules):
    """Reads the modules' configuration in a tree that may lack the programs and lists beside it."""

    def __init__(self, root: Path, answers: HostAnswers) -> None:
        super().__init__(root)
        self._tree, self._answers = root, answers

    def available(self) -> bool | None:
        """Return whether the kernel has xen-pciback; None if not told."""
        recorded = self._answers.pciback_available
        return super().available() if recorded is None else recorded

    def built_in(self) -> bool | None:
        """Return whether xen-pciback is built into the kernel; None if that and the initramfs are not told."""
        recorded = self._answers.pciback_built_in
        if recorded is not None or super().built_in():
            return recorded is None or recorded
        return False if self.initramfs_makers() else None

    def loaded_at_boot(self) -> bool | None:
        """Return whether xen-pciback is loaded at boot; None if not told."""
        if self._answers.pciback_at_boot is not None:
            return self._answers.pciback_at_boot
        return True if super().loaded_at_boot() else None

    def initramfs_makers(self) -> tuple[str, ...]:
        """Return what makes the initramfs: by its programs, else by the folders of its settings."""
        return self._answers.initramfs_makers or super().initramfs_makers() or tuple(
            maker
            for maker, folder in (
                ("initramfs-tools", "etc/initramfs-tools"),
                ("dracut", "etc/dracut.conf.d"),
            )
            if (self._tree / folder).is_dir()
        )  # fmt: skip


class RecordedKernelLog:
    """The kernel's log in a file: the first that has any line."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def lines(self, about: str = "") -> tuple[KernelLine, ...] | None:
        """Return the lines that contain `about`, the oldest first; None if the tree has no log."""
        said = first_text(self._root, KERNEL_LOGS)
        if said is None:
            return None
        lines = said.splitlines()[-_MAX_LINES:]
        return tuple(_line(line) for line in lines if about in line and line != LOG_HEAD)


def _line(said: str) -> KernelLine:
    """Read a line of `dmesg`, with or without times, or of syslog's file."""
    match = _LINE.match(said[:_MAX_LINE])
    if match is not None:
        return KernelLine(seconds_since_boot=float(match[1]), text=one_line(match[2], _MAX_LINE))
    bare = _BARE.match(said[:_MAX_LINE])
    return KernelLine(
        seconds_since_boot=0.0, text=one_line(bare[1] if bare is not None else said, _MAX_LINE)
    )


class RecordedLinks:
    """What `ip` said, to cede or to whoever collected the tree at `root`."""

    def __init__(self, root: Path, answers: HostAnswers) -> None:
        self._root, self._answers = root, answers

    def read(self, names: Collection[str]) -> tuple[Link, ...]:  # noqa: ARG002 - the port's
        """Return nothing: only a change of the host asks for it."""
        return ()

    def network(self) -> Network:
        """Return the recorded network; an empty one if not told, of which `RecordedUses` knows."""
        raise_silence(self._answers.silence("network"))
        return self._answers.network or read_network(self._root) or Network()

    def ways(self, peers: Sequence[str]) -> dict[str, str]:  # noqa: ARG002 - the port's
        """Return nothing."""
        return {}

    def ipsec_ends(self) -> tuple[tuple[str, str], ...]:
        """Return nothing."""
        return ()

    def l2tp_ends(self) -> tuple[tuple[str, str], ...]:
        """Return nothing."""
        return ()

    def redirects(self) -> tuple[Redirect, ...]:
        """Return nothing."""
        return ()


class _NoNodes(Nodes):
    """A tree has no device nodes, and the numbers of this machine's are not the recorded host's."""

    def number(self, path: str) -> DeviceNumber | None:  # noqa: ARG002 - the shape of Nodes
        return None

    def filesystem(self, path: str) -> str | None:  # noqa: ARG002 - the shape of Nodes
        return None

    def held(self, path: str, number: str) -> bool:  # noqa: ARG002 - the shape of Nodes
        return False

    def console_frame_buffers(self, path: str) -> frozenset[int]:  # noqa: ARG002 - the shape of Nodes
        return frozenset()


class RecordedUses:
    """What the host was using: by its own word, else as far as its files tell, and then there may be more.

    A device with a driver through which dom0 has disks, interfaces or the like may be in use in ways that only programs
    and device nodes tell. It gets a use of the guard `untold`, which refuses it.
    """

    def __init__(self, paths: Paths, sysfs: RecordedSysfs, answers: HostAnswers) -> None:
        self._paths, self._sysfs, self._answers = paths, sysfs, answers

    def find(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        """Return the uses by address. Raises the recorded error where the host itself could not tell."""
        raise_silence(self._answers.silence("uses"))
        if self._answers.uses is not None:
            return {one.address: list(one.uses) for one in self._answers.uses}
        paths = self._paths
        uses = HostUses(
            paths.sys,
            paths.proc,
            paths.run,
            paths.dev,
            RecordedLinks(paths.root, self._answers),
            _NoNodes(),
        )
        try:
            found = uses.find(network, served)
        except PermanentError as error:
            found, why = {}, error.message.replace(f"{paths.root}/", "/")
        else:
            why = ""
        nodes = self._sysfs.nodes()
        classes = (paths.sys / "class").is_dir()
        for device in self._sysfs.devices():
            at = device.address
            drives = device.driver is not None and (at in nodes or not classes)
            if (
                device.driver != PCIBACK
                and at not in found
                and (why or drives or self._display(device))
            ):
                use = f"perhaps what is not told: {why or 'what programs, the kernel and the firmware hold'}"
                found[at] = [HostUse(guard=UNTOLD, chain=(str(at), use))]
        return found

    def _display(self, device: Device) -> bool:
        """Whether it is a display of which it isn't told whether the firmware uses it (drivers/pci/pci-sysfs.c)."""
        here = self._paths.sys / "bus/pci/devices" / str(device.address)
        return device.identity.class_code.startswith(_VGA) and not text(here / "boot_vga")
