"""A frame around what a guest's shell answers: two marks with a fresh random number, and nothing counts outside.

A prompt, an echo, a message of the day or a forger doesn't know the number; an answer that is cut off has no end.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from cede.guest.terminal import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The marks of one question."""

    number: str = field(default_factory=lambda: os.urandom(8).hex())

    def quoted_mark(self, name: str) -> str:
        """A mark as a shell is given it: quoted inside, so that its echo can't be taken for the mark."""
        return f"cede-'{self.number}'-{name}"

    def around(self, command: str) -> str:
        """What the shell is given, one line: the command between its marks."""
        return f"echo {self.quoted_mark('begin')}; {command}; echo {self.quoted_mark('end')}"

    def answer(self, said: bytes) -> str | None:
        """The plain lines between the marks; None if `said` doesn't have both."""
        if f"cede-{self.number}-end".encode() not in said:
            return None
        found = re.search(
            rf"^cede-{self.number}-begin\n(?P<answer>.*?)^cede-{self.number}-end\n",
            printable(said),
            re.DOTALL | re.MULTILINE,
        )
        return None if found is None else found["answer"]
