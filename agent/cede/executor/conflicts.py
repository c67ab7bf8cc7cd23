"""Conflict groups: which changes must follow one another, and which may run side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.plan import Change


def conflict_groups(changes: Sequence[Change]) -> tuple[tuple[int, ...], ...]:
    """Group the numbers of the changes: those that share a domain, a device or its bus are in one group, in order.

    Changes of the host itself are one group. A reset of one function can reset its whole bus, but functions on the root
    bus are reset one by one.
    """
    group_of: dict[str, int] = {}
    grouped: dict[int, list[int]] = {}
    for number, change in enumerate(changes):
        shared = set(_shares(change))
        joined = sorted({group_of[key] for key in shared if key in group_of})
        group = joined[0] if joined else number
        members = [member for one in joined for member in grouped.pop(one)]
        grouped[group] = sorted([*members, number])
        group_of |= dict.fromkeys(shared, group)
        for key, of in group_of.items():
            if of in joined:
                group_of[key] = group
    return tuple(tuple(grouped[group]) for group in sorted(grouped))


def _shares(change: Change) -> Iterator[str]:
    if change.address is None:
        if not change.domains:
            yield "the host"
    else:
        yield str(change.address)
    if change.address is not None and change.address.bus:
        yield f"bus {change.address.segment:04x}:{change.address.bus:02x}"
    for domain in change.domains:
        yield f"domain {domain}"
