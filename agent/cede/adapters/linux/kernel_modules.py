"""The adapter to dom0's module configuration: is xen-pciback available, with which options, and loaded at boot.

Sources: modprobe.d(5), modules-load.d(5), Debian's modules(5) and kmod.init, modules.dep(5), initramfs-tools(7),
mkinitramfs, dracut.conf(5), the kernel's
Documentation/admin-guide/kernel-parameters.rst.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from cede.adapters.linux.grub_defaults import grub_variables
from cede.errors import PermanentError
from cede.model.hide_settings import INITRAMFS_LISTS, LOADERS, UNREAD_LISTS
from cede.model.pciback_options import (
    MODULE,
    OLD_NAME,
    is_pciback,
    names_pciback,
    names_with_arguments,
)
from cede.util.kernel_files import listing, matching, readlink, realpath, text

_OWN_FILE = "etc/modules-load.d/cede.conf"
_HEAD = "# Written by cede: devices go to Xen guests by way of this module.\n"
_ROOTS = ("etc", "run", "usr/local/lib", "usr/lib")
_OPTIONS = re.compile(
    r"^\s*(?:(?:options|blacklist|install)\s+(?:xen[-_])?pciback(?:\s|$)|(?:install|softdep)\s.*\bpciback\b|alias\s.*pciback\b)"
)
# in the order in which mkinitramfs reads them
_INITRAMFS_LISTS = (INITRAMFS_LISTS[0], f"{INITRAMFS_LISTS[1]}*")
_SYSTEM_LIST, _INITTAB = "etc/modules", "etc/inittab"
_QUBES = "usr/lib/dracut/modules.d/90qubes-pciback"
_DRACUT = ("etc/dracut.conf", "etc/dracut.conf.d/*.conf")
_MAKERS = {
    "initramfs-tools": ("usr/sbin/update-initramfs", "sbin/update-initramfs"),
    "dracut": ("usr/bin/dracut", "usr/sbin/dracut"),
}
_COMMENT = re.compile(r"[#;].*")
_MODE = 0o644


def _loads(word: str) -> bool:
    """Whether a word of the command line loads xen-pciback; `xen-pciback.hide=` alone does not."""
    name, _, value = word.partition("=")
    return name in LOADERS and any(is_pciback(module) for module in value.split(","))


class Modules:
    """Reads and writes below `root` (normally `/`)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def available(self) -> bool | None:
        """Return whether the running kernel has xen-pciback, built in or as a module; None if unknown."""
        release = text(self._root / "proc/sys/kernel/osrelease")
        folder = self._root / "lib/modules" / release
        lists = [text(folder / name) for name in ("modules.dep", "modules.builtin")]
        if not release or not any(lists):
            return None
        return any(re.search(rf"/{MODULE}\.ko\b", said) for said in lists)

    def loaded(self) -> str | None:
        """Return how xen-pciback is loaded: `module` or `built in`; None if not loaded."""
        if not (self._root / "sys/module/xen_pciback").is_dir():
            return None
        lines = text(self._root / "proc/modules").splitlines()
        return "module" if any(is_pciback(line.split(" ")[0]) for line in lines) else "built in"

    def built_in(self) -> bool | None:
        """Return whether xen-pciback is built into the kernel; here that can be told."""
        release = text(self._root / "proc/sys/kernel/osrelease")
        return f"/{MODULE}.ko" in text(self._root / "lib/modules" / release / "modules.builtin")

    def modprobe_files(self) -> dict[str, str]:
        """Return the text of each effective modprobe.d file, by path, in the order in which modprobe reads them."""
        return {f"/{path}": text(self._root / path) for path in self._files("modprobe.d")}

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return modprobe's lines about xen-pciback, under either name, as (path, line).

        A file in /etc hides its namesakes. A backslash at the end continues a line.
        """
        return tuple(
            (path, line.strip())
            for path, said in self.modprobe_files().items()
            for line in said.replace("\\\n", " ").splitlines()
            if _OPTIONS.match(line)
        )

    def kernel_command_line(self) -> str:
        """Return the command line of dom0's kernel."""
        return text(self._root / "proc/cmdline")

    def module_lists(self) -> tuple[tuple[str, str], ...]:
        """Return the lines of lists of modules that begin with xen-pciback's name or the old one, as (path, line).

        The initramfs' lists come first, each in the order in which it is read.
        """
        return tuple(
            (f"/{path}", line.strip())
            for path in (*self._initramfs_lists(), *self._system_lists())
            for line in text(self._root / path).splitlines()
            if (words := line.split()) and (is_pciback(words[0]) or words[0] == OLD_NAME)
        )

    def qubes_initramfs(self) -> bool:
        """Return whether dracut makes an initramfs with Qubes' part, which reads `rd.qubes.hide_pci`."""
        return (self._root / _QUBES).is_dir()

    def next_command_lines(self) -> tuple[tuple[str, str, str], ...]:
        """Return the command lines that GRUB has for the next boot: file, name and value of each variable."""
        return grub_variables(self._root)

    def sysvinit(self) -> bool:
        """Return whether sysvinit loads the modules of the system's lists, each with the arguments behind its name.

        Where that can't be told, it is systemd that does.
        """
        if (self._root / "run/systemd/system").is_dir() or not (self._root / _INITTAB).is_file():
            return False
        first = f"{text(self._root / 'proc/1/comm')} {readlink(self._root / 'sbin/init')}"
        return "systemd" not in first

    def loaders(self) -> tuple[str, ...]:
        """Return what loads xen-pciback at boot: files that name it, and words of the kernel's command line.

        A line of systemd's lists that says more than a name loads nothing.
        """
        system, early = self._system_lists(), self._initramfs_lists()
        names = names_with_arguments if self.sysvinit() else names_pciback
        found = [f"/{path}" for path in system if names(text(self._root / path))]
        found += dict.fromkeys(
            path
            for path, line in self.module_lists()
            if path.lstrip("/") in early
            and not path.startswith(UNREAD_LISTS)
            and is_pciback(line.split()[0])
        )
        found += [f"/{path}" for path in self._matching(_DRACUT) if self._added(path)]
        found += [word for word in self.kernel_command_line().split() if _loads(word)]
        return tuple(found)

    def loaded_at_boot(self) -> bool | None:
        """Return whether xen-pciback is built in, or something loads it at boot; here that can be told."""
        return self.built_in() or bool(self.loaders())

    def initramfs_makers(self) -> tuple[str, ...]:
        """Return what makes this host's initramfs: `initramfs-tools`, `dracut`, both or neither."""
        return tuple(
            maker
            for maker, paths in _MAKERS.items()
            if any((self._root / path).exists() for path in paths)
        )

    def own_file(self) -> str | None:
        """Return the text of cede's own file in modules-load.d; None if there is none."""
        path = self._root / _OWN_FILE
        return text(path) + "\n" if path.exists() else None

    def load_at_boot(self) -> None:
        """Add xen-pciback to cede's own file, whose other lines stay. Raises PermanentError if the write fails."""
        was = self.own_file()
        if was is None or not names_pciback(was):
            self._write((was or _HEAD) + f"{MODULE}\n")

    def dont_load_at_boot(self) -> None:
        """Remove xen-pciback from cede's own file, and the file if nothing else is left. Raises PermanentError."""
        kept = [line for line in (self.own_file() or "").splitlines() if not names_pciback(line)]
        if any(line.strip() and not line.startswith(("#", ";")) for line in kept):
            self._write("\n".join(kept) + "\n")
            return
        with suppress(FileNotFoundError):
            try:
                (self._root / _OWN_FILE).unlink()
            except PermissionError as error:
                raise PermanentError(
                    f"/{_OWN_FILE} can't be removed: {error.strerror}", name="file-unwritable"
                ) from error

    def _files(self, kind: str) -> list[str]:
        """Return the effective files, by name: a file in /etc hides its namesakes below."""
        found: dict[str, str] = {}
        for folder in (f"{root}/{kind}" for root in reversed(_ROOTS)):
            for name in listing(self._root / folder):
                if name.endswith(".conf"):
                    found[name] = f"{folder}/{name}"
        return [found[name] for name in sorted(found)]

    def _initramfs_lists(self) -> list[str]:
        """Return the lists of initramfs-tools, last those that people take for one, which mkinitramfs doesn't read."""
        patterns = (*_INITRAMFS_LISTS, f"{UNREAD_LISTS}*")
        return self._matching(tuple(pattern.lstrip("/") for pattern in patterns))

    def _system_lists(self) -> list[str]:
        """Return systemd's lists; /etc/modules is one of them by a link of Debian's, and is named once."""
        own = realpath(self._root / _SYSTEM_LIST)
        others = [path for path in self._files("modules-load.d") if realpath(self._root / path) != own]  # fmt: skip
        return [*others, *self._matching((_SYSTEM_LIST,))]

    def _matching(self, patterns: tuple[str, ...]) -> list[str]:
        return [path for pattern in patterns for path in matching(self._root, pattern)]

    def _added(self, path: str) -> bool:
        """Whether dracut adds xen-pciback: `add_drivers+=" xen-pciback "`."""
        lines = (_COMMENT.sub("", line) for line in text(self._root / path).splitlines())
        return any(
            "drivers" in line and any(map(is_pciback, re.split(r"[\s\"'=]+", line)))
            for line in lines
        )

    def _write(self, said: str) -> None:
        """Write the file atomically: the next boot may read it after a loss of power."""
        import tempfile

        path = self._root / _OWN_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".cede.", delete=False) as file:  # fmt: skip
                try:
                    file.write(said)
                    file.flush()
                    os.fchmod(file.fileno(), _MODE)
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except OSError:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise PermanentError(
                f"/{_OWN_FILE} can't be written: {error.strerror}",
                name="file-unwritable",
                remedy=f"echo {MODULE} > /{_OWN_FILE}",
            ) from error
