"""Words of others, made fit for a line of the log or of a message."""

from __future__ import annotations

MAX_LENGTH = 1000


def line_of(text: str, length: int = MAX_LENGTH) -> str:
    """`text` as one line of at most `length` characters that does nothing to a terminal, whoever's words are in it."""
    joined = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return "".join(c if c.isprintable() else "?" for c in joined)[:length]
