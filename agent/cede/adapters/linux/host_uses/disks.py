"""Uses of disks: mounted file systems, swap, guests' disks, and members of volume groups, arrays and pools.

Sources: proc(5), Documentation/ABI/stable/sysfs-block (holders, slaves), Documentation/admin-guide/bcache.rst,
udev's database (sd-device's device-private.c), OpenZFS' spa_stats.c.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.device_tree import Use

_NUMBER = re.compile(r"^[1-9]\d*:\d+$")  # no block device has major 0
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_FIELDS, _SWAP_FIELDS = 5, 2


class Disks:
    """Finds uses of block devices below `sys_root`."""

    def __init__(self, sys_root: Path, proc_root: Path, run_root: Path, dev_root: Path) -> None:
        self._sys = sys_root
        self._proc = proc_root
        self._run = run_root
        self._dev = dev_root

    def filesystems(self) -> Iterator[Use]:
        """Yield the devices of everything that is mounted where cede runs."""
        for line in text(self._proc / "self/mountinfo").splitlines():
            fields = line.split()
            if len(fields) >= _MOUNT_FIELDS:
                where = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
                yield from self._down(self._numbered(fields[2]), "filesystem", (where,))
        for link in children(self._sys / "fs/btrfs", "*/devices/*"):
            # btrfs mounts have their own device number; the kernel lists the disks here
            yield from self._down(real(link), "filesystem", ("a mounted btrfs",))

    def swaps(self) -> Iterator[Use]:
        """Yield the devices of swap partitions; a swap file is on a mounted file system."""
        for line in text(self._proc / "swaps").splitlines()[1:]:
            fields = line.split()
            if len(fields) >= _SWAP_FIELDS and fields[1] == "partition":
                yield from self._down(self._node(fields[0]), "swap", ("swap",))

    def of_guests(self, disks: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices of the block devices that domains have as disks."""
        for domain, paths in disks.items():
            for path in paths:
                yield from self._down(self._node(path), "guest-disk", (f"the disk of {domain}",))

    def members(self) -> Iterator[Use]:
        """Yield the devices of disks in an active volume group, array or pool, mounted or not."""
        pools = {pool.name for pool in children(self._proc / "spl/kstat/zfs", "*/")}
        for link in children(self._sys / "class/block", "*"):
            block = real(link)
            if block is None:
                continue
            for holder in children(block / "holders", "*"):
                yield from self._down(block, "member", (_label(holder),))
            if pools:
                yield from self._down(block, "member", self._pool(block, pools))

    def _pool(self, block: Path, pools: set[str]) -> tuple[str, ...]:
        """Return the imported ZFS pool of which udev says the block device is a member; empty if none.

        A pool that was imported under another name than udev knows counts too.
        """
        known = text(self._run / "udev/data" / f"b{text(block / 'dev')}").splitlines()
        if "E:ID_FS_TYPE=zfs_member" not in known:
            return ()
        names = [pool for pool in pools if f"E:ID_FS_LABEL={pool}" in known]
        return (f"the ZFS pool {names[0]}" if names else "an imported ZFS pool",)

    def _numbered(self, number: str) -> Path | None:
        return real(self._sys / "dev/block" / number) if _NUMBER.match(number) else None

    def _node(self, path: str) -> Path | None:
        """Return the block device behind a path like `/dev/disk/by-id/...`; None if there is none below `/dev`."""
        if not path.startswith("/dev/"):
            return None
        node = real(self._dev / path.removeprefix("/dev/"))
        root = real(self._dev)
        if node is None or root is None:
            kernels = path.removeprefix("/dev/")  # the kernel's name, without a node
        elif node.is_relative_to(root):
            kernels = str(node.relative_to(root))
        else:
            return None
        return real(self._sys / "class/block" / kernels.replace("/", "!")) or self._of_node(node)

    def _of_node(self, node: Path | None) -> Path | None:
        """Return the block device of a node with another name than the kernel's, such as device-mapper's."""
        try:
            status = node.stat() if node else None
        except OSError:
            return None
        if status is None or not stat.S_ISBLK(status.st_mode):
            return None
        return self._numbered(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")

    def _down(
        self,
        block: Path | None,
        guard: str,
        chain: tuple[str, ...],
        seen: frozenset[Path] = frozenset(),
    ) -> Iterator[Use]:
        """Walk from a block device down through partitions and slaves to the controllers."""
        if block is None or block in seen or not chain:
            return
        chain, seen = (_label(block), *chain), seen | {block}
        disk = block.parent if (block / "partition").exists() else block
        for slave in children(disk, "slaves/*"):
            yield from self._down(real(slave), guard, chain, seen)
        # a cached bcache device links to the folder of its backing disk
        caches = "bcache/cache/cache[0-9]*" if (disk / "bcache").is_symlink() else ""
        for cache in children(disk, caches) if caches else ():
            member = real(cache)  # .../sdc/bcache
            yield from self._down(member and member.parent, guard, chain, seen)
        for path in children(disk.parent, "nvme[0-9]*"):
            # a multipath NVMe disk is in its subsystem, which links to its controllers
            controller = real(path) if path.is_symlink() else None
            if controller is not None:
                yield from controllers(controller, guard, chain)
        yield from controllers(block, guard, chain)


def _label(block: Path) -> str:
    """Return the name, and for device-mapper's `dm-0` its own name too."""
    called = text(block / "dm/name")
    return f"{block.name} ({called})" if called else block.name
