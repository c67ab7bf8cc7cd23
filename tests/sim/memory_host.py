"""A Xen host in memory, with every adapter that cede uses and the traps of the real one.

libvirt's list of what a running guest has, xenstore's backend and Xen's own notion of the owner are three states, as
they are in reality; an interrupted call leaves them different. What must never be asked of a real host (it crashes
libvirtd, or takes from somebody what is theirs) is an AssertionError here, which no code of cede's catches.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar

from cede.adapters.ports import Adapters
from cede.adapters.runtime import Runtime
from cede.domain_xml import document
from cede.domain_xml.edits import IncrementalEdit, incremental_edits
from cede.errors import CedeError, GuestSilentError, PermanentError, WorldMovedError
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, KernelLine
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Link
from cede.state.journal import Journal
from cede.util.paths import Paths
from cede.util.retry import STEP_SECONDS
from sim.changed_xml import changed
from sim.faults import Adapter, Gate
from sim.passing_time import InlineTimeouts, SimulatedTime

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.adapters.ports import Console
    from cede.adapters.runtime import LibvirtAccess
    from cede.model.inventory import LibxlNote
    from cede.model.pci import SwitchedOn
    from cede.util.clock import Clock

DOM0, QUARANTINE = 0, 0x7FF2  # DOMID_IO, which Xen keeps what left a guest in
_Stages = list["Callable[[], object]"]


def _sets(thing: object, **values: object) -> Callable[[], None]:
    """One stage of an action: the thing has these values from then on."""

    def stage() -> None:
        for name, value in values.items():
            setattr(thing, name, value)

    return stage


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
        return Adapters(
            libvirt=MemoryLibvirt(self),
            sysfs=MemorySysfs(self),
            xenstore=MemoryXenstore(self),
            uses=MemoryHostUses(self),
            links=MemoryLinks(self),
            kernel=MemoryKernel(self),
            modules=MemoryModules(),
            kernel_log=MemoryKernelLog(),
            xl=MemoryXl(self),
            hypervisor=MemoryHypervisor(self),
            journal=self.journal,
            clock=self.clock,
            timeouts=InlineTimeouts(),
        )

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


class _Port:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._gate = host.gate

    def _card(self, address: Address) -> Card:
        card = self._host.cards[address]
        assert not card.guarded, f"{address} is what dom0 lives on"
        return card

    def _guest(self, name: str) -> Guest:
        if name not in self._host.guests:
            raise WorldMovedError(f"no domain {name}")
        return self._host.guests[name]


class MemoryLibvirt(_Port):
    def domains(self) -> tuple[Domain, ...]:
        host = self._host
        return self._gate.asks(
            Adapter.LIBVIRT, lambda: tuple(host.domain(host.guests[n]) for n in sorted(host.guests))
        )

    def domain(self, name: str) -> Domain | None:
        host = self._host
        return self._gate.asks(
            Adapter.LIBVIRT, lambda: host.domain(host.guests[name]) if name in host.guests else None
        )

    def running(self, name: str) -> Domain | None:
        found = self.domain(name)
        return found if found is not None and found.running else None

    def node_devices(self) -> frozenset[str]:
        cards = self._host.cards.values()
        return self._gate.asks(
            Adapter.LIBVIRT, lambda: frozenset(c.address.node_device for c in cards if c.present)
        )

    def last_libxl_line(self, domain: str) -> str:  # noqa: ARG002 - the port's signature
        return ""

    def shut_down(self, domain: str) -> None:
        self._host.happens(f"destroy {domain}")

    def start(self, domain: str) -> None:
        self._host.happens(f"start {domain}")

    @contextmanager
    def console(self, domain: str) -> Iterator[Console]:
        raise GuestSilentError(f"{domain} has no console to ask on")
        yield

    def close(self) -> None:
        """Nothing was opened."""

    def persistent_xml(self, domain: str) -> str:
        return self._gate.asks(Adapter.LIBVIRT, lambda: self._guest(domain).config)

    def _there(self, address: Address) -> Card:
        card = self._card(address)
        assert not card.long_gone, f"libvirt is asked of {address}, which has long gone"
        if not card.present:
            raise WorldMovedError(f"no node device {address.node_device}")
        return card

    def bind_to_pciback(self, address: Address) -> None:
        def prepare() -> _Stages:
            card = self._there(address)
            if not self._host.loaded:
                raise PermanentError("failed to load PCI driver module pciback")
            if card.driver == PCIBACK:
                return []
            return [
                _sets(card, override=PCIBACK),
                partial(self._host.unbind, card),
                partial(self._host.bind_pciback, card),
            ]

        self._gate.does(Adapter.LIBVIRT, prepare, honest=False)

    def reattach(self, address: Address) -> None:
        def prepare() -> _Stages:
            card, host = self._there(address), self._host
            if any(host.domain(guest).live_hostdev(address) for guest in host.guests.values()):
                raise PermanentError(f"{address} is in use")
            assert not card.in_guest, "dom0's driver is bound to what a guest owns"
            given = host.backend.get(address)
            assert given is None or not given.closing, "dom0 takes what a guest hasn't let go of"
            return [
                _sets(card, override=None),
                partial(self._host.unbind, card),
                partial(self._host.probe, card),
            ]

        self._gate.does(Adapter.LIBVIRT, prepare, honest=False)

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        def prepare() -> _Stages:
            guest, card, host = self._guest(domain), self._there(address), self._host
            if guest.live is None or guest.domid is None:
                raise WorldMovedError("domain is not running")
            domid, seen = guest.domid, host.domain(guest)
            if seen.live_hostdev(address):
                raise WorldMovedError("target pci device already exists")
            if card.driver != PCIBACK:
                raise WorldMovedError("must be manually detached from the host")
            assert host.shown_owned.get(address, True) is not True, (
                f"libvirt resets {address} in use"
            )
            if not seen.passthrough or address in host.backend or card.in_guest:
                raise PermanentError("libxenlight failed to attach pci device")
            live = guest.live
            return [
                _sets(card, owner=domid),
                lambda: host.backend.update({address: Given(domid, by_cede=True)}),
                _sets(
                    guest, live=document.with_hostdev(live, address, alias, permissive=permissive)
                ),
            ]

        self._gate.does(Adapter.LIBVIRT, prepare, honest=False)

    def unplug(self, domain: str, address: Address) -> bool:
        def prepare() -> _Stages:
            guest, host = self._guest(domain), self._host
            shown = document.hostdev_as_shown(guest.live or guest.config, address)
            if shown is None:
                return []
            if guest.live is None:
                raise WorldMovedError("domain is not running")
            card, live, domid = self._there(address), guest.live, guest.domid
            given = host.backend.get(address)
            if given is None or given.domid != domid:
                seen = host.shown_given.get(address) == domid
                assert seen, "a live detach that fails: libvirtd crashes"
                raise PermanentError("libxenlight failed to detach pci device")
            assert given.by_cede, f"another tool's {address} is taken out"
            return [
                partial(host.left, card, domid),
                partial(self._let_go, guest, address),
                _sets(guest, live=document.without_hostdev(live, address)),
            ]

        return self._gate.does(Adapter.LIBVIRT, prepare)

    def _let_go(self, guest: Guest, address: Address) -> None:
        if guest.paused:
            self._host.backend[address].closing = True
        else:
            del self._host.backend[address]

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        def prepare() -> _Stages:
            guest = self._guest(domain)
            edited = edit(guest.config)
            if edited == guest.config:
                return []
            found = incremental_edits(guest.config, edited)
            if found is None:
                return [_sets(guest, config=edited)]
            return [partial(self._edit, guest, change) for change in found]

        return self._gate.does(Adapter.LIBVIRT, prepare)

    @staticmethod
    def _edit(guest: Guest, change: IncrementalEdit) -> None:
        guest.config = changed(guest.config, change)


class MemorySysfs(_Port):
    @property
    def pciback_loaded(self) -> bool:
        return self._gate.asks(Adapter.SYSFS, lambda: self._host.loaded)

    def pciback_slots(self) -> frozenset[Address]:
        cards = self._host.cards.values()
        return self._gate.asks(
            Adapter.SYSFS, lambda: frozenset(card.address for card in cards if card.slot)
        )

    def remove_pciback_slot(self, address: Address) -> None:
        def prepare() -> _Stages:
            card = self._card(address)
            if not card.slot:
                raise PermanentError(f"{address} is in no slot")
            return [_sets(card, slot=False)]

        self._gate.does(Adapter.SYSFS, prepare)

    def driver(self, address: Address) -> str | None:
        return self._gate.asks(Adapter.SYSFS, lambda: self._host.cards[address].driver)

    def driver_override(self, address: Address) -> str | None:
        return self._gate.asks(Adapter.SYSFS, lambda: self._host.cards[address].override)

    def switched_on(self, address: Address) -> SwitchedOn | None:  # noqa: ARG002 - the port's signature
        return None

    def power(self, address: Address) -> str:  # noqa: ARG002 - the port's signature
        return "D0"

    def permissive(self) -> frozenset[Address]:
        return frozenset()

    def serial(self, address: Address) -> str | None:  # noqa: ARG002 - the port's signature
        return None

    def modalias(self, address: Address) -> str:
        return str(address)

    def interfaces(self, address: Address) -> tuple[str, ...]:
        def seen() -> tuple[str, ...]:
            link = self._host.cards[address].link
            return () if link is None else (link.name,)

        return self._gate.asks(Adapter.SYSFS, seen)

    def disks(self, address: Address) -> tuple[str, ...]:
        def seen() -> tuple[str, ...]:
            card = self._host.cards[address]
            return card.disks if card.driver == card.native else ()

        return self._gate.asks(Adapter.SYSFS, seen)

    def identity(self, address: Address) -> Identity | None:
        return self._gate.asks(
            Adapter.SYSFS, lambda: IDENTITY if self._host.cards[address].present else None
        )

    def devices(self) -> tuple[Device, ...]:
        cards = self._host.cards.values()
        return self._gate.asks(
            Adapter.SYSFS, lambda: tuple(self._device(card) for card in cards if card.present)
        )

    def device(self, address: Address) -> Device | None:
        card = self._host.cards[address]
        return self._gate.asks(Adapter.SYSFS, lambda: self._device(card) if card.present else None)

    @staticmethod
    def _device(card: Card) -> Device:
        return Device(
            address=card.address,
            identity=IDENTITY,
            driver=card.driver,
            driver_override=card.override,
            reset_methods=("pm",),
            interfaces=() if card.link is None else (card.link.name,),
            mac=None if card.link is None else card.link.mac,
            in_pciback_slots=card.slot,
        )


IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")


class MemoryXenstore(_Port):
    def backend(self) -> tuple[BackendDevice, ...]:
        def seen() -> tuple[BackendDevice, ...]:
            given = sorted(self._host.backend.items())
            self._host.shown_given = {address: one.domid for address, one in given}
            return tuple(self._seen(*one) for one in given)

        return self._gate.asks(Adapter.XENSTORE, seen)

    def stale_notes(self) -> tuple[LibxlNote, ...]:
        return ()

    def read_data(self, domid: int, name: str) -> bytes | None:  # noqa: ARG002 - the port's signature
        return None

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """No guest has a helper that would read it."""

    def remove_data(self, domid: int, name: str) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing was opened."""

    def _seen(self, address: Address, given: Given) -> BackendDevice:
        guest = self._host.guest_of(given.domid)
        assert guest is not None
        pv = guest.kind is GuestKind.PV
        return BackendDevice(
            domid=given.domid,
            address=address,
            index=0,
            state=3,
            backend_state=(3 if guest.paused else 4) if pv else 3,
            frontend_state=3 if guest.paused else 4,
            virtual_slot=Address(0, 0, 0, 0),
        )


class MemoryXl(_Port):
    def installed(self) -> bool:
        return True

    def detach(self, domid: int, address: Address) -> None:
        def prepare() -> _Stages:
            host, card = self._host, self._card(address)
            given, guest = host.backend.get(address), host.guest_of(domid)
            if given is None or guest is None or given.domid != domid:
                raise PermanentError("PCI device not attached to this domain")
            listed = host.domain(guest).live_hostdev(address)
            assert not listed, f"{address} is taken out behind libvirt's back"
            assert given.by_cede, f"another tool's {address} is taken out"
            host.left(card, domid)
            if guest.paused:
                raise PermanentError("pci backend is not ready")
            return [partial(host.backend.pop, address)]

        self._gate.does(Adapter.XL, prepare)

    def assignable_remove(self, address: Address) -> bool:
        def prepare() -> _Stages:
            card = self._card(address)
            if card.owner != QUARANTINE:
                return []  # "failed to de-quarantine"
            stages: _Stages = [_sets(card, owner=DOM0)]
            if card.driver == PCIBACK:
                stages.append(partial(self._host.unbind, card))
                stages.append(_sets(card, slot=False))
            return stages

        return self._gate.does(Adapter.XL, prepare)


class MemoryHypervisor(_Port):
    def kind(self) -> str:
        return "xen"

    def is_dom0(self) -> bool | None:
        return True

    def virtualisation(self) -> tuple[str, ...]:
        return ("pv", "pv_directio")

    def command_line(self) -> str:
        return ""

    def log(self) -> str:
        return ""

    def in_guest(self, address: Address) -> bool | None:
        owned = self._reported(lambda: self._host.cards[address].in_guest)
        self._host.shown_owned[address] = owned
        return owned

    def quarantined(self, address: Address) -> bool | None:
        return self._reported(lambda: self._host.cards[address].owner == QUARANTINE)

    def faults(self, address: Address) -> int:  # noqa: ARG002 - the port's signature
        return 0

    def _reported(self, answer: Callable[[], bool]) -> bool | None:
        try:
            return self._gate.asks(Adapter.HYPERVISOR, answer)
        except CedeError:
            return None  # it can't be asked

    def deassign(self, domid: int, address: Address) -> None:
        def prepare() -> _Stages:
            card = self._card(address)
            if card.owner != domid:
                raise PermanentError(f"Xen doesn't take {address} from domain {domid}")
            assert address not in self._host.backend, f"xenstore still gives {address} away"
            return [_sets(card, owner=QUARANTINE)]

        self._gate.does(Adapter.HYPERVISOR, prepare)


class MemoryKernelLog:
    def lines(self, about: str = "") -> tuple[KernelLine, ...]:  # noqa: ARG002 - the port's signature
        return ()


class MemoryModules:
    """xen-pciback is a module, and loaded when it is needed."""

    def __init__(self) -> None:
        self._own_file: str | None = None

    def available(self) -> bool | None:
        return True

    def loaded(self) -> str | None:
        return "module"

    def built_in(self) -> bool:
        return False

    def options(self) -> tuple[tuple[str, str], ...]:
        return ()

    def kernel_command_line(self) -> str:
        return ""

    def loaders(self) -> tuple[str, ...]:
        return ("cede.conf",) if self._own_file else ()

    def loaded_at_boot(self) -> bool:
        return bool(self._own_file)

    def initramfs_makers(self) -> tuple[str, ...]:
        return ()

    def own_file(self) -> str | None:
        return self._own_file

    def load_at_boot(self) -> None:
        self._own_file = "xen-pciback\n"

    def dont_load_at_boot(self) -> None:
        self._own_file = None


class MemoryHostUses(_Port):
    def find(
        self,
        disks: Mapping[str, Sequence[str]],  # noqa: ARG002 - the port's signature
        interfaces: Mapping[str, Sequence[str]],  # noqa: ARG002 - the port's signature
    ) -> dict[Address, list[HostUse]]:
        return self._gate.asks(
            Adapter.USES,
            lambda: {
                card.address: [HostUse(guard="filesystem", chain=(str(card.address), "vda", "/"))]
                for card in self._host.cards.values()
                if card.guarded
            },
        )


class MemoryLinks(_Port):
    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        cards = self._host.cards.values()
        return self._gate.asks(
            Adapter.LINKS, lambda: tuple(c.link for c in cards if c.link and c.link.name in names)
        )

    def restore(self, link: Link, now: Link) -> None:
        def prepare() -> _Stages:
            cards = self._host.cards.values()
            card = next((c for c in cards if c.link and c.link.name == now.name), None)
            if card is None or card.link is None:
                raise PermanentError(f"there is no interface {now.name}")
            there = card.link
            return [
                _sets(card, link=replace(there, mtu=link.mtu)),
                _sets(card, link=link),
            ]

        self._gate.does(Adapter.LINKS, prepare)


class MemoryKernel(_Port):
    def await_udev(self, seconds: float) -> bool:
        return seconds > 0

    def load_pciback(self) -> None:
        self._gate.does(Adapter.KERNEL, lambda: [_sets(self._host, loaded=True)], honest=False)

    def load_driver(self, modalias: str) -> None:
        def prepare() -> _Stages:
            card = self._card(Address.parse(modalias))
            if card.native is None:
                raise PermanentError("no module for it")
            return [lambda: self._loaded(card)]

        self._gate.does(Adapter.KERNEL, prepare)

    def _loaded(self, card: Card) -> None:
        card.loaded = True
        if card.present and card.driver is None:
            self._host.probe(card)
