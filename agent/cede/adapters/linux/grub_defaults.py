"""What GRUB will give Xen and dom0's kernel at the next boot, by the files that update-grub makes its menu of.

The files are read, never run: of a shell's language they use assignments, of which the last counts, and variables in
them. What a command would print there is not told.
Sources: grub-mkconfig, util/grub.d/20_linux_xen.in (GRUB_CMDLINE_LINUX_XEN_REPLACE takes the place of
GRUB_CMDLINE_LINUX); Debian's patch of it, which reads /etc/default/grub.d/*.cfg after /etc/default/grub.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from cede.util.kernel_files import matching, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILES = ("etc/default/grub", "etc/default/grub.d/*.cfg")
_ASSIGNMENT = re.compile(r"^(GRUB_CMDLINE_[A-Z_]{1,40})(\+?)=(.*)$", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{([A-Z_]{1,64})\}|([A-Z_]{1,64}))")
_MAX_VALUE, _MAX_TEXT, _MAX_LINES = 4096, 65536, 32


def grub_variables(root: Path) -> tuple[tuple[str, str, str], ...]:
    """Return the command lines in GRUB's files below `root`: file, name and value of each variable that has any."""
    found: dict[str, tuple[str, str]] = {}
    for pattern in _FILES:
        for path in matching(root, pattern):
            for name, more, value in _assignments(text(root / path)[:_MAX_TEXT]):
                before = found[name][1] if more and name in found else ""
                found[name] = (f"/{path}", (before + _expanded(value, found))[:_MAX_VALUE])
    return tuple((file, name, value) for name, (file, value) in found.items() if value.strip())


def _assignments(said: str) -> Iterator[tuple[str, str, str]]:
    for line in _logical_lines(said):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # the shell couldn't read it either
        for word in words:
            assigned = _ASSIGNMENT.match(word)
            if assigned:
                yield assigned[1], assigned[2], assigned[3]


def _logical_lines(said: str) -> Iterator[str]:
    """Yield each line; with those that follow, 32 at most, where a quotation goes on there, or a backslash ends it."""
    pending: list[str] = []
    for line in said.replace("\\\n", "").splitlines():
        pending.append(line)
        whole = "\n".join(pending)
        try:
            shlex.split(whole, comments=True)
        except ValueError:
            if len(pending) < _MAX_LINES and len(whole) < _MAX_VALUE:
                continue
        yield whole
        pending = []


def _expanded(value: str, found: dict[str, tuple[str, str]]) -> str:
    return _VARIABLE.sub(lambda name: found.get(name[1] or name[2], ("", ""))[1], value)
