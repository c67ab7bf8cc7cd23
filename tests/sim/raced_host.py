"""The simulated host on which other people are at work while cede is: what they do between a plan and its actions."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from cede.model.pci import PCIBACK
from sim.card import DOM0, Card
from sim.faults import Gate, Killed
from sim.in_memory import MemoryHost
from sim.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.guest import Guest
    from sim.in_memory import MemoryJournal

_ABOUT_A_CARD = (
    "number", "serial", "wired", "fresh", "native", "disks", "reset", "lazy",
)  # fmt: skip


class RacedHost(MemoryHost):
    """Events happen also as a try of an action begins; `at` has their names by the number of the try.

    What dom0 uses may come and go, so that the port's own check is for the oracle to make.
    """

    def __init__(
        self, cards: Iterable[Card], guests: Iterable[Guest], journal: MemoryJournal
    ) -> None:
        super().__init__(cards, guests, journal)
        self._numbers, self._boots = count(1), count(1)
        for card in self.cards.values():
            card.number = next(self._numbers)
        self.at: dict[int, str] = {}
        self.tries, self._inside = 0, False
        self.oracle = Oracle(self)

    def lives_on(self, card: Card) -> bool:
        return card.guarded

    def a_try_begins(self) -> None:
        """What is due happens."""
        due = self.at.pop(self.tries, "")
        self.tries += 1
        if due:
            self.happens(due)

    def pauses(self) -> None:
        super().pauses()
        if self._inside:
            self.a_try_begins()
            self.oracle.tries()

    def inside(self, *, cede: bool) -> None:
        """Whether cede is at work."""
        self._inside = cede
        self.tries = 0

    def happens(self, name: str) -> None:
        if name == "reboot-host":
            self._reboot_host()
        else:
            super().happens(name)

    # -- dom0's own uses

    def _comes_into_use(self, card: Card, guard: str) -> None:
        if card.present and card.native is not None and card.driver == card.native:
            card.in_use.add(guard)

    def mount(self, card: Card) -> None:
        if card.disks:
            self._comes_into_use(card, "filesystem")

    def open(self, card: Card) -> None:
        self._comes_into_use(card, "open")

    def route(self, card: Card) -> None:
        if card.links:
            self._comes_into_use(card, "route")

    def enslave(self, card: Card) -> None:
        """Its interface becomes a port of a guest's bridge."""
        if card.links:
            self._comes_into_use(card, "guest-network")

    def let_go(self, card: Card) -> None:
        card.in_use.clear()

    # -- other people's hands

    def xl_attach(self, card: Card, guest: Guest) -> None:
        """`xl pci-assignable-add` and `xl pci-attach`: libvirt knows nothing of it."""
        free = card.present and not card.in_guest and card.address not in self.backend
        domid = guest.domid
        if not free or self.lives_on(card) or domid is None or guest.paused:
            return
        if guest.domain.live_hostdev(card.address) is not None:
            return  # libvirt lists cede's or another tool's already, which was taken out behind its back
        card.persons = self.loaded = True
        self.bind_pciback(card)
        self.give(card, domid, by_cede=self._begun_by_cede(card, domid))

    def _begun_by_cede(self, card: Card, domid: int) -> bool:
        """Whether cede was killed as it gave it to this very run of the guest: nothing tells whose it is then."""
        gate, self.written.gate = self.written.gate, Gate(self.happens)
        try:
            unfinished = self.written.load_state().unfinished
        finally:
            self.written.gate = gate
        return any(u.address == card.address and domid in u.domids for u in unfinished)

    def assignable_add(self, card: Card) -> None:
        """`xl pci-assignable-add`."""
        if card.present and not card.in_guest and not self.lives_on(card):
            card.persons = self.loaded = True
            self.bind_pciback(card)

    def rebind(self, card: Card) -> None:
        """By hand, through sysfs, from pciback to its own driver: pciback's slot and Xen's quarantine stay."""
        free = card.present and not card.in_guest and card.address not in self.backend
        if free and card.driver == PCIBACK and card.native is not None:
            card.persons, card.override = True, None
            card.driver, card.links = card.native, card.fresh

    def reset(self, card: Card) -> None:
        """By another tool, through its hot-plug slot: the same card comes anew."""
        if card.present and not self.lives_on(card):
            card.in_use.clear()
            self.vanish(card)
            self.appear(card)

    def swap(self, card: Card) -> None:
        """Another card of the same model is put in its place."""
        if card.present and not self.lives_on(card):
            card.in_use.clear()
            self.vanish(card)
            self._make_another(card)
            self.appear(card)

    def _make_another(self, card: Card) -> None:
        card.number = next(self._numbers)
        if card.serial is not None:
            card.serial = f"00-00-00-00-00-00-00-{card.number:02x}"
        card.wired = tuple(replace(w, mac=f"52:54:00:00:01:{card.number:02x}") for w in card.wired)
        card.fresh = tuple(
            replace(f, mac=w.mac) for f, w in zip(card.fresh, card.wired, strict=True)
        )

    def _reboot_host(self) -> None:
        """All guests end, bus numbers shift, and a cede that was at work is gone."""
        for guest in self.guests.values():
            self.destroy(guest)
        self.loaded = False
        movable = [c for c in self.cards.values() if c.present and not c.guarded and c.wired]
        shapes = [{name: getattr(c, name) for name in _ABOUT_A_CARD} for c in movable]
        for card, shape in zip(movable, [*shapes[1:], *shapes[:1]], strict=True):
            for name, value in shape.items():
                setattr(card, name, value)
        for card in self.cards.values():
            card.in_use.clear()
            card.owner, card.slot, card.override, card.module_loaded = DOM0, False, None, True
            card.driver, card.links = (card.native, card.wired) if card.present else (None, ())
        self.written.restart(f"boot {next(self._boots)}")
        self.theirs = self.foreign()
        if self._inside:
            raise Killed
