"""The door to what the host is told at boot: the kernel's command line and modprobe.d."""

from __future__ import annotations

from pathlib import Path

from cede.host import kernel_files

# modprobe.d(5), in the order of their rank: a file hides those of the same name in the folders after it.
_FOLDERS = ("etc", "run", "usr/local/lib", "usr/lib", "lib")


def command_line(root: Path = Path("/")) -> str:
    """The command line that the kernel was started with; empty if it can't be read."""
    return kernel_files.text(root / "proc/cmdline")


def modprobe_files(root: Path = Path("/")) -> dict[Path, str]:
    """The text of each modprobe.d file that counts, in the order in which modprobe reads them."""
    found: dict[str, Path] = {}
    for folder in (root / above / "modprobe.d" for above in _FOLDERS):
        for name in kernel_files.listing(folder):
            if name.endswith(".conf"):
                found.setdefault(name, folder / name)
    return {found[name]: kernel_files.text(found[name]) for name in sorted(found)}
