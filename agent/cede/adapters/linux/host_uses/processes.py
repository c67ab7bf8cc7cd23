"""One look through all processes: their namespaces, the devices that they have open, and sshd's sockets.

Sources: proc(5), namespaces(7); the kernel's fs/proc/base.c (proc_exe_link), kernel/umh.c and kernel/kthread.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cede.util.kernel_files import listing, readlink, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
    """What one look found. The namespaces are those that cede itself isn't in, each with its processes."""

    mount_namespaces: dict[str, list[str]]
    network_namespaces: dict[str, list[str]]
    open_devices: tuple[OpenDevice, ...]
    sshd_sockets: frozenset[str]


def look_through(proc: Path, nodes: Nodes, remote: Iterable[str] = ()) -> Processes:
    """Look at every process once. Files below the folders `remote` are not touched: their server may not answer.

    Nothing raises: what a process has that ends meanwhile, or that isn't this user's, is left out.
    """
    ignored = (*_NO_DEVICE, *(f"{where.rstrip('/')}/" for where in remote if where != "/"))
    mounts: dict[str, list[str]] = {}
    networks: dict[str, list[str]] = {}
    opened: dict[OpenDevice, None] = {}
    sockets: set[str] = set()
    threads = _kernel_threads(proc)
    for process in listing(proc):
        if not process.isdecimal() or process in threads:
            continue
        folder = f"{proc}/{process}"
        for spaces, kind in ((mounts, "mnt"), (networks, "net")):
            space = readlink(f"{folder}/ns/{kind}")
            if space:
                spaces.setdefault(space, []).append(process)
        descriptors = [] if process == str(os.getpid()) else listing(f"{folder}/fd")
        name = text(f"{folder}/comm") if descriptors else ""  # the kernel's threads have none open
        if name in _WATCHERS:
            continue
        for descriptor in descriptors:
            path = f"{folder}/fd/{descriptor}"
            target = readlink(path)
            if name == "sshd" and target.startswith("socket:"):
                sockets.add(target)
            elif target.startswith("/") and not target.startswith(ignored):
                opened.update(dict.fromkeys(_device(name, path, target, nodes)))
    for spaces, kind in ((mounts, "mnt"), (networks, "net")):
        spaces.pop(readlink(f"{proc}/self/ns/{kind}"), None)
    return Processes(mounts, networks, tuple(opened), frozenset(sockets))


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
