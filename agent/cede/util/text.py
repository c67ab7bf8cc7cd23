"""Make of any text, whoever's words are in it, what a screen or a log may have, or a number; neither ever raises.

Domains, interfaces, mount points, files and guests choose their own names and words. None of these may move the cursor,
begin a line of its own, change the direction of what follows, or be there without being seen.
Sources: ECMA-48; Unicode Standard Annex 44 (general categories), and its property Default_Ignorable_Code_Point.
"""

from __future__ import annotations

MAX_LENGTH = 1000
_CUT = "..."
_INSTEAD = "?"
# printable by their category, and yet nothing is seen of them
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
        (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)  # fmt: skip
# Python's `int` takes signs, blanks, underscores and the digits of every script, and raises for more than 4,300 of them
MAX_NUMBER = 2**64 - 1
_MAX_DIGITS = 20  # of MAX_NUMBER in decimal; zeros in front count
_DIGITS = {
    10: frozenset("0123456789"),
    16: frozenset("0123456789abcdefABCDEF"),
}


def is_plain(text: str) -> bool:
    """Whether `text` is one line of visible characters and blanks."""
    return text.isprintable() and (text.isascii() or _INVISIBLE.isdisjoint(text))


def one_line(text: str, length: int = MAX_LENGTH) -> str:
    """Return `text` as one line of at most `length` characters that does nothing to a terminal but show.

    Line breaks become ` | `, tabs blanks, and what is no visible character `?`; an indentation stays.
    """
    short = text[: 2 * length + 1]
    if not is_plain(short):
        first, *others = short.splitlines() or [""]
        parts = [first.rstrip(), *(part.strip() for part in others)]
        joined = " | ".join(part for part in parts if part.strip()).replace("\t", " ")
        short = "".join(c if is_plain(c) else _INSTEAD for c in joined)
    return short if len(short) <= length else short[: length - len(_CUT)] + _CUT


def number(text: str | None, base: int = 10, *, most: int = MAX_NUMBER) -> int | None:
    """Return the number from 0 to `most` that `text` is in `base` (10 or 16); None if it is anything else."""
    if not text or len(text) > _MAX_DIGITS or not _DIGITS[base].issuperset(text):
        return None
    value = int(text, base)
    return value if value <= most else None


def c_number(text: str, *, most: int = MAX_NUMBER) -> int | None:
    """Return the number that libvirt's XML has as `0x1f` or `31`; None if it is anything else."""
    prefixed = text[:2] in {"0x", "0X"}
    return number(text[2:], 16, most=most) if prefixed else number(text, most=most)
