"""xen-pciback's parameter `hide=`: which devices it is to hold back for guests, read as strictly as the kernel does.

One wrong bracket and the whole module stays out, with a line in the kernel log that nobody looks for.
Source: drivers/xen/xen-pciback/pci_stub.c (pcistub_init, pcistub_device_id_add).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_HEX = r"\s*(?:0x)?[0-9a-f]{1,8}"
_ENTRY = re.compile(
    rf"\s*\((?:(?P<segment>{_HEX}):)?(?P<bus>{_HEX}):(?:(?P<slot>{_HEX})\.(?:(?P<function>{_HEX})|\*)|\*\.\*)\)\s*",
    re.IGNORECASE,
)
_WORD = re.compile(r"""(?P<name>[A-Za-z0-9_.-]+)=(?:"(?P<quoted>[^"]*)"|(?P<bare>\S*))""")
_MOST = (0xFFFF, 0xFF, 0x1F, 0x7)
MODULE = "xen-pciback"
_COMMAND_LINE = "on the kernel's command line"
_MAX_LENGTH = 4096
COMMENT = re.compile(r"[#;].*")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hide:
    """One `hide=`: where it stands, its brackets, and from where on the kernel can't read it (empty if it can).

    `ignored` says that it stands under a name that no module of today's kernels listens to.
    """

    place: str
    hidden: tuple[Hidden, ...] = ()
    bad: str = ""
    ignored: bool = False

    @property
    def on_command_line(self) -> bool:
        """Whether it stands on the kernel's command line, which overrules modprobe's configuration."""
        return self.place.endswith(_COMMAND_LINE)

    def addresses(self, present: Collection[Address]) -> tuple[Address, ...]:
        """Return the addresses that it names, each once; a `*` stands for those that fit among `present`."""
        named = (
            (one,) if (one := entry.address) else sorted(a for a in present if entry.covers(a))
            for entry in self.hidden
        )
        return tuple(dict.fromkeys(address for some in named for address in some))


def read(value: str, place: str, *, ignored: bool = False) -> Hide:
    """Return what the value of a `hide=` says; raises nothing, whatever it is."""
    hidden: list[Hidden] = []
    at = 0
    while at < len(value):
        match = _ENTRY.match(value, at)
        entry = None if match is None else _entry(match)
        if match is None or entry is None:
            return Hide(place=place, hidden=tuple(hidden), bad=value[at:], ignored=ignored)
        hidden.append(entry)
        at = match.end()
    return Hide(place=place, hidden=tuple(hidden), ignored=ignored)


def _entry(found: re.Match[str]) -> Hidden | None:
    """None for a number that no address has."""
    parts = [found[name] for name in ("segment", "bus", "slot", "function")]
    numbers = [None if part is None else int(part, 16) for part in parts]
    if any(number is not None and number > top for number, top in zip(numbers, _MOST, strict=True)):
        return None
    segment, bus, slot, function = numbers
    return Hidden(
        text=found[0].strip(), segment=segment or 0, bus=bus or 0, slot=slot, function=function
    )


def settings(command_line: str, options: Iterable[tuple[str, str]]) -> tuple[Hide, ...]:
    """Return every `hide=` of this host: on the kernel's command line and in modprobe's configuration (file, line).

    `pciback.hide=` is the name of the kernels before 3.1, which today's don't know.
    """
    hides = []
    for word in _WORD.finditer(command_line[:_MAX_LENGTH]):
        module, _, parameter = word["name"].rpartition(".")
        name = module.replace("_", "-")
        if parameter == "hide" and name in {MODULE, "pciback"}:
            place = f"{word['name']}= {_COMMAND_LINE}"
            hides.append(read(_value(word), place, ignored=name != MODULE))
    for file, line in options:
        hides += [
            read(_value(word), f"hide= in {file}")
            for word in _WORD.finditer(line[:_MAX_LENGTH])
            if word["name"] == "hide"
        ]
    return tuple(hides)


def _value(word: re.Match[str]) -> str:
    return word["bare"] if word["quoted"] is None else word["quoted"]


def names_pciback(said: str) -> bool:
    """Return whether the text of a list of modules names xen-pciback; options may follow the name."""
    lines = (COMMENT.sub("", line).split() for line in said.splitlines())
    return any(words and is_pciback(words[0]) for words in lines)


def is_pciback(name: str) -> bool:
    """Return whether the name is xen-pciback's; hyphens and underscores are one to modprobe."""
    return name.replace("_", "-") == MODULE
