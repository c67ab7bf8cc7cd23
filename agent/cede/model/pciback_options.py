"""xen-pciback's parameter `hide=`: which devices it is to hold back for guests, read as strictly as the kernel does.

One wrong bracket and the whole module stays out, with a line in the kernel log that nobody looks for.
Sources: drivers/xen/xen-pciback/pci_stub.c (pcistub_init, pcistub_device_id_add), lib/cmdline.c (next_arg).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HEX = r"\s*(?:0x)?[0-9a-f]{1,8}"
_ENTRY = re.compile(
    rf"\s*\((?:(?P<segment>{_HEX}):)?(?P<bus>{_HEX}):(?:(?P<slot>{_HEX})\.(?:(?P<function>{_HEX})|\*)|\*\.\*)\)\s*",
    re.IGNORECASE,
)
# Qubes' initramfs takes addresses with commas between them
_QUBES_ENTRY = re.compile(
    r"(?:(?P<segment>[0-9a-f]{4}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})\.(?P<function>[0-7])(?:,|\Z)"
)
_WORD = re.compile(r'(?:"[^"]*(?:"|\Z)|[^\s"])+')
_PIECE = re.compile(r"(?=.*[:()])[0-9A-Fa-fx:.*(),]+")
_MOST = (0xFFFF, 0xFF, 0x1F, 0x7)
MODULE = "xen-pciback"
OLD_NAME = "pciback"
_MAX_LENGTH = 4096
SPELLING = "each looks like (0000:01:00.0), (01:00.0) or (01:00.*)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """One bracket: a device, or with None for the slot or the function all of a bus or a slot."""

    text: str
    segment: int
    bus: int
    slot: int | None
    function: int | None

    @property
    def address(self) -> Address | None:
        """The one function that it names; None if there may be several."""
        if self.slot is None or self.function is None:
            return None
        return Address(self.segment, self.bus, self.slot, self.function)

    def covers(self, address: Address) -> bool:
        """Return whether pciback would bind the device at that address."""
        return (
            (self.segment, self.bus) == (address.segment, address.bus)
            and self.slot in {None, address.slot}
            and self.function in {None, address.function}
        )


class Ignored(StrEnum):
    """Why a `hide=` has no effect: nobody reads it where it stands, or it comes too late."""

    OLD_NAME = "old-name"
    XEN = "xen"
    QUBES = "qubes"
    WHOLE_LINE = "whole-line"
    UNREAD_FOLDER = "unread-folder"
    BUILT_IN = "built-in"
    LOADED_BEFORE = "loaded-before"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hide:
    """One `hide=`: where it stands, its brackets, and from where on the kernel can't read it (empty if it can).

    `trailing` are the words behind it that look like more of it, but are none: a blank ends the value. `ignored` is why
    it has no effect, None if it has. `by_qubes` says that it is Qubes' word, to which its initramfs listens and not the
    module: no other setting overrules it. `pending` says that it counts from the next boot on, and not now.
    """

    place: str
    hidden: tuple[Hidden, ...] = ()
    bad: str = ""
    trailing: str = ""
    ignored: Ignored | None = None
    by_qubes: bool = False
    pending: bool = False

    def addresses(self, present: Collection[Address]) -> tuple[Address, ...]:
        """Return the addresses that it names, each once; a `*` stands for those that fit among `present`."""
        named = (
            (one,) if (one := entry.address) else sorted(a for a in present if entry.covers(a))
            for entry in self.hidden
        )
        return tuple(dict.fromkeys(address for some in named for address in some))


def read(
    value: str,
    place: str,
    *,
    trailing: str = "",
    ignored: Ignored | None = None,
    pending: bool = False,
) -> Hide:
    """Return what the value of a `hide=` says; raises nothing, whatever it is."""
    hidden, bad = _entries(value, _ENTRY)
    return Hide(
        place=place, hidden=hidden, bad=bad, trailing=trailing, ignored=ignored, pending=pending
    )


def read_qubes(value: str, place: str, *, ignored: Ignored | None = None) -> Hide:
    """Return what the value of `rd.qubes.hide_pci=` says; raises nothing.

    Source: qubes-core-admin-linux, dracut/modules.d/90qubes-pciback/qubes-pciback.sh.
    """
    hidden, bad = _entries(value, _QUBES_ENTRY)
    return Hide(place=place, hidden=hidden, bad=bad, ignored=ignored, by_qubes=True)


def _entries(value: str, pattern: re.Pattern[str]) -> tuple[tuple[Hidden, ...], str]:
    """The entries of the value, and the rest that is none."""
    hidden: list[Hidden] = []
    at = 0
    while at < len(value):
        match = pattern.match(value, at)
        entry = None if match is None else _entry(match)
        if match is None or entry is None:
            break
        hidden.append(entry)
        at = match.end()
    return tuple(hidden), value[at:]


def _entry(found: re.Match[str]) -> Hidden | None:
    """None for a number that no address has."""
    parts = [found[name] for name in ("segment", "bus", "slot", "function")]
    numbers = [None if part is None else int(part, 16) for part in parts]
    if any(number is not None and number > top for number, top in zip(numbers, _MOST, strict=True)):
        return None
    segment, bus, slot, function = numbers
    return Hidden(
        text=found[0].strip(" \t\n\r\f\v,"),
        segment=segment or 0,
        bus=bus or 0,
        slot=slot,
        function=function,
    )


def parameters(text: str) -> Iterator[tuple[str, str | None]]:
    """Return each parameter and its value as the kernel divides them; None where there is no `=`.

    A blank ends a value unless it stands between double quotes.
    """
    for found in _WORD.finditer(text[:_MAX_LENGTH]):
        word = found[0]
        whole = word[1:].removesuffix('"') if word.startswith('"') else word
        name, is_set, value = whole.partition("=")
        quoted = value.startswith('"')
        yield name, (value[1:].removesuffix('"') if quoted else value) if is_set else None


def hides(text: str, names: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Return name, value and trailing words of each parameter of these names, which are written with underscores.

    A parameter without `=` has no value, which the kernel refuses as it does a wrong one: then the name is the value.
    """
    found: list[tuple[str, str, list[str]]] = []
    for name, value in parameters(text):
        if name.replace("-", "_") in names:
            found.append((name, name if value is None else value, []))
        elif found and value is None and _PIECE.fullmatch(name):
            found[-1][2].append(name)
    return ((name, value, " ".join(trailing)) for name, value, trailing in found)


def names_pciback(said: str) -> bool:
    """Return whether a list of modules names xen-pciback as systemd reads it: a whole line is one name.

    Source: systemd, src/modules-load/modules-load.c (apply_file).
    """
    return any(is_pciback(line.strip()) for line in said.splitlines())


def names_with_arguments(said: str) -> bool:
    """Return whether a list of modules names xen-pciback as sysvinit reads it: arguments stand behind the name.

    Source: Debian's kmod, debian/kmod.init.
    """
    return any(is_pciback(words[0]) for line in said.splitlines() if (words := line.split()))


def is_pciback(name: str) -> bool:
    """Return whether the name is xen-pciback's; hyphens and underscores are one to modprobe."""
    return name.replace("_", "-") == MODULE
