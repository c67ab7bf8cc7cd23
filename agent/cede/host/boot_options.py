"""The door to what the host is told at boot: the kernel's command line, modprobe.d, and what makes its initramfs.

Sources: modprobe.d(5), initramfs-tools(7), dracut.conf(5).
"""

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


def initramfs_makers(root: Path = Path("/")) -> tuple[str, ...]:
    """What this host makes its initramfs with: `initramfs-tools`, `dracut`, both or neither."""
    programs = {
        "initramfs-tools": ("usr/sbin/update-initramfs", "sbin/update-initramfs"),
        "dracut": ("usr/bin/dracut", "usr/sbin/dracut"),
    }
    return tuple(
        maker for maker, paths in programs.items() if any((root / path).exists() for path in paths)
    )


def initramfs_files(root: Path = Path("/")) -> dict[Path, str]:
    """The text of each file that names modules for the initramfs."""
    folders = [root / folder for folder in ("etc/dracut.conf.d", "usr/lib/dracut/dracut.conf.d")]
    files = [root / "etc/initramfs-tools/modules", root / "etc/dracut.conf"]
    for folder in folders:
        files += [folder / n for n in kernel_files.listing(folder) if n.endswith(".conf")]
    found = {path: kernel_files.text(path) for path in files}
    return {path: text for path, text in found.items() if text}
