"""The archive format of an initramfs ("newc"), written without root and the same every time.

Format: the Linux kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from dataclasses import dataclass, field

_TRAILER = "TRAILER!!!"


@dataclass(slots=True, kw_only=True)
class Archive:
    """An archive that grows; all in it belongs to root."""

    _content: bytearray = field(default_factory=bytearray)
    _known: set[str] = field(default_factory=set)
    _inode: int = 0

    def add_folder(self, path: str) -> None:
        """Add the folder `path` and those above it."""
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self._known:
                self._write(folder, stat.S_IFDIR | 0o755, b"")

    def add_file(self, path: str, content: bytes | str, *, executable: bool = False) -> None:
        """Add a file, and the folders above it."""
        self._add_parent(path)
        data = content.encode() if isinstance(content, str) else content
        self._write(path.strip("/"), stat.S_IFREG | (0o755 if executable else 0o644), data)

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link, and the folders above it."""
        self._add_parent(path)
        self._write(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        """The whole archive."""
        self._write(_TRAILER, 0, b"")
        return bytes(self._content)

    def _add_parent(self, path: str) -> None:
        parent = path.strip("/").rpartition("/")[0]
        if parent:
            self.add_folder(parent)

    def _write(self, name: str, mode: int, data: bytes) -> None:
        self._known.add(name)
        self._inode += 1
        encoded = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor/minor, rdevmajor/minor, namesize,
        # check
        numbers = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = "070701" + "".join(f"{number:08x}" for number in numbers)
        self._content += header.encode() + encoded
        self._pad()
        self._content += data
        self._pad()

    def _pad(self) -> None:
        self._content += b"\0" * (-len(self._content) % 4)
