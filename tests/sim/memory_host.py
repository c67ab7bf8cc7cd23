"""A Xen host in memory, with what happens on it and the traps of the real one; `memory_ports` is how it is reached.

libvirt's list of what a running guest has, xenstore's backend and Xen's own notion of the owner are three states, as
they are in reality; an interrupted call leaves them different. What must never be asked of a real host (it crashes
libvirtd, or takes from somebody what is theirs) is an AssertionError here, which no code of cede's catches.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from cede.adapters.ports import Adapters
from cede.adapters.runtime import Runtime
from cede.domain_xml import document
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.pci import PCIBACK, Address, Link
from cede.state.journal import Journal
from cede.util.paths import Paths
from cede.util.retry import STEP_SECONDS
from sim.faults import Adapter, Gate
from sim.passing_time import SimulatedTime

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cede.adapters.runtime import LibvirtAccess
    from cede.util.clock import Clock

DOM0, QUARANTINE = 0, 0x7FF2  # DOMID_IO, which Xen keeps what left a guest in


@lru_cache(maxsize=4096)
def _domain(live: str | None, config: str, *, paused: bool) -> Domain:
    return document.domain(live, config, paused=paused)


@lru_cache(maxsize=4096)
def _foreign(text: str | None) -> tuple[Hostdev, ...]:
    return tuple(h for h in document.hostdevs(text) if not h.owned) if text else ()


@dataclass(slots=True, kw_only=True)
class Card:
    """One PCI function: what never changes of it, then what is so now.

    `lazy` tells that its driver's module goes when it is taken, and must be loaded for it to come back. `persons` tells
    that another tool has had their hands on it since dom0 last had it.
    """

    address: Address
    native: str | None = "e1000e"
    lazy: bool = False
    guarded: bool = False
    wired: Link | None = None
    disks: tuple[str, ...] = ()

    present: bool = True
    long_gone: bool = False
    driver: str | None = None
    override: str | None = None
    slot: bool = False
    loaded: bool = True
    owner: int = DOM0
    link: Link | None = None
    persons: bool = False

    @property
    def in_guest(self) -> bool:
        return self.owner not in {DOM0, QUARANTINE}

    @property
    def in_dom0(self) -> bool:
        """Whether dom0 has it, working."""
        was = (self.native, None, False, DOM0)
        return was == (self.driver, self.override, self.slot, self.owner)

    @property
    def at_home(self) -> bool:
        """Whether dom0 has it, as it was."""
        return self.in_dom0 and self.link == self.wired


@dataclass(slots=True)
class Given:
    """What xenstore's backend says of a device; `closing` while a guest that doesn't run has yet to let go."""

    domid: int
    by_cede: bool
    closing: bool = False


@dataclass(slots=True, kw_only=True)
class Guest:
    name: str
    config: str
    kind: GuestKind
    theirs: bool = False
    live: str | None = None
    domid: int | None = None
    paused: bool = False


@dataclass(kw_only=True)
class Host:
    """The host itself, with what happens on it by itself and by other people's hands."""

    cards: dict[Address, Card]
    guests: dict[str, Guest]
    journal: ModelJournal
    loaded: bool = False
    backend: dict[Address, Given] = field(default_factory=dict)
    next_domid: int = 1
    time: SimulatedTime = field(default_factory=lambda: SimulatedTime(STEP_SECONDS / 2))
    # what cede was last told, so that what changes in the moment after it is no fault of its own
    shown_given: dict[Address, int] = field(default_factory=dict)
    shown_owned: dict[Address, bool | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate = Gate(self.happens)
        self.journal.gate, self.journal.clock = self.gate, self.clock
        for card in self.cards.values():
            card.driver, card.link = card.native, card.wired
        self.theirs = self.foreign()

    def adapters(self) -> Adapters:
        from sim.memory_ports import adapters  # which knows the host

        return adapters(self)

    @property
    def clock(self) -> Clock:
        """A busy world is tried again twice, in which time things go on."""

        def sleep(seconds: float) -> None:
            self.time.sleep(seconds)
            self.pauses()

        return replace(self.time.clock, sleep=sleep)

    def runtime(self, folder: Path, clock: Clock | None = None) -> Runtime:
        """What a daemon is handed on this host, with locks and the journal below `folder`."""
        paths = Paths(root=folder)
        paths.run.mkdir(exist_ok=True)

        @contextmanager
        def opened(_runtime: Runtime, _access: LibvirtAccess) -> Iterator[Adapters]:
            yield self.adapters()

        return Runtime(
            open_adapters=opened,
            event_sources=lambda *_: (),
            user=lambda: "root",
            is_root=True,
            paths=paths,
            clock=clock or self.clock,
        )

    # -- what is not cede's

    def foreign(self) -> dict[str, tuple[tuple[Hostdev, ...], tuple[Hostdev, ...], str]]:
        """Everybody else's hostdevs by guest, live and persistent, and the whole XML of a guest that is theirs."""
        return {
            guest.name: (
                _foreign(guest.live),
                _foreign(guest.config),
                f"{guest.live}{guest.config}" if guest.theirs else "",
            )
            for guest in self.guests.values()
        }

    def check_foreign(self) -> None:
        assert self.foreign() == self.theirs, "what is another tool's was changed"

    def domain(self, guest: Guest) -> Domain:
        return _domain(guest.live, guest.config, paused=guest.paused)

    def guest_of(self, domid: int | None) -> Guest | None:
        return next((g for g in self.guests.values() if domid and g.domid == domid), None)

    # -- what happens

    def happens(self, name: str) -> None:
        """An event by its name, `verb` and `of what`; one that can't be at the moment doesn't happen."""
        self.check_foreign()
        verb, _, what = name.partition(" ")
        of, _, where = what.partition(" in ")
        thing = self.guests.get(of) or self.cards[Address.parse(of)]
        self._EVENTS[verb](self, thing, *([self.guests[where]] if where else []))
        self.theirs = self.foreign()

    def start(self, guest: Guest) -> None:
        if guest.domid is not None:
            return
        wanted = _domain(None, guest.config, paused=False)
        cards = [(self.cards[hostdev.address], hostdev) for hostdev in wanted.config]
        for card, _ in cards:
            if card.driver != PCIBACK or card.in_guest or card.address in self.backend:
                return
        guest.domid, self.next_domid = self.next_domid, self.next_domid + 1
        guest.live = guest.config.replace("<domain ", f"<domain id='{guest.domid}' ", 1)
        guest.paused = False
        for card, hostdev in cards:
            card.owner = guest.domid
            self.backend[card.address] = Given(guest.domid, hostdev.owned)

    def destroy(self, guest: Guest) -> None:
        if guest.domid is None:
            return
        for card in self.cards.values():
            if card.owner == guest.domid:
                card.owner = QUARANTINE
        self.backend = {at: b for at, b in self.backend.items() if b.domid != guest.domid}
        guest.domid, guest.live, guest.paused = None, None, False

    def reboot(self, guest: Guest) -> None:
        if guest.domid is not None and not guest.paused:
            self.destroy(guest)
            self.start(guest)

    def pause(self, guest: Guest) -> None:
        guest.paused = guest.domid is not None

    def resume(self, guest: Guest) -> None:
        guest.paused = False
        self.backend = {
            at: b for at, b in self.backend.items() if not (b.closing and b.domid == guest.domid)
        }

    def vanish(self, card: Card) -> None:
        if card.present and not card.guarded:
            card.present, card.long_gone, card.link = False, False, None
            card.driver, card.override = None, None

    def appear(self, card: Card) -> None:
        """It is a new device to the kernel and to Xen; pciback's list of slots has outlived it."""
        if not card.present:
            card.present, card.long_gone, card.owner, card.loaded = True, False, DOM0, True
            self.probe(card)
            card.link = card.wired if card.driver == card.native else None  # udev's work

    def virsh_attach(self, card: Card, guest: Guest) -> None:
        """The administrator takes a free card for a guest: detach-device, attach-device --live --config."""
        free = card.present and not card.in_guest and card.address not in self.backend
        listed = any(self.domain(g).config_hostdev(card.address) for g in self.guests.values())
        if not free or listed or guest.domid is None or guest.paused or card.guarded:
            return
        card.persons = self.loaded = True
        self.bind_pciback(card)
        card.owner = guest.domid
        self.backend[card.address] = Given(guest.domid, by_cede=False)
        if guest.live is not None:
            guest.live = document.with_hostdev(guest.live, card.address, "hostdev0")
        guest.config = document.with_hostdev(guest.config, card.address, "hostdev0")

    def virsh_config(self, card: Card, guest: Guest) -> None:
        """The administrator reserves a card for a guest's next start."""
        if not any(self.domain(g).config_hostdev(card.address) for g in self.guests.values()):
            card.persons = True
            guest.config = document.with_hostdev(guest.config, card.address, "hostdev0")

    def virsh_detach(self, card: Card) -> None:
        """They take it out again, of both; it stays on pciback."""
        for guest in self.guests.values():
            if guest.paused:
                continue
            if any(h.address == card.address for h in _foreign(guest.config)):
                guest.config = document.without_hostdev(guest.config, card.address)
            if guest.live and any(h.address == card.address for h in _foreign(guest.live)):
                guest.live = document.without_hostdev(guest.live, card.address)
                del self.backend[card.address]
                card.owner = QUARANTINE

    def xl_detach(self, card: Card) -> None:
        """The administrator takes it out behind libvirt's back."""
        given = self.backend.get(card.address)
        guest = self.guest_of(given.domid) if given else None
        if guest is not None and not guest.paused:
            card.persons = True
            self.left(card, guest.domid)
            del self.backend[card.address]

    def nodedev_reattach(self, card: Card) -> None:
        """The administrator gives it back to dom0 the wrong way: its quarantine and its slot stay."""
        if card.present and card.driver == PCIBACK and not card.in_guest:
            card.override = None
            self.probe(card)

    _EVENTS: ClassVar[Mapping[str, Callable[..., None]]] = {
        "start": start,
        "destroy": destroy,
        "reboot": reboot,
        "pause": pause,
        "resume": resume,
        "vanish": vanish,
        "appear": appear,
        "virsh-attach": virsh_attach,
        "virsh-config": virsh_config,
        "virsh-detach": virsh_detach,
        "xl-detach": xl_detach,
        "nodedev-reattach": nodedev_reattach,
    }

    def pauses(self) -> None:
        """The time between two tries passes: what is gone now is long gone then, and what was seen is old."""
        self.shown_given, self.shown_owned = {}, {}
        for card in self.cards.values():
            card.long_gone = not card.present

    # -- what the kernel and Xen do

    def bind_pciback(self, card: Card) -> None:
        card.driver, card.slot, card.link = PCIBACK, True, None

    def unbind(self, card: Card) -> None:
        if card.lazy and card.driver == card.native:
            card.loaded = False
        card.driver, card.link = None, None

    def probe(self, card: Card) -> None:
        """The kernel looks for a driver: pciback takes what is in its slots, or is overridden to it."""
        self.unbind(card)
        if self.loaded and (card.slot or card.override == PCIBACK):
            self.bind_pciback(card)
        elif card.loaded and card.override is None and card.native is not None:
            assert not card.in_guest, "dom0's driver is bound to what a guest owns"
            card.driver = card.native
            if card.wired is not None:
                card.link = Link(name=card.wired.name, mac=card.wired.mac, mtu=1500)

    def left(self, card: Card, domid: int | None) -> None:
        if card.owner == domid:
            card.owner = QUARANTINE


class ModelJournal(Journal):
    """cede's own journal, whose transactions can be cut off; it needn't outlive a loss of power."""

    gate: Gate
    clock: Clock

    def __init__(self, path: Path) -> None:
        super().__init__(path, boot="this", now=lambda: self.clock.now())  # noqa: PLW0108 - the clock comes with the host
        with super()._writing() as connection:
            connection.execute("PRAGMA user_version")
        assert self._open is not None
        self._open.execute("PRAGMA synchronous = OFF")

    def wipe(self) -> None:
        with super()._writing() as connection:
            for table in ("deed", "task", "origin", "held", "pause", "attachment", "condition"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        fault = self.gate.enter(Adapter.JOURNAL, action=True)
        with super()._writing() as connection:
            yield connection
        self.gate.leave(fault, Adapter.JOURNAL)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        self.gate.enter(Adapter.JOURNAL, action=False)
        with super()._reading() as connection:
            yield connection
