"""Which devices xen-pciback is told to hide from dom0's drivers, and what is wrong with how it is told.

The kernel says little when `hide=` is malformed: the module does not load, and no device is hidden. Pure: the texts of
the kernel command line and of modprobe.d are handed in.
Source: drivers/xen/xen-pciback/pci_stub.c (pcistub_init), kernel/params.c (next_arg), modprobe.d(5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

# Kernel parameters and modprobe.d take a dash and an underscore for the same.
_MODULES = ("xen_pciback", "xen-pciback")
# The name that the driver had in the kernels before Linux 3.1.
_OLD_MODULE = "pciback"
_ENTRY = re.compile(
    r"\s*\(\s*(?:(?P<segment>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,8}):"
    r"(?:(?P<slot>[0-9a-f]{1,8})\.(?:(?P<function>[0-9a-f]{1,8})|\*)|\*\.\*)\)\s*",
    re.IGNORECASE,
)
_SPELLING = "each looks like (0000:01:00.0), (01:00.0) or (01:00.*)"
_LONGEST_QUOTE = 60


def hidden(
    text: str, present: Iterable[Address] = ()
) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """The addresses that a value of `hide=` names, in its order and each once, and what is wrong with it.

    `text` is the value alone, `(0000:01:00.0)(02:00.*)`. A `*` stands for those that fit among `present`, the addresses
    that the host has. Each complaint is a sentence; one of them is enough for the kernel not to load the module. Raises
    nothing.
    """
    here = sorted(present)
    found: dict[Address, None] = {}
    complaints: list[str] = []
    at = 0
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            end = text.find("(", at + 1)
            end = end if end > 0 else len(text)
            complaints.append(f"{_quoted(text[at:end])} is no address in brackets; {_SPELLING}")
        else:
            end = entry.end()
            try:
                found.update(dict.fromkeys(_named(entry, here)))
            except ValueError as error:
                complaints.append(f"{_quoted(entry.group().strip())}: {error}")
        at = end
    return tuple(found), tuple(complaints)


def _named(entry: re.Match[str], present: list[Address]) -> list[Address]:
    """The addresses that one entry means; raises ValueError if a number in it is too large."""
    segment, bus, slot, function = (
        int(part, 16) if part is not None else None
        for part in entry.group("segment", "bus", "slot", "function")
    )
    least = Address(segment or 0, bus or 0, slot or 0, function or 0)
    if function is not None:
        return [least]
    return [a for a in present if least.same_bus(a) and slot in {None, a.slot}]


def on_command_line(text: str) -> tuple[str | None, tuple[str, ...]]:
    """The value of `xen-pciback.hide=` on a kernel command line (/proc/cmdline), and what is odd about it.

    None if it isn't there; the last one counts if there are several. What stands behind ` -- ` is init's.
    """
    value: str | None = None
    complaints: list[str] = []
    for word in _words(text):
        if word == "--":
            break
        name, is_set, said = word.partition("=")
        module, _, option = name.partition(".")
        if option != "hide" or not is_set:
            continue
        if module in _MODULES:
            if value is not None:
                complaints.append(f"{name}= stands there more than once; only the last one counts")
            value = said
        elif module == _OLD_MODULE:
            complaints.append(f"{name}= has no effect; the module is called xen-pciback now")
    return value, tuple(dict.fromkeys(complaints))


def in_modprobe(text: str) -> tuple[str | None, tuple[str, ...]]:
    """The value of `hide=` in the `options xen-pciback` lines of a modprobe.d file, and what is odd about it.

    None if it isn't there. It counts when the module is loaded, also from the initramfs if it was rebuilt since; the
    kernel command line overrules it.
    """
    value: str | None = None
    complaints: list[str] = []
    for line in text.replace("\\\n", "").splitlines():
        command, module, *options = (*_words(line), "", "")
        if command != "options":
            continue
        said = [o.removeprefix("hide=") for o in options if o.startswith("hide=")]
        if module in _MODULES and said:
            if value is not None or len(said) > 1:
                complaints.append("hide= stands there more than once; only the last one counts")
            value = said[-1]
        elif module == _OLD_MODULE and said:
            complaints.append("options pciback has no effect; the module is called xen-pciback now")
    return value, tuple(dict.fromkeys(complaints))


def named_for_initramfs(text: str) -> bool:
    """Whether a file of initramfs-tools or dracut names the module in a line that is no comment."""
    lines = (line.strip().replace("_", "-") for line in text.splitlines())
    return any(
        re.search(r"(?<![\w-])xen-pciback(?![\w-])", line)
        for line in lines
        if not line.startswith("#")
    )


def _words(text: str) -> list[str]:
    """Words with white space between; double quotes keep it within one, and are taken off."""
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*(?:"|$))+', text)]


def _quoted(text: str) -> str:
    short = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."
    return ascii(short)
