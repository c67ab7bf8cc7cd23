"""Drift: cede had put a device into a domain, and another tool took it out again.

Two witnesses: cede's note in the persistent XML, which stays when the hostdev beside it is removed, and what the last
pass remembers. A removal of cede's own that was cut off is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cede.planner.attach_target import AttachTarget


def drift(target: AttachTarget) -> str:
    """Return what another tool took out, as a sentence; empty if nothing."""
    address, domain, inventory = target.device.address, target.domain, target.inventory
    if any(incomplete.address == address for incomplete in inventory.unfinished):
        return ""
    last_applied, ownership = (
        inventory.last_applied_in(address, domain),
        domain.ownership_of(address),
    )
    owned = ownership is not None and ownership.policy == target.policy.source
    lost = []
    if target.plugging and (
        (last_applied is not None and last_applied.live) or (owned and target.config is None)
    ):
        lost.append(f"the running {domain.name}")
    if target.config is None and (owned or (last_applied is not None and last_applied.config)):
        lost.append(f"the persistent XML of {domain.name}")
    if not lost:
        return ""
    return f"drifted: another tool took {address} out of {' and '.join(lost)}"
