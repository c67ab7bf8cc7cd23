"""A channel into a guest, whatever it is made of: one question, one bounded answer, nothing believed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cede.address import Address


class Channel(Protocol):
    """How a guest is asked; opened for one domain, and left as it was found."""

    def look(self, slot: Address, seconds: float) -> str:
        """What the guest sees at its virtual slot, as `look.command` prints it.

        Raises GuestSilentError if no answer comes within `seconds`, or none that ends.
        """
