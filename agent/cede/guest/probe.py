"""One probe of a virtual slot from inside the guest: the command, and its output, parsed strictly.

Every channel brings the same text, so what the text proves does not depend on the channel. Each line is marked at both
ends, and the last line has the number of lines and their total length: what a kernel prints between two lines is left
out, but a line that was damaged or lost spoils the probe, and a spoilt probe proves nothing.
Sources: lspci(8), Documentation/ABI/testing/sysfs-bus-pci, Documentation/filesystems/proc.rst (iomem, ioports).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cede.guest.pci_function import of_busybox, of_details, of_records, of_sysfs

if TYPE_CHECKING:
    from cede.guest.pci_function import Function, Range
    from cede.model.pci import Address


class GuestChannel(Protocol):
    """A way to ask one guest; whoever opens the channel leaves the guest as it was."""

    def probe(self, slot: Address, seconds: float) -> str:
        """Return what the guest sees at its virtual slot: the output of `command(slot)`.

        Raises GuestSilentError if no whole answer comes within `seconds`.
        """


# A shell of its own: nobody's aliases, no zsh. Few processes: a guest that is emulated, or busy, takes long for each.
# lspci -vv reads all of a card's configuration space, each dword a journey to dom0 under pcifront: only without sysfs.
# Of its log the last 16 KiB: a hot-plug is news, and old lines cost as much as all the rest.
# The kernel's lines come first, so that it is the oldest of them that are dropped where there are too many.
_COMMAND = (
    "sh -c 's={slot};d=/sys/bus/pci/devices/$s;x=$(exec 2>/dev/null;"
    "dmesg -s 16384|grep -hF -e $s -e pcifront - /proc/iomem /proc/ioports;"
    "echo ==lspci;lspci -Dvmmnks $s||{{ echo ==busybox;lspci -mk|grep ^${{s#*:}};}};"
    "[ -d /sys/bus/pci ]||{{ echo ==details;lspci -Dnvvks $s;}};"
    "echo ==sysfs;cat $d/uevent $d/resource $d/power_state"
    " $d/msi_irqs/* $d/net/*/address $d/net/*/addr_assign_type);"
    'IFS=$(printf "\\n\\a");set -f;set -- $x;[ $# -lt 200 ]||shift $(($#-199));x="$*";'
    'printf "|%s|\\n" "$@";echo "==end $# ${{#x}}"\''
)

_INSTEAD = {"lspci": "busybox", "sysfs": "details"}


# longer than any line of lspci, of sysfs or of a kernel's log; no line takes longer to read than its length
_MARKED = re.compile(r"^\|(?P<said>[\t -~]{0,2000})\|$")
_MAX_LINES = 200  # as `_COMMAND` has it
_END = re.compile(r"^==end (?P<lines>[0-9]{1,4}) (?P<characters>[0-9]{1,6})$")
_SECTION = re.compile(r"^==(lspci|busybox|details|sysfs)$")
_CLAIM = re.compile(r"^ *(?P<first>[0-9a-f]{1,16})-(?P<last>[0-9a-f]{1,16}) : (?P<by>\S+)$")

_TOOLS = {
    "lspci": ("guest lspci", of_records),
    "busybox": ("guest busybox lspci", of_busybox),
    "details": ("guest lspci -vv", of_details),
    "sysfs": ("guest sysfs", of_sysfs),
}

VIEWS = tuple(source for source, _ in _TOOLS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one tool in the guest says of the slot; `function` is None if the tool sees no device there.

    A tool whose answer can't be parsed has no view.
    """

    source: str
    function: Function | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What the guest says of its virtual slot.

    `whole` says that the answer is undamaged from its first line to its last; else all other fields are empty.
    `views` are those of the tools that answered. `claims` are the ranges that the guest's kernel gave to the slot
    (/proc/iomem and /proc/ioports), `log` its kernel's lines on the slot and on pcifront; None if unknown.
    """

    whole: bool = False
    views: tuple[View, ...] = ()
    claims: tuple[Range, ...] | None = None
    log: tuple[str, ...] | None = None


def command(slot: Address) -> str:
    """Return the command for a shell in the guest: POSIX sh, one line, for pciutils' lspci, busybox', or none."""
    return _COMMAND.format(slot=slot)


def parse(said: str, slot: Address) -> ProbeResult:
    """Parse `said`, the output of `command(slot)`; what is cut off or malformed is left out, never guessed."""
    lines = _unspoilt(said)
    sections = None if lines is None else _sections(lines)
    if sections is None or not {"lspci", "sysfs"} <= sections.keys():
        return ProbeResult()
    views = []
    for name, (source, reader) in _TOOLS.items():
        said_here = sections.get(name)
        if said_here is None or _INSTEAD.get(name) in sections:
            continue
        # busybox is asked where lspci failed, and says nothing as well where there is none at all
        function = reader(said_here, slot)
        if function is not None or (not said_here and name not in {"busybox", "details"}):
            views.append(View(source=source, function=function))
    kernel = sections["kernel"]
    return ProbeResult(
        whole=True,
        views=tuple(views),
        claims=_claims(kernel, slot),
        log=tuple(line for line in kernel if not _CLAIM.match(line)) or None,
    )


def _unspoilt(said: str) -> list[str] | None:
    """Return the marked lines, without what was printed between them; None if one is missing, damaged or doubled."""
    lines: list[str] = []
    for line in said.replace("\r", "").split("\n")[:-1]:
        ended, match = _END.match(line), _MARKED.match(line)
        if ended is not None:
            whole = (int(ended["lines"]), int(ended["characters"]))
            return lines if whole == (len(lines), len("\n".join(lines))) else None
        if match is not None:
            lines.append(match["said"])
        if len(lines) > _MAX_LINES:
            return None
    return None


def _sections(lines: list[str]) -> dict[str, list[str]] | None:
    """Return the lines below each mark, and the kernel's above the first; None if a mark occurs twice."""
    name = "kernel"
    sections: dict[str, list[str]] = {name: []}
    for line in lines:
        mark = _SECTION.match(line)
        if mark is None:
            sections[name].append(line)
            continue
        name = mark[1]
        if name in sections:
            return None
        sections[name] = []
    return sections


def _claims(lines: list[str], slot: Address) -> tuple[Range, ...] | None:
    """Return the ranges that the kernel gave to the slot; None if unknown (zeros, as without root)."""
    matches = [match for match in map(_CLAIM.match, lines) if match and match["by"] == str(slot)]
    ranges = tuple((int(m["first"], 16), int(m["last"], 16)) for m in matches)
    return None if ranges and not any(last for _, last in ranges) else ranges
