"""Lanes: which works must follow one another, and which may run side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.plan import Work


def lanes(works: Sequence[Work]) -> tuple[tuple[int, ...], ...]:
    """The numbers of the works, grouped: those that share a domain, a device or its bus are in one lane, in order.

    Works about the host itself share that.

    A reset of one function can be one of its whole bus; the functions of the root bus are reset one by one.
    """
    lane_of: dict[str, int] = {}
    grouped: dict[int, list[int]] = {}
    for number, work in enumerate(works):
        shared = set(_shares(work))
        joined = sorted({lane_of[key] for key in shared if key in lane_of})
        lane = joined[0] if joined else number
        members = [member for one in joined for member in grouped.pop(one)]
        grouped[lane] = sorted([*members, number])
        lane_of |= dict.fromkeys(shared, lane)
        for key, of in lane_of.items():
            if of in joined:
                lane_of[key] = lane
    return tuple(tuple(grouped[lane]) for lane in sorted(grouped))


def _shares(work: Work) -> Iterator[str]:
    if work.address is None:
        if not work.domains:
            yield "the host"
    else:
        yield str(work.address)
    if work.address is not None and work.address.bus:
        yield f"bus {work.address.segment:04x}:{work.address.bus:02x}"
    for domain in work.domains:
        yield f"domain {domain}"
