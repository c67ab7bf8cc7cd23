"""QEMU itself: that of Debian 13, run out of a folder, whatever this machine's own release is.

One emulator everywhere, so that a snapshot and what was measured on it mean the same on every machine.
"""

from dataclasses import dataclass
from pathlib import Path

from . import debian_root, root_programs
from .store import Recipe

_SUITE = "trixie"
_PACKAGES = ("ipxe-qemu", "qemu-system-x86", "qemu-utils", "seabios")
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_NEEDS_MIB = 700


def recipe() -> Recipe:
    """How the folder `root` with QEMU in it is built."""
    return debian_root.recipe(
        "qemu",
        suite=_SUITE,
        packages=_PACKAGES,
        purpose="QEMU (downloads about 60 MB)",
        needs_mib=_NEEDS_MIB,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuPrograms:
    """QEMU's programs in the artifact `folder`, each as the beginning of a command line."""

    folder: Path

    @property
    def system(self) -> list[str]:
        """The emulator, told where its firmware is."""
        firmware = [word for name in _FIRMWARE for word in ("-L", str(self._root / name))]
        return [*self._program("qemu-system-x86_64"), *firmware]

    @property
    def image(self) -> list[str]:
        """qemu-img(1)."""
        return self._program("qemu-img")

    @property
    def _root(self) -> Path:
        return self.folder / "root"

    def _program(self, name: str) -> list[str]:
        return root_programs.command(self._root, f"usr/bin/{name}", name=name)
