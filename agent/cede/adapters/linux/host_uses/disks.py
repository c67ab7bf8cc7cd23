"""Uses of disks: mounted file systems, swap, guests' disks, members of volumes and pools, and whatever holds them.

Sources: proc(5), Documentation/ABI/stable/sysfs-block (holders), udev's database (sd-device's device-private.c),
OpenZFS' spa_stats.c, fs/jbd2/journal.c (jbd2_journal_init_dev, jbd2_journal_init_inode: the names below
/proc/fs/jbd2), fs/xfs/xfs_super.c (logdev=, rtdev=).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.block_devices import label, whole
from cede.adapters.linux.host_uses.device_tree import children, real
from cede.util.kernel_files import listing, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.block_devices import BlockDevices
    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.adapters.linux.host_uses.interfaces import Interfaces
    from cede.adapters.linux.host_uses.mounts import Mount
    from cede.adapters.linux.host_uses.nodes import Nodes
    from cede.model.pci import Address

_SWAP_FIELDS = 2
_DEVICE_OPTIONS = frozenset({"logdev", "rtdev", "journal_path", "jdev", "device"})
_NO_MEDIUM = "0"
_OPTICAL = "sr"


class Disks:
    """Finds uses of the block devices that `blocks` knows."""

    def __init__(
        self,
        roots: tuple[Path, Path, Path, Path],
        blocks: BlockDevices,
        interfaces: Interfaces,
        nodes: Nodes,
        mounts: Sequence[Mount],
    ) -> None:
        self._sys, self._proc, self._run, self._dev = roots
        self._blocks = blocks
        self._interfaces = interfaces
        self._nodes = nodes
        self._mounts = mounts

    def filesystems(self) -> Iterator[Use]:
        """Yield the devices of everything that is mounted, in any mount namespace, and those of its journals."""
        for mount in self._mounts:
            chain = (mount.place,)
            yield from self._blocks.down(self._blocks.numbered(mount.number), "filesystem", chain)
            if mount.servers:
                above = (f"{mount.kind} {mount.source}", *chain)
                yield from self._interfaces.to_peers(mount.servers, "filesystem", above)
            for option in mount.options.split(","):
                name, _, path = option.partition("=")
                if name in _DEVICE_OPTIONS:
                    yield from self._blocks.down(self._blocks.node(path), "filesystem", chain)
        for link in children(self._sys / "fs/btrfs", "*/devices/*"):
            # btrfs mounts have their own device number; the kernel lists the disks here
            yield from self._blocks.down(real(link), "filesystem", ("a mounted btrfs",))
        for name in listing(self._proc / "fs/jbd2"):
            # a journal inside its file system has the number of its inode behind the name
            block = self._blocks.named(name)
            yield from self._blocks.down(block, "filesystem", ("the journal of a mounted ext4",))

    def swaps(self) -> Iterator[Use]:
        """Yield the devices of swap partitions; a swap file is on a mounted file system."""
        for line in text(self._proc / "swaps").splitlines()[1:]:
            fields = line.split()
            if len(fields) >= _SWAP_FIELDS and fields[1] == "partition":
                yield from self._blocks.down(self._blocks.node(fields[0]), "swap", ("swap",))

    def of_guests(self, disks: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices of the block devices and files that domains have as disks."""
        for domain, paths in disks.items():
            for path in paths:
                chain = (f"the disk of {domain}",)
                yield from self._blocks.down(self._of_path(path), "guest-disk", chain)

    def _of_path(self, path: str) -> Path | None:
        """Return the block device that a path names, or on which the file is; None for a file of a server."""
        block = self._blocks.node(path)
        if block is not None or not path.startswith("/") or path.startswith("/dev/"):
            return block
        above = [mount for mount in self._mounts if _is_below(path, mount.where)]
        nearest = max(above, key=lambda mount: len(mount.where), default=None)
        if nearest is None or nearest.remote:
            return None  # the server may not answer, and its mount is a use of its own
        device = self._nodes.number(path)
        if device is not None:
            return self._blocks.numbered(device.number) if device.block else None
        return self._blocks.numbered(self._nodes.filesystem(path) or nearest.number)

    def members(self) -> Iterator[Use]:
        """Yield the devices of disks in an active volume group, array or pool, mounted or not."""
        pools = {pool.name for pool in children(self._proc / "spl/kstat/zfs", "*/")}
        for block in self._blocks.all:
            for holder in children(block / "holders", "*"):
                yield from self._blocks.down(block, "member", (label(holder),))
            if pools:
                yield from self._blocks.down(block, "member", self._pool(block, pools))

    def _pool(self, block: Path, pools: set[str]) -> tuple[str, ...]:
        """Return the imported ZFS pool of which udev says the block device is a member; empty if none.

        A pool that was imported under another name than udev knows counts too.
        """
        known = text(self._run / "udev/data" / f"b{text(block / 'dev')}").splitlines()
        if "E:ID_FS_TYPE=zfs_member" not in known:
            return ()
        names = [pool for pool in pools if f"E:ID_FS_LABEL={pool}" in known]
        return (f"the ZFS pool {names[0]}" if names else "an imported ZFS pool",)

    def held(self, kept: Collection[Address]) -> Iterator[Use]:
        """Yield the devices of disks that the kernel refuses to others, where nothing else was found.

        What holds them says no file: it may be a file system that no process sees any more.
        """
        chain = ("what the kernel lets nobody else take",)
        for block in self._blocks.all:
            if block.name.startswith(_OPTICAL) or text(block / "size") == _NO_MEDIUM:
                continue
            if whole(block) != block:
                continue  # a held partition holds its disk
            uses = list(self._blocks.down(block, "held", chain))
            if not uses or all(address in kept for address, _ in uses):
                continue
            node = self._dev / block.name.replace("!", "/")
            if self._nodes.held(str(node), text(block / "dev")):
                yield from uses


def _is_below(path: str, where: str) -> bool:
    return path == where or path.startswith(f"{where.rstrip('/')}/")
