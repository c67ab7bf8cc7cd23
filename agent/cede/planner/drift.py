"""Drift: cede had put a device into a domain, and somebody else took it out again.

Two witnesses: cede's note in the persistent XML, which stays when the hostdev beside it is removed, and what the last
pass remembers. A removal of cede's own that was cut off is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cede.planner.attach import Wish


def drift(wish: Wish) -> str:
    """What was taken away of the wished, as a sentence; empty if nothing was."""
    address, domain, inventory = wish.device.address, wish.domain, wish.inventory
    if any(begun.address == address for begun in inventory.unfinished):
        return ""
    left, note = inventory.left_in(address, domain), domain.mark(address)
    noted = note is not None and note.policy == wish.policy.source
    lost = []
    if wish.plugging and ((left is not None and left.live) or (noted and wish.config is None)):
        lost.append(f"the running {domain.name}")
    if wish.config is None and (noted or (left is not None and left.config)):
        lost.append(f"the persistent XML of {domain.name}")
    if not lost:
        return ""
    return f"drifted: somebody else took {address} out of {' and '.join(lost)}"
