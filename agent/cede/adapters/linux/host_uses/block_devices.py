"""From a block device, by its number or a path to it, down to the PCI functions that it needs.

Sources: Documentation/ABI/stable/sysfs-block (slaves), Documentation/admin-guide/bcache.rst and aoe/aoe.rst, the
kernel's drivers/scsi/scsi_transport_iscsi.c, drivers/scsi/fcoe/fcoe_sysfs.c and drivers/nvme/host/multipath.c (how
paths in sysfs are built).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real, used_for
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.connections import Session
    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.adapters.linux.host_uses.interfaces import Interfaces
    from cede.adapters.linux.host_uses.nodes import Nodes

_NUMBER = re.compile(r"^[1-9]\d{0,5}:\d{1,8}$")  # no block device has major 0


class BlockDevices:
    """Finds block devices below `sys_root` and `dev_root`; those of a storage server lie on network interfaces.

    It serves one look at the host, in which each block device is walked once.
    """

    def __init__(
        self,
        sys_root: Path,
        dev_root: Path,
        nodes: Nodes,
        interfaces: Interfaces,
        sessions: Sequence[Session],
    ) -> None:
        self._sys = sys_root
        self._dev = dev_root
        self._nodes = nodes
        self._interfaces = interfaces
        self._sessions = {session.name: session for session in sessions}
        self._walked: dict[Path, list[Use]] = {}

    @cached_property
    def all(self) -> tuple[Path, ...]:
        """Every block device, whole disks and partitions, in the order of their names."""
        found = map(real, children(self._sys / "class/block", "*"))
        return tuple(block for block in found if block is not None)

    def numbered(self, number: str) -> Path | None:
        """Return the block device with the number `8:1`; None if there is none."""
        return real(f"{self._sys}/dev/block/{number}") if _NUMBER.match(number) else None

    def named(self, name: str) -> Path | None:
        """Return the block device with the kernel's name `sda1`; None if there is none."""
        plain = name.replace("/", "!")
        return real(self._sys / "class/block" / plain) if plain.strip("!.") else None

    def node(self, path: str) -> Path | None:
        """Return the block device behind a path like `/dev/disk/by-id/...` or a number; None if there is none."""
        if _NUMBER.match(path):
            return self.numbered(path)
        if not path.startswith("/dev/"):
            return None
        node = real(self._dev / path.removeprefix("/dev/"))
        root = real(self._dev)
        if node is None or root is None:
            return self.named(path.removeprefix("/dev/"))  # the kernel's name, without a node
        if not node.is_relative_to(root):
            return None
        found = self._nodes.number(str(node))  # device-mapper's names are not the kernel's
        if found is not None:
            return self.numbered(found.number) if found.block else None
        return self.named(str(node.relative_to(root)))

    def down(self, block: Path | None, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        """Yield the controllers or network cards below a block device, through partitions and slaves."""
        if block is None or not chain:
            return
        if block not in self._walked:
            self._walked[block] = list(self._walk(block, guard, (), frozenset()))
        yield from used_for(self._walked[block], guard, chain)

    def _walk(
        self, block: Path | None, guard: str, chain: tuple[str, ...], seen: frozenset[Path]
    ) -> Iterator[Use]:
        if block is None or block in seen:
            return
        chain, seen = (label(block), *chain), seen | {block}
        disk = whole(block)
        for slave in children(disk, "slaves/*"):
            yield from self._walk(real(slave), guard, chain, seen)
        # a cached bcache device links to the folder of its backing disk
        caches = "bcache/cache/cache[0-9]*" if (disk / "bcache").is_symlink() else ""
        for cache in children(disk, caches) if caches else ():
            member = real(cache)  # .../sdc/bcache
            yield from self._walk(member and member.parent, guard, chain, seen)
        for path in children(disk.parent, "nvme[0-9]*"):
            # a multipath NVMe disk is in its subsystem, which links to its controllers
            controller = real(path) if path.is_symlink() else None
            if controller is not None:
                yield from self._device(controller, guard, chain)
        for name in text(disk / "netif").replace(",", " ").split():  # ATA over Ethernet
            yield from self._interfaces.down(name, guard, chain)
        yield from self._device(block, guard, chain)

    def device(self, path: Path, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        """Yield what any device's resolved path in sysfs needs, named in the chain."""
        yield from self._device(path, guard, (path.name, *chain))

    def _device(self, path: Path, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        parts = path.parts
        yield from controllers(path, guard, chain)
        for part in parts:
            session = self._sessions.get(part)
            if session is not None:
                above = (session.what, *chain)
                yield from self._interfaces.to_peers(session.addresses, guard, above)
        if "net" in parts[:-1]:  # Fibre Channel over Ethernet, or a macvtap
            name = parts[parts.index("net") + 1]
            yield from self._interfaces.down(name, guard, chain)


def whole(block: Path) -> Path:
    """Return the disk of a partition, and any other block device as it is."""
    return block.parent if (block / "partition").exists() else block


def label(block: Path) -> str:
    """Return the name, and for device-mapper's `dm-0` its own name too."""
    called = text(block / "dm/name")
    return f"{block.name} ({called})" if called else block.name
