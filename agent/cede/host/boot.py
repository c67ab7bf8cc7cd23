"""The door to what dom0's next boot will do: whether xen-pciback comes by itself, before guests are started.

Sources: modules-load.d(5), initramfs-tools(7), dracut.conf(5), Documentation/admin-guide/kernel-parameters.txt (Linux).
"""

from __future__ import annotations

import re
from pathlib import Path

from cede.host.kernel_files import matching, text

_NAME = re.compile(r"^xen[-_]pciback$")
_LISTS = (
    "etc/modules",
    "etc/modules-load.d/*.conf",
    "run/modules-load.d/*.conf",
    "usr/lib/modules-load.d/*.conf",
    "etc/initramfs-tools/modules",
    "usr/share/initramfs-tools/modules.d/*",
)
_DRACUT = ("etc/dracut.conf", "etc/dracut.conf.d/*.conf")
_COMMENT = re.compile(r"[#;].*")


class Boot:
    """Reads below `root` (normally `/`)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def pciback(self) -> str | None:
        """How xen-pciback is there now: `module` or `built in`; None if it isn't."""
        if not (self._root / "sys/module/xen_pciback").is_dir():
            return None
        loaded = text(self._root / "proc/modules").splitlines()
        return "module" if any(_NAME.match(line.split(" ")[0]) for line in loaded) else "built in"

    def loads_pciback(self) -> tuple[str, ...]:
        """What has it loaded at boot: files that name it, and the kernel's command line; empty if nothing."""
        found = [f"/{path}" for path in self._matching(_LISTS) if self._listed(path)]
        found += [f"/{path}" for path in self._matching(_DRACUT) if self._added(path)]
        words = text(self._root / "proc/cmdline").split()
        found += [word for word in words if self._loads(word)]
        return tuple(found)

    def _matching(self, patterns: tuple[str, ...]) -> list[str]:
        return [path for pattern in patterns for path in matching(self._root, pattern)]

    def _listed(self, path: str) -> bool:
        lines = (_COMMENT.sub("", line).split() for line in text(self._root / path).splitlines())
        return any(words and _NAME.match(words[0]) for words in lines)

    def _added(self, path: str) -> bool:
        """Whether dracut is told to take it along: `add_drivers+=" xen-pciback "`."""
        lines = (_COMMENT.sub("", line) for line in text(self._root / path).splitlines())
        return any(
            "drivers" in line and any(map(_NAME.match, re.split(r"[\s\"'=]+", line)))
            for line in lines
        )

    @staticmethod
    def _loads(word: str) -> bool:
        """`modules-load=` loads it; a bare `xen-pciback.hide=` only tells it what to do once it is."""
        name, _, value = word.partition("=")
        asked = name in {"modules-load", "modules_load", "rd.driver.pre"}
        return asked and any(_NAME.match(module) for module in value.split(","))
