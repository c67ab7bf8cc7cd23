"""One look at a virtual slot from inside the guest: the command that is given, and what it says, read strictly.

Every channel brings the same text, so that what it proves doesn't depend on how it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.guest import lspci

if TYPE_CHECKING:
    from cede.address import Address
    from cede.guest.lspci import GuestDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the guest says of its virtual slot; `device` is None if it sees nothing there."""

    device: GuestDevice | None = None


def command(_slot: Address) -> str:
    """What a shell in the guest is given: POSIX sh, one line."""
    return lspci.COMMAND


def parse(said: str, slot: Address) -> Look:
    """The look at `slot` that `said` tells of; what is cut off or malformed is left out, never guessed."""
    return Look(device=next((g for g in lspci.parse(said) if g.slot == slot), None))
