"""The oracle of a raced host: whether an action is allowed, by the simulated state alone and not by cede's own rules.

What a try of an action may still miss is what happens after its last look at the host. So a reason counts that stood
when the try began and still stands when the host is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.actions import AddToConfig, RemoveFromConfig
from cede.model.pci import PCIBACK, Reset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.actions import Action
    from cede.model.pci import Address
    from cede.model.plan import Change
    from sim.card import Card
    from sim.guest import Guest
    from sim.in_memory import MemoryHost

BIND, RETURN = "bind_to_pciback", frozenset({"reattach", "assignable-remove", "remove-slot"})
PLUG, EDIT = "plug", "redefine"
OUT = frozenset({"unplug", "xl-detach", "deassign", "remove-given-up"})
VERBS = frozenset({BIND, PLUG, EDIT}) | RETURN | OUT


class Oracle:
    """Follows what cede is about to do, and refuses what must not be done, as an AssertionError.

    `allowed` counts the actions that were allowed, by their verb.
    """

    def __init__(self, host: MemoryHost) -> None:
        self._host = host
        self._change: Change | None = None
        self._action: Action | None = None
        self._at_begin: dict[str, frozenset[str]] = {}
        self._cards: dict[Address, set[int]] = {}
        self.allowed: dict[str, int] = dict.fromkeys(sorted(VERBS), 0)
        host.gate.before_action = self._allow

    def plans(self) -> None:
        """A plan begins to be made: the cards are those that are there now."""
        self._change = None
        self._cards = {}
        self.planned()

    def planned(self) -> None:
        """The plan is made: it may have seen what came while it was made."""
        for card in self._host.cards.values():
            self._cards.setdefault(card.address, set()).add(card.number)

    def begins(self, change: Change, action: Action) -> None:
        """The first try of an action begins."""
        self._change, self._action = change, action
        self.tries()

    def tries(self) -> None:
        """A try begins: what stands against its action now is there to be seen."""
        self._at_begin = {verb: frozenset(self._against(verb)) for verb in VERBS}

    def _allow(self, verb: str) -> None:
        if self._change is None or verb not in VERBS:
            return
        against = self._at_begin[verb].intersection(self._against(verb))
        assert not against, f"{verb} for {self._action}, though {', '.join(sorted(against))}"
        self.allowed[verb] += 1

    # -- what stands against it

    def _against(self, verb: str) -> Iterator[str]:
        change = self._change
        if change is None or change.address is None:
            return
        card = self._host.cards[change.address]
        if change.identity is not None and card.number not in self._cards[card.address]:
            yield "another card stands there"
        if verb == BIND:
            yield from self._used(card)
        elif verb == PLUG:
            yield from (*self._used(card), *self._active(card), *self._others(card))
        elif verb == EDIT:
            yield from self._edit(card)
        elif verb in OUT:
            yield from self._not_cedes(card)
        else:
            yield from self._kept(card)

    def _mates(self, card: Card) -> list[Card]:
        """Those that a reset of the card resets too."""
        if card.reset is not Reset.BUS:
            return []
        here = self._host.cards.values()
        return [c for c in here if c is not card and c.present and card.address.same_bus(c.address)]

    def _used(self, card: Card) -> Iterator[str]:
        for one in (card, *self._mates(card)):
            if one.guarded or one.uses:
                yield f"dom0 uses {one.address}: {', '.join(sorted(one.uses))}"
            for virtual in self._host.cards.values():
                if virtual.physical_function == one.address and self._taken(virtual):
                    yield f"a guest has the virtual function {virtual.address}"

    def _taken(self, card: Card) -> bool:
        return card.in_guest or card.driver == PCIBACK or card.address in self._host.backend

    def _active(self, card: Card) -> Iterator[str]:
        for mate in self._mates(card):
            if mate.in_guest or mate.address in self._host.backend or mate.driver != PCIBACK:
                yield f"{mate.address} is in use"

    def _guests(self, *, but: tuple[str, ...]) -> list[Guest]:
        return [guest for guest in self._host.guests.values() if guest.name not in but]

    def _target(self) -> str:
        return str(getattr(self._action, "domain", ""))

    def _others(self, card: Card, *but: str) -> Iterator[str]:
        address = card.address
        for guest in self._guests(but=but or (self._target(),)):
            if guest.domain.live_hostdev(address) or guest.domain.config_hostdev(address):
                yield f"{guest.name} has or reserves {address}"
        if address in self._host.backend and address not in self._host.by_cede:
            yield f"another tool gave {address} away"

    def _edit(self, card: Card) -> Iterator[str]:
        rollback = self._change is not None and self._action not in self._change.actions
        target = self._host.guests.get(self._target())
        if isinstance(self._action, AddToConfig):
            yield from self._others(card)
        elif isinstance(self._action, RemoveFromConfig) and target is not None and not rollback:
            hostdev = target.domain.live_hostdev(card.address)
            if hostdev is not None:
                yield f"{target.name} runs with {card.address}"

    def _not_cedes(self, card: Card) -> Iterator[str]:
        target = self._host.guests.get(self._target())
        hostdev = target.domain.live_hostdev(card.address) if target is not None else None
        if hostdev is not None and not hostdev.owned:
            yield f"{card.address} is another tool's in {self._target()}"
        if card.address in self._host.backend and card.address not in self._host.by_cede:
            yield f"another tool gave {card.address} away"

    def _kept(self, card: Card) -> Iterator[str]:
        assert self._change is not None
        if card.in_guest or card.address in self._host.backend:
            yield f"a guest has {card.address}"
        rollback = self._action not in self._change.actions
        for guest in self._guests(but=()):
            reserves = guest.domain.config_hostdev(card.address) is not None
            mine = rollback or guest.name in self._change.domains
            if guest.domain.live_hostdev(card.address) or (reserves and not mine):
                yield f"{guest.name} has or reserves {card.address}"
        if card.driver not in {None, PCIBACK}:
            yield from self._used(card)
