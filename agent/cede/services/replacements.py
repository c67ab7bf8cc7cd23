"""Replace what tells whose host it is in a report: names, numbers and addresses, each by the same wherever it stands.

Everything is learned before anything is replaced, so that what one file calls by its name is replaced in all others.
Sources: IEEE 802 (locally administered addresses), RFC 2544 and 3849 (addresses that nobody has), RFC 9562 (UUIDs).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count


class _Kind(Enum):
    SERIAL = "PCIe device serial number"
    UUID = "UUID"
    ID = "machine or boot id"
    MAC = "MAC"
    IPV6 = "IPv6 address"
    IPV4 = "IPv4 address"


# in the order in which they are replaced; a PCI address (0000:01:00.0) is none of these
_PATTERNS = {
    _Kind.SERIAL: re.compile(
        r"(?<![0-9A-Za-z-])[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){7}(?![0-9A-Za-z-])"
    ),
    _Kind.UUID: re.compile(
        r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
    ),
    _Kind.ID: re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{32}(?![0-9A-Za-z])"),
    _Kind.MAC: re.compile(
        r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![0-9A-Za-z:-])"
    ),
    _Kind.IPV6: re.compile(
        r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z:])"
    ),
    _Kind.IPV4: re.compile(
        r"(?<![0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])"
    ),
}
_FIRST_V4, _FIRST_V6 = int(IPv4Address("198.18.0.0")), int(IPv6Address("2001:db8::"))
_MAKE: dict[_Kind, Callable[[int], str]] = {
    _Kind.SERIAL: lambda n: "-".join(re.findall("..", f"{(0xCEDE << 48) + n:016x}")),
    _Kind.UUID: lambda n: f"00000000-0000-4000-8000-{n:012x}",
    _Kind.ID: lambda n: f"{n:032x}",
    _Kind.MAC: lambda n: f"{0x02_00_00_00_00_00 + n:012x}",
    _Kind.IPV6: lambda n: str(IPv6Address(_FIRST_V6 + n)),
    _Kind.IPV4: lambda n: str(IPv4Address(_FIRST_V4 + n)),
}
# what names something in a setting, a log or a domain's XML; the last group is the name
_NAMED = (
    re.compile(r"<name>\s*([^<>\s][^<>]{0,200}?)\s*</name>"),
    re.compile(r"""(?m)^\s*name\s*=\s*["']([^"'\n]{1,200})["']"""),
    re.compile(r"""(?m)\b(?:domain|host):\s*["']?([A-Za-z0-9_.+-]{1,200})"""),
    re.compile(r"""(?m)\buser(?:name)?(?::\s*|=)["']?([A-Za-z0-9_.+-]{1,200})"""),
    # where a guest's disk is; of a device node only one in a folder, as of a volume group
    re.compile(
        r"""<source [^>]*?\b(?:file|dir|dev)=["']/(?!dev/[^/"']+["'])(?:dev/)?([^"'\n]{1,500})"""
    ),
    re.compile(
        r"""(?:\bfile:|\bphy:|\btarget=)/(?!dev/[^/"',\s]+["',\s])(?:dev/)?([^"',\s]{1,500})"""
    ),
    re.compile(r"Hostname set to <([^<>\s]{1,200})>"),
    re.compile(r"""\b(?:UUID|PARTUUID|LABEL|PARTLABEL)=["']?([^\s"',]{1,200})"""),
    re.compile(r"\b(?:SerialNumber|Serial Number|serial|S/N)[:=]\s*([A-Za-z0-9._-]{4,200})"),
    re.compile(r"<serial>\s*([^<>\s]{1,200})\s*</serial>"),
    re.compile(r"\b((?:iqn|eui|naa)\.[A-Za-z0-9.:_-]{4,200})"),
    re.compile(r"(?<![A-Za-z0-9/._-])([A-Za-z0-9][A-Za-z0-9.-]{1,200}):/"),
)
_SECRET = re.compile(
    r"""(?i)([a-z_-]*(?:passwd|password|passphrase|secret|token)["']?\s*[:=]\s*|\brd\.luks\.key=|<password>|<secret>)"""
    r"""("[^"\n]*"|'[^'\n]*'|[^\s,<>#"']+)"""
)
_LOGIN = re.compile(r"://[^/\s:@\"']{1,200}:[^/\s@\"']{1,200}@")  # in a URL (RFC 3986, 3.2.1)
_FREE_TEXT = re.compile(r"<(title|description)>.*?</\1>", re.DOTALL)
_REMOVED = "removed"
# words of the field, which every file has; a guest of that name is replaced only where it is named
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "xen linux kernel pci pciback dom0 domu localhost localdomain debian root boot vga network guest host disk"
        " default domain name type driver device devices source address system none hvm pvh true false yes file block"
        " bridge bus slot function memory hidden hide options module modules usb sata nvme version uuid config live",
    )
)
_SHORTEST = 3
_LONG = 5  # from which length on a name is replaced inside of other words too


class Replacements:
    """Learns originals, and replaces them."""

    def __init__(self) -> None:
        self._of: dict[_Kind, dict[str, str]] = {kind: {} for kind in _Kind}
        self._used: set[str] = set()
        self._words: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn_name(self, name: str, kind: str) -> None:
        """Learn a name; a `kind` (`guest`, `host`) and a number take its place."""
        name = name.strip()
        if name and name.lower() not in self._words:
            self._words[name.lower()] = f"{kind}-{len(self._words) + 1}"
            self._pattern = None

    def learn(self, text: str) -> None:
        """Learn the names, numbers and addresses in a text."""
        for named in _NAMED:
            for found in named.finditer(text):
                if not any(pattern.fullmatch(found[1]) for pattern in _PATTERNS.values()):
                    self.learn_name(found[1], "name")
        for kind, pattern in _PATTERNS.items():
            for found in pattern.finditer(text):
                original = _original(kind, found[0])
                if original is not None:
                    self._of[kind].setdefault(original, "")

    def replaced(self, text: str) -> str:
        """Return the text, of which all was learned, without what was learned, and without passwords."""
        text = _FREE_TEXT.sub(lambda found: f"<{found[1]}>{_REMOVED}</{found[1]}>", text)
        text = _LOGIN.sub(f"://{_REMOVED}@", _SECRET.sub(_removed, text))
        for kind, pattern in _PATTERNS.items():
            text = pattern.sub(lambda found, kind=kind: self._other(kind, found[0]), text)  # type: ignore[misc]
        for kind in (_Kind.SERIAL, _Kind.UUID, _Kind.MAC):  # enx001122334455
            for original in self._of[kind]:
                other = self._assigned(kind, original).replace("-", "")
                text = re.sub(f"(?i){original.replace('-', '')}", other, text)
        return self._names().sub(lambda found: self._words[found[0].lower()], text)

    def replaced_serial(self, config: bytes, serial: str) -> bytes:
        """Return a configuration space with another serial number, as it is spelled in the texts."""
        number, other = (
            bytes.fromhex(spelled.replace("-", ""))[::-1]
            for spelled in (serial, self._other(_Kind.SERIAL, serial))
        )
        return config.replace(number, other)

    def _names(self) -> re.Pattern[str]:
        if self._pattern is None:
            longest = sorted(self._words, key=len, reverse=True)
            common = [re.escape(word) for word in longest if _is_common(word)]
            inside = [re.escape(w) for w in longest if len(w) >= _LONG and not _is_common(w)]
            whole = [re.escape(w) for w in longest if len(w) < _LONG and not _is_common(w)]
            parts = [
                f"(?:{'|'.join(inside)})" if inside else "",
                rf"(?<![A-Za-z0-9])(?:{'|'.join(whole)})(?![A-Za-z0-9])" if whole else "",
                rf"""(?<=<name>)(?:{"|".join(common)})(?=</name>)""" if common else "",
                rf"""(?<="name": ")(?:{"|".join(common)})(?=")""" if common else "",
                rf"""(?<="domain": ")(?:{"|".join(common)})(?=")""" if common else "",
                rf"(?<=/)(?:{'|'.join(common)})(?=\.(?:xml|log|cfg)\b)" if common else "",
            ]
            self._pattern = re.compile("|".join(filter(None, parts)) or r"(?!)", re.IGNORECASE)
        return self._pattern

    def _other(self, kind: _Kind, text: str) -> str:
        """Return what takes the place of an original as it is spelled in a text; that itself if it is none."""
        original = _original(kind, text)
        if original is None or original not in self._of[kind]:
            return text
        other = self._assigned(kind, original)
        return text[2].join(re.findall("..", other)) if kind is _Kind.MAC else other

    def _assigned(self, kind: _Kind, original: str) -> str:
        """Return what takes the place of the original; never that of another, nor another original."""
        known = self._of[kind]
        if not known[original]:
            numbers = count(sum(map(bool, known.values())) + 1)
            made = (_MAKE[kind](number) for number in numbers)
            known[original] = next(m for m in made if m not in known and m not in self._used)
            self._used.add(known[original])
        return known[original]


def _original(kind: _Kind, text: str) -> str | None:
    """Return the one spelling of what stands in a text; None if it is nobody's."""
    low = text.lower()
    if kind in {_Kind.IPV4, _Kind.IPV6}:
        try:
            found = ip_address(low)
        except ValueError:
            return None
        nobodys = found.is_unspecified or found.is_loopback or low.startswith("255.")
        return None if nobodys else str(found)
    bare = re.sub("[:-]", "", low)
    if set(bare) <= {"0"} or set(bare) <= {"f"}:
        return None
    return bare if kind is _Kind.MAC else low


def _is_common(word: str) -> bool:
    """Whether a name may be something else wherever it is not said to be a name."""
    return word in _COMMON or word.isdecimal() or len(word) < _SHORTEST


def _removed(found: re.Match[str]) -> str:
    quote = found[2][0] if found[2][0] in "\"'" else ""
    return f"{found[1]}{quote}{_REMOVED}{quote}"
