"""Read a number that somebody else wrote: of bounded length and size, in plain ASCII digits, and never by raising.

Python's `int` takes signs, blanks, underscores and the digits of every script, and raises for more than 4,300 of them.
"""

from __future__ import annotations

MAX_NUMBER = 2**64 - 1
_MAX_DIGITS = 20  # of MAX_NUMBER in decimal; zeros in front count
_DIGITS = {
    10: frozenset("0123456789"),
    16: frozenset("0123456789abcdefABCDEF"),
}


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
