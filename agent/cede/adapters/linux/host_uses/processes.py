"""One look through all processes: their namespaces, the devices that they have open, and sshd's sockets.

Sources: proc(5), namespaces(7); the kernel's fs/proc/base.c (proc_exe_link), kernel/umh.c and kernel/kthread.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cede.util.kernel_files import listing, readlink, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from cede.adapters.linux.host_uses.nodes import DeviceNumber, Nodes

# what merely watches, and lets go: they open devices again and again, or leave them when these go
_WATCHERS = frozenset({
    "smartd", "udisksd", "multipathd", "systemd-udevd", "(udev-worker)", "udevadm", "udevd", "systemd-logind",
    "plymouthd", "fwupd", "upowerd", "blkid", "lsblk", "lspci", "ata_id", "scsi_id", "cdrom_id", "pvscan", "lvm",
})  # fmt: skip
_NO_DEVICE = ("/dev/null", "/dev/pts/", "/dev/urandom", "/proc/", "/memfd:")
_RESOURCE = "/resource"
_KTHREADD = "2"


class OpenDevice(NamedTuple):
    """A device that the process of that name has open; or a card's memory, by the file in sysfs."""

    process: str
    device: DeviceNumber | None
    resource: str = ""


class Processes(NamedTuple):
    """What one look found. The namespaces are those that cede itself isn't in, each with its processes.

    `holders` are the names of the processes that have each of the sockets that were looked for.
    """

    mount_namespaces: dict[str, list[str]]
    network_namespaces: dict[str, list[str]]
    open_devices: tuple[OpenDevice, ...]
    sshd_sockets: frozenset[str]
    holders: dict[str, list[str]]


def look_through(
    proc: Path, nodes: Nodes, remote: Iterable[str] = (), sought: Collection[str] = ()
) -> Processes:
    """Look at every process once, also for who has the sockets `sought` (`socket:[4711]`).

    Files below the folders `remote` are not touched: their server may not answer. Nothing raises: what a process has
    that ends meanwhile, or that isn't this user's, is left out.
    """
    mounts: dict[str, list[str]] = {}
    networks: dict[str, list[str]] = {}
    files = _Files(nodes, remote, sought)
    threads = _kernel_threads(proc)
    for process in listing(proc):
        if not process.isdecimal() or process in threads:
            continue
        folder = f"{proc}/{process}"
        for spaces, kind in ((mounts, "mnt"), (networks, "net")):
            space = readlink(f"{folder}/ns/{kind}")
            if space:
                spaces.setdefault(space, []).append(process)
        if process != str(os.getpid()):
            files.look(folder)
    for spaces, kind in ((mounts, "mnt"), (networks, "net")):
        spaces.pop(readlink(f"{proc}/self/ns/{kind}"), None)
    return Processes(
        mounts, networks, tuple(files.opened), frozenset(files.sshd_sockets), files.holders
    )


class _Files:
    """What the processes have open, as far as it matters."""

    def __init__(self, nodes: Nodes, remote: Iterable[str], sought: Collection[str]) -> None:
        self._nodes, self._sought = nodes, sought
        self._ignored = (
            *_NO_DEVICE,
            *(f"{where.rstrip('/')}/" for where in remote if where != "/"),
        )
        self.opened: dict[OpenDevice, None] = {}
        self.sshd_sockets: set[str] = set()
        self.holders: dict[str, list[str]] = {}

    def look(self, folder: str) -> None:
        """Look at one process, by its folder in procfs."""
        descriptors = listing(f"{folder}/fd")
        name = text(f"{folder}/comm") if descriptors else ""  # the kernel's threads have none open
        if name in _WATCHERS and not self._sought:
            return
        for descriptor in descriptors:
            path = f"{folder}/fd/{descriptor}"
            target = readlink(path)
            if target in self._sought:
                self.holders.setdefault(target, []).append(name)
            if name in _WATCHERS:
                continue
            if name == "sshd" and target.startswith("socket:"):
                self.sshd_sockets.add(target)
            elif target.startswith("/") and not target.startswith(self._ignored):
                self.opened.update(dict.fromkeys(_device(name, path, target, self._nodes)))


def _kernel_threads(proc: Path) -> frozenset[str]:
    """Return the kernel's own threads, of which a host has hundreds: they have no files, and init's namespaces.

    Programs that the kernel starts are children of kthreadd, too, but have an executable.
    """
    if text(f"{proc}/{_KTHREADD}/comm") != "kthreadd":
        return frozenset()
    children = text(f"{proc}/{_KTHREADD}/task/{_KTHREADD}/children").split()
    # the link can be followed as long as a program runs, though its file be deleted
    return frozenset(c for c in children if not os.access(f"{proc}/{c}/exe", os.F_OK))


def _device(name: str, path: str, target: str, nodes: Nodes) -> Iterator[OpenDevice]:
    """Yield what the open file at `path` is, if it is a device."""
    if target.startswith("/sys/"):
        if _RESOURCE in target:
            yield OpenDevice(name, None, target)
        return
    device = nodes.number(path)
    if device is not None:
        yield OpenDevice(name, device)
