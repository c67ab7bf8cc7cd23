"""Groups: what belongs to one assignment, or is reset together in one domain, is changed together or not at all.

A card of which the guest has half is no card, and a bus that is reset with half of its functions in use is a fault.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cede.model.plan import Change, Decision, Deferred, Refused, Satisfied, Why
from cede.planner.resets import goes_alone, reset_together
from cede.planner.walls import walled

if TYPE_CHECKING:
    from cede.model.inventory import Inventory
    from cede.model.pci import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One function with its decision.

    `owner` is what all functions of one card have in common: their assignment, or their name in a domain; `domain` is
    the UUID of the domain that they go to or leave, empty where it is any.
    """

    decision: Decision
    address: Address | None
    owner: Hashable
    domain: str


def keep_together(members: Sequence[Member], inventory: Inventory) -> tuple[Decision, ...]:
    """Return the decisions of all members, in their order: with one refusal in a group all of it is refused."""
    decisions = [member.decision for member in members]
    for group in _groups(members, inventory):
        for number, decision in zip(group, _together([decisions[n] for n in group]), strict=True):
            decisions[number] = decision
    return tuple(decisions)


def _groups(members: Sequence[Member], inventory: Inventory) -> list[list[int]]:
    """The numbers of the members, by group; what is alone is in none."""
    at = {(member.address, member.domain): n for n, member in enumerate(members)}
    group_of: dict[int, list[int]] = {}
    owned: dict[Hashable, int] = {}
    for number, member in enumerate(members):
        joined = [owned.setdefault(member.owner, number)]
        found = walled(member.decision.subject, partial(_mates, member, inventory))
        mates = () if isinstance(found, Refused) else found
        joined += [at[mate, member.domain] for mate in mates if (mate, member.domain) in at]
        for other in joined:
            if other == number:
                continue
            group = group_of.setdefault(number, [number])
            others = group_of.setdefault(other, [other])
            if others is not group:
                group += others
                group_of |= dict.fromkeys(others, group)
    return list({id(group): sorted(group) for group in group_of.values()}.values())


def _mates(member: Member, inventory: Inventory) -> tuple[Address, ...]:
    device = None if member.address is None else inventory.device(member.address)
    if device is None or goes_alone(device):
        return ()
    return tuple(other.address for other in reset_together(device, inventory))


def _together(decisions: Sequence[Decision]) -> Iterator[Decision]:
    refused = [decision for decision in decisions if isinstance(decision, Refused)]
    because = next((one for one in refused if not one.may_pass), next(iter(refused), None))
    changes = [decision for decision in decisions if isinstance(decision, Change)]
    for decision in decisions:
        if because is not None and not _stays(decision):
            yield replace(because, subject=decision.subject)
        elif because is None and isinstance(decision, Change) and len(changes) > 1:
            yield replace(decision, group=changes[0].subject)
        else:
            yield decision


def _stays(decision: Decision) -> bool:
    """Whether it is nothing that a refusal of another function could hold back: so already, or left as it is."""
    match decision:
        case Change() | Refused() | Deferred():
            return False
        case Satisfied(why=why):
            return why is not Why.AT_NEXT_START
        case _:
            return True
