"""The simulated Xen host: its state, the rules of what changes it, and what happens on it by other hands than cede's.

`ports` is how cede reaches it; the state is in memory (`in_memory`) or in files and nodes that cede's own adapters read
(`in_files`). libvirt's list of what a running guest has, xenstore's backend and Xen's own notion of the owner are three
states, as they are in reality; an interrupted call leaves them different. What must never be asked of a real host (it
crashes libvirtd, or takes from somebody what is theirs) is an assertion here, which leaves the gate as
`faults.Forbidden`, for no code of cede's to catch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.domain_xml import document
from cede.model.domain import GuestKind
from cede.model.network import Interface, Network
from cede.model.pci import PCIBACK, Address
from cede.model.served import Served
from cede.util.paths import Paths
from sim.card import DOM0, QUARANTINE, Card
from sim.changed_xml import detached
from sim.faults import Gate
from sim.guest import Foreign, Guest, foreign_hostdevs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping
    from pathlib import Path

    from cede.adapters.ports import Adapters, Source, Sysfs
    from cede.errors import CedeError
    from cede.model.inventory import BackendDevice
    from cede.model.pci import HostUse
    from cede.model.virtual_functions import FunctionSettings
    from cede.state.journal import Journal
    from cede.util.clock import Clock, Timeouts
    from sim.passing_time import SimulatedTime
    from sim.xenstore_nodes import Store


class Host(ABC):
    """The host itself, with what happens on it by itself and by other people's hands.

    `backend` is xenstore's: which domid is given a device. `by_cede` are those of it that cede gave, `closing` those
    that a paused guest was asked to let go of, `given_up` those that it let go of too late. `silent` is how libvirt
    doesn't answer; `deaf` guests don't shut down. `unrestored` is what interfaces have that doesn't come back;
    `functions` are the virtual functions of each interface, of which a driver can't set what is `unsupported`;
    those that are `off` are switched off.
    """

    cards: Mapping[Address, Card]
    loaded: bool  # whether pciback is
    written: Journal
    timeouts: Timeouts

    def __init__(
        self,
        root: Path,
        backend: MutableMapping[Address, int],
        store: Store,
        time: SimulatedTime,
    ) -> None:
        self.paths, self.backend, self.store, self.time = Paths(root=root), backend, store, time
        self.paths.run.mkdir(exist_ok=True)
        self.guests: dict[str, Guest] = {}
        self.by_cede, self.closing, self.given_up = (set[Address]() for _ in range(3))
        self.gate = Gate(self.happens)
        self.journal, self.fails = self.gate.journal, self.gate.fails
        self.instead = self.gate.instead
        self.silent: CedeError | None = None
        self.unrestored: dict[str, tuple[str, ...]] = {}
        self.functions: dict[str, list[FunctionSettings]] = {}
        self.unsupported, self.off = set[str](), set[str]()
        self.pools: dict[str, tuple[str, ...]] = {}
        self.deaf, self.guest_says, self.logged_faults = False, "", 0
        self.user, self.is_root = "root", True
        self.opened, self.kernel_said = list[str](), list[str]()
        self._next_domid, self._watched = 1, False
        # what cede was last told, so that what changes in the moment after it is no fault of its own
        self.shown_given: dict[Address, int] = {}
        self.shown_owned: dict[Address, bool | None] = {}
        self.theirs = self.foreign()

    # -- how it is reached

    def adapters(self, *, offline: bool = False) -> Adapters:
        """One port each; what stands in for libvirt on an `offline` host answers also when libvirt is silent."""
        from sim import ports  # which know the host

        return ports.adapters(self, offline=offline)

    @abstractmethod
    def sysfs(self) -> Sysfs:
        """The port that reads the cards."""

    @abstractmethod
    def served(self) -> tuple[BackendDevice, ...]:
        """What xenstore tells of `backend`."""

    def remove_given_up(self, given: BackendDevice) -> None:
        """Xenstore lists it no longer, if it is still as it was told."""
        self.take(given.address)

    def network(self) -> Network:
        """dom0's interfaces, as far as a test has put something on them."""
        return Network(
            interfaces=tuple(
                Interface(
                    name=name,
                    unrestored=self.unrestored.get(name, ()),
                    functions=tuple(self.functions.get(name, ())),
                    up=name not in self.off,
                )
                for name in dict.fromkeys((*self.unrestored, *self.functions))
            )
        )

    def virtual_of(self, address: Address) -> tuple[Address, ...]:
        """The virtual functions of a physical one that are there."""
        return tuple(
            card.address
            for card in self.cards.values()
            if card.present and card.physical_function == address
        )

    def make_virtual(self, address: Address, count: int, *, probed: bool) -> None:
        """The driver of a physical function makes so many virtual ones."""
        raise NotImplementedError(f"{address}, {count}, {probed}")

    @abstractmethod
    def uses(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        """What dom0 itself lives on."""

    @property
    def clock(self) -> Clock:
        """A busy world is tried again twice, in which time things go on."""

        def sleep(seconds: float) -> None:
            self.time.sleep(seconds)
            self.pauses()

        return replace(self.time.clock, sleep=sleep)

    def runtime(self, *, clock: Clock | None = None, sources: tuple[Source, ...] = ()) -> Runtime:
        """What a command or a daemon is handed on this host, with locks below `paths`."""
        return Runtime(
            open_adapters=self._open,
            event_sources=lambda _runtime, _paths: sources,
            user=lambda: self.user,
            is_root=self.is_root,
            paths=self.paths,
            clock=clock or self.clock,
        )

    @contextmanager
    def _open(self, runtime: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
        self.opened.append(runtime.uri)
        if self.silent is not None and access is LibvirtAccess.REQUIRED:
            raise self.silent
        adapters = self.adapters(offline=access is LibvirtAccess.OFFLINE)
        yield replace(adapters, clock=runtime.clock)

    # -- what is not cede's

    def foreign(self) -> dict[str, Foreign]:
        return {guest.name: guest.foreign for guest in self.guests.values()}

    def watch_foreign(self) -> None:
        """From now on nothing but events may change what is not cede's."""
        self._watched, self.theirs = True, self.foreign()

    def check_foreign(self) -> None:
        assert not self._watched or self.foreign() == self.theirs, (
            "what is another tool's was changed"
        )

    # -- what is on it

    def lives_on(self, card: Card) -> bool:
        """Whether dom0 itself needs it."""
        return card.address in self.uses(self.network(), Served())

    def add(self, guest: Guest, domid: int | None = None) -> None:
        """Add a guest, or define one anew; it runs if it has a `domid`."""
        self.guests[guest.name] = guest
        if domid is not None:
            guest.run(domid)
            self._next_domid = max(self._next_domid, domid + 1)

    def guest_of(self, domid: int | None) -> Guest | None:
        return next((g for g in self.guests.values() if domid and g.domid == domid), None)

    def _closing_in(self, guest: Guest) -> list[Address]:
        return [at for at in self.closing if self.backend[at] == guest.domid]

    def stuck(self, guest: Guest) -> bool:
        """Whether its backend waits for it to let go of something."""
        return guest.paused and bool(self._closing_in(guest))

    def bus_of(self, card: Card) -> list[Card]:
        """The other functions on its bus."""
        others = (other for at, other in self.cards.items() if at.same_bus(card.address))
        return [other for other in others if other.present and other.address != card.address]

    def active(self, card: Card) -> bool:
        """Whether libvirt does not reset its bus for another function."""
        return card.driver != PCIBACK or card.in_guest

    def reserved(self, card: Card) -> bool:
        """Whether a guest's persistent XML lists it."""
        return any(g.domain.config_hostdev(card.address) for g in self.guests.values())

    # -- what happens

    def happens(self, name: str) -> None:
        """An event by its name, `verb` and `of what`; one that can't be at the moment doesn't happen."""
        self.check_foreign()
        verb, _, what = name.partition(" ")
        of, _, where = what.partition(" in ")
        thing = self.guests.get(of) or self.cards[Address.parse(of)]
        event = getattr(self, verb.replace("-", "_"))
        event(thing, *([self.guests[where]] if where else []))
        self.theirs = self.foreign()

    def start(self, guest: Guest) -> None:
        if guest.domid is not None:
            return
        cards = [(self.cards[hostdev.address], hostdev) for hostdev in guest.domain.config]
        for card, _ in cards:
            if card.driver != PCIBACK or card.in_guest or card.address in self.backend:
                return
        domid, self._next_domid = self._next_domid, self._next_domid + 1
        guest.run(domid)
        for card, hostdev in cards:
            self.give(card, domid, by_cede=hostdev.owned)

    def destroy(self, guest: Guest) -> None:
        domid = guest.domid
        if domid is None:
            return
        for card in self.cards.values():
            self.left(card, domid)
        for address in [at for at, given in self.backend.items() if given == domid]:
            self.take(address)
        guest.live, guest.paused = None, False

    def reboot(self, guest: Guest) -> None:
        if guest.domid is not None and not guest.paused:
            self.destroy(guest)
            self.start(guest)

    def pause(self, guest: Guest) -> None:
        guest.paused = guest.domid is not None

    def resume(self, guest: Guest) -> None:
        """What it has yet to let go of it lets go of now: libxl has stopped waiting, and leaves a PV guest's nodes."""
        guest.paused = False
        for address in self._closing_in(guest):
            self.closing.discard(address)
            if guest.domain.kind is GuestKind.PV:
                self.given_up.add(address)
            else:
                self.take(address)

    def vanish(self, card: Card) -> None:
        if card.present and not self.lives_on(card):
            card.driver, card.override, card.links = None, None, ()
            card.present, card.long_gone = False, False

    def appear(self, card: Card) -> None:
        """It is a new device to the kernel and to Xen; pciback's list of slots has outlived it."""
        if not card.present:
            card.present, card.long_gone, card.owner, card.module_loaded = True, False, DOM0, True
            card.instance += 1
            self.probe(card)
            card.links = card.wired if card.driver == card.native else ()  # udev's work

    def virsh_attach(self, card: Card, guest: Guest) -> None:
        """The administrator takes a free card for a guest: detach-device, attach-device --live --config."""
        free = card.present and not card.in_guest and card.address not in self.backend
        if not free or self.reserved(card) or self.lives_on(card):
            return
        if guest.domid is None or guest.paused:
            return
        card.persons = self.loaded = True
        self.bind_pciback(card)
        self.give(card, guest.domid, by_cede=False)
        if guest.live is not None:
            guest.live = document.with_hostdev(guest.live, card.address, "hostdev0")
        guest.config = document.with_hostdev(guest.config, card.address, "hostdev0")

    def virsh_config(self, card: Card, guest: Guest) -> None:
        """The administrator reserves a card for a guest's next start."""
        if not self.reserved(card):
            card.persons = True
            guest.config = document.with_hostdev(guest.config, card.address, "hostdev0")

    def virsh_detach(self, card: Card) -> None:
        """They take their own out again, of both; it stays on pciback."""
        for guest in self.guests.values():
            if not guest.paused:
                theirs = [
                    any(h.address == card.address for h in foreign_hostdevs(xml))
                    for xml in (guest.live, guest.config)
                ]
                self.detach_device(card, guest, live=theirs[0], config=theirs[1])

    def detach_device(
        self, card: Card, guest: Guest, *, live: bool = True, config: bool = True
    ) -> None:
        """`virsh detach-device` of a hostdev, whoever's it is; the ownership metadata stays."""
        persistent = document.hostdev_as_shown(guest.config, card.address)
        if config and persistent is not None:
            guest.config = detached(guest.config, persistent)
        running = document.hostdev_as_shown(guest.live, card.address) if guest.live else None
        if live and guest.live is not None and running is not None:
            self.left(card, guest.domid)
            self.take(card.address)
            guest.live = detached(guest.live, running)

    def xl_detach(self, card: Card) -> None:
        """The administrator takes it out behind libvirt's back."""
        guest = self.guest_of(self.backend.get(card.address))
        if guest is not None and not guest.paused:
            card.persons = True
            self.left(card, guest.domid)
            self.take(card.address)

    def nodedev_reattach(self, card: Card) -> None:
        """The administrator gives it back to dom0 the wrong way: its quarantine and its slot stay."""
        if card.present and card.driver == PCIBACK and not card.in_guest:
            card.override = None
            self.probe(card)

    def pauses(self) -> None:
        """The time between two tries passes: what is gone now is long gone then, and what was seen is old."""
        self.shown_given, self.shown_owned = {}, {}
        for card in list(self.cards.values()):
            card.long_gone = not card.present

    # -- what the kernel, xenstore and Xen do

    def bind_pciback(self, card: Card) -> None:
        card.driver, card.slot, card.links = PCIBACK, True, ()

    def unbind(self, card: Card) -> None:
        if card.lazy and card.driver == card.native:
            card.module_loaded = False
        card.driver, card.links = None, ()

    def probe(self, card: Card) -> None:
        """The kernel looks for a driver: pciback takes what is in its slots, or is overridden to it."""
        self.unbind(card)
        if self.loaded and (card.slot or card.override == PCIBACK):
            self.bind_pciback(card)
        elif card.module_loaded and card.override is None and card.native is not None:
            assert not card.in_guest, "dom0's driver is bound to what a guest owns"
            card.driver, card.links = card.native, card.fresh

    def load_driver(self, card: Card) -> None:
        card.module_loaded = True
        if card.present and card.driver is None:
            self.probe(card)

    def give(self, card: Card, domid: int, *, by_cede: bool) -> None:
        """Xen and xenstore give it to a guest."""
        card.owner = domid
        self.list_given(card.address, domid, by_cede=by_cede)

    def list_given(self, address: Address, domid: int, *, by_cede: bool) -> None:
        """Only xenstore says so."""
        self.backend[address] = domid
        (self.by_cede.add if by_cede else self.by_cede.discard)(address)

    def take(self, address: Address) -> None:
        """xenstore lists it no longer."""
        self.backend.pop(address, None)
        for those in (self.by_cede, self.closing, self.given_up):
            those.discard(address)

    def detach(self, guest: Guest, address: Address) -> None:
        """libxl takes it out of xenstore, if the guest answers within 10 s; else it gives up, and reports success."""
        if not guest.paused:
            self.take(address)
        elif not self.stuck(guest):
            self.closing.add(address)

    def left(self, card: Card, domid: int | None) -> None:
        """Xen keeps what a guest has had in quarantine."""
        if card.owner == domid:
            card.owner = QUARANTINE
