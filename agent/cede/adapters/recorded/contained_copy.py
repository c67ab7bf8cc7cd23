"""A private copy of a host's tree in which nothing leads out, so that adapters may read a stranger's files.

Whoever made the tree may have put links, pipes and device nodes into it. Links are resolved as if the tree was the root
file system (path_resolution(7), chroot(2)); what is neither a file, a folder nor a link, and what can't be read, is in
the copy a link to itself: opening that fails, so that it is not taken for a file that isn't there.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from cede.adapters.recorded.answers import ANSWERS_FILES, LOGS
from cede.adapters.recorded.network_texts import NETWORK_TEXTS
from cede.errors import PermanentError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# what an adapter reads; a sosreport has much more
PARTS = (
    "sys/bus", "sys/class", "sys/block", "sys/dev", "sys/devices", "sys/fs", "sys/hypervisor", "sys/kernel",
    "sys/module", "proc", "etc/modules", "etc/modules-load.d", "etc/modprobe.d", "etc/initramfs-tools",
    "etc/dracut.conf", "etc/dracut.conf.d", "etc/default", "etc/cede", "etc/libvirt/libxl", "run/modprobe.d",
    "run/modules-load.d", "lib/modules", "usr/local/lib/modprobe.d", "usr/local/lib/modules-load.d",
    "usr/lib/modprobe.d", "usr/lib/modules-load.d", "usr/lib/modules", "usr/share/initramfs-tools",
    "usr/lib/dracut/modules.d/90qubes-pciback",
    "usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/cede/journal.db", *ANSWERS_FILES, *LOGS,
    *NETWORK_TEXTS, "etc/inittab", "run/systemd/system",
)  # fmt: skip
_SKIPPED = frozenset(
    {
        ("sys", "kernel", "debug"),
        ("sys", "kernel", "tracing"),
        ("sys", "kernel", "slab"),
        ("sys", "kernel", "irq"),
        ("sys", "fs", "cgroup"),
        ("sys", "devices", "system"),
    }
)
_SKIPPED_NAMES = frozenset({"task", "map_files", "kcore"})
_MODULE_LISTS = ("modules.dep", "modules.builtin")
_MAX_FILE, _MAX_BYTES, _MAX_ENTRIES = 8 << 20, 256 << 20, 1 << 20
_MAX_LINKS = 40  # as the kernel follows
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def contained_copy(tree: Path) -> Iterator[Path]:
    """Yield a copy of what adapters read below `tree`, for this user only; it is removed afterwards.

    Other file systems that are mounted below `tree` are no part of it. Of a log of more than 8 MiB the end is copied.
    Raises UsageError if `tree` is no folder that can be read, or has more than a million files or 256 MiB,
    PermanentError if the copy can't be written.
    """
    try:
        root = tree.resolve(strict=True)
        os.close(os.open(root, _FOLDER))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{tree} can't be read: {getattr(error, 'strerror', None) or error}",
            name="no-tree",
            remedy="name a folder with sys/, proc/ and etc/ of a host, as `cede report` writes it and tar unpacks it",
        ) from error
    with _writing():
        made = TemporaryDirectory(prefix="cede-root-")
    with made as folder:
        copy = _Copy(root, Path(folder))
        for part in PARTS:
            copy.take(part.split("/"))
        yield Path(folder)


class _Copy:
    def __init__(self, root: Path, copy: Path) -> None:
        self._root = root
        self._copy = copy
        self._device = root.stat().st_dev
        self._bytes, self._entries = _MAX_BYTES, _MAX_ENTRIES

    def take(self, parts: Sequence[str]) -> None:
        """Copy what is there, folder by folder; a link on the way is copied and not followed."""
        opened = [os.open(self._root, _FOLDER)]
        try:
            for number, name in enumerate(parts):
                at, last = tuple(parts[:number]), number == len(parts) - 1
                status = _status(name, opened[-1])
                if status is None:
                    return
                if last or not stat.S_ISDIR(status.st_mode):
                    self._entry(opened[-1], at, name)
                    return
                opened.append(os.open(name, _FOLDER, dir_fd=opened[-1]))
                self._make((*at, name))
        except OSError:
            self._unreadable(tuple(parts))
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _folder(self, parts: tuple[str, ...], within: int) -> None:
        try:
            folder = os.open(parts[-1], _FOLDER, dir_fd=within)
        except OSError:
            self._unreadable(parts)
            return
        try:
            if os.fstat(folder).st_dev != self._device:
                return
            names = os.listdir(folder)  # noqa: PTH208 - of an open folder
            self._make(parts)
            for name in names:
                if _wanted(parts, name):
                    self._entry(folder, parts, name)
        except OSError:
            self._unreadable(parts)
        finally:
            os.close(folder)

    def _entry(self, folder: int, at: tuple[str, ...], name: str) -> None:
        self._entries -= 1
        if self._entries < 0:
            raise _too_large(self._root)
        status, path = _status(name, folder), (*at, name)
        if status is None or os.path.lexists(self._made(path)):
            return
        if stat.S_ISDIR(status.st_mode):
            self._folder(path, folder)
        elif stat.S_ISLNK(status.st_mode):
            self._link(path, os.readlink(name, dir_fd=folder))
        elif not stat.S_ISREG(status.st_mode):
            self._unreadable(path)
        else:
            self._file(folder, path, name)

    def _file(self, folder: int, path: tuple[str, ...], name: str) -> None:
        try:
            source = os.open(name, _FILE, dir_fd=folder)
        except OSError:
            self._unreadable(path)
            return
        with os.fdopen(source, "rb") as file:
            status = os.fstat(source)
            large = status.st_size > _MAX_FILE
            if not stat.S_ISREG(status.st_mode) or (large and "/".join(path) not in LOGS):
                self._unreadable(path)
                return
            try:
                if large:
                    file.seek(-_MAX_FILE, os.SEEK_END)
                said = file.read(_MAX_FILE)
            except OSError:
                self._unreadable(path)
                return
        self._bytes -= len(said)
        if self._bytes < 0:
            raise _too_large(self._root)
        with _writing():
            self._made(path).write_bytes(said)

    def _link(self, path: tuple[str, ...], target: str) -> None:
        inside = self._inside(path[:-1], target)
        if inside is None:
            self._unreadable(path)
            return
        with _writing():
            self._made(path).symlink_to(os.path.relpath(Path("/", *inside), Path("/", *path[:-1])))

    def _inside(self, folder: tuple[str, ...], target: str) -> list[str] | None:
        """Where a link in a real folder of the tree leads to, without links but for the last part; None if nowhere."""
        own = f"{self._root}/"
        if target.startswith(own):  # it names the tree by its place on this machine
            target = "/" + target.removeprefix(own)
        found = [] if target.startswith("/") else list(folder)
        left = deque(target.split("/"))
        links = 0
        while left:
            part = left.popleft()
            if part in {"", "."}:
                continue
            if part == "..":
                found = found[:-1]  # that of the root is the root
                continue
            if left:
                try:
                    further = str(Path(self._root, *found, part).readlink())
                except OSError:
                    further = ""
                if further:
                    links += 1
                    if links > _MAX_LINKS:
                        return None
                    further = (
                        "/" + further.removeprefix(own) if further.startswith(own) else further
                    )
                    found = [] if further.startswith("/") else found
                    left.extendleft(reversed(further.split("/")))
                    continue
            found.append(part)
        return found

    def _unreadable(self, path: tuple[str, ...]) -> None:
        made = self._made(path)
        if not os.path.lexists(made):
            with _writing():
                made.symlink_to(made.name)

    def _make(self, path: tuple[str, ...]) -> None:
        with _writing():
            self._made(path).mkdir(exist_ok=True)

    def _made(self, path: tuple[str, ...]) -> Path:
        return Path(self._copy, *path)


def _wanted(folder: tuple[str, ...], name: str) -> bool:
    """Whether an adapter may read this: of the modules of a kernel only the lists, and nothing large."""
    if folder[-3:-1] == ("lib", "modules"):
        return name in _MODULE_LISTS
    return (*folder, name) not in _SKIPPED and name not in _SKIPPED_NAMES


@contextmanager
def _writing() -> Iterator[None]:
    """Tell a copy that can't be written from a file that can't be read."""
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"a host's files can't be copied to {gettempdir()}: {error.strerror}",
            name="no-temporary-folder",
            remedy="set TMPDIR to a folder with room that you can write to",
        ) from error


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (OSError, ValueError):
        return None


def _too_large(tree: Path) -> UsageError:
    return UsageError(
        f"{tree} has more than {_MAX_ENTRIES} files or {_MAX_BYTES >> 20} MiB of what cede reads",
        name="tree-too-large",
        remedy="copy sys/, proc/ and etc/ alone into a folder of their own",
    )
