"""The simulated host with its state in memory: fast, and with faults at every call, for thousands of histories."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from cede.model.domain import GuestKind
from cede.model.inventory import (
    CLOSING,
    CONNECTED,
    INITIALISED,
    RECONFIGURING,
    BackendDevice,
)
from cede.model.pci import Address, Device, HostUse, Identity, Node
from cede.state.journal import Journal
from cede.util.paths import Paths
from cede.util.retry import STEP_SECONDS
from sim.faults import Adapter
from sim.host import Host
from sim.passing_time import InlineTimeouts, SimulatedTime
from sim.ports import SimulatedSysfs
from sim.xenstore_nodes import Store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cede.adapters.ports import Sysfs
    from cede.model.network import Network
    from cede.model.served import Served
    from cede.util.clock import Clock
    from sim.card import Card
    from sim.faults import Gate
    from sim.guest import Guest

_T = TypeVar("_T")
IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")


class MemoryHost(Host):
    """All calls come one after the other, so that a history is the same each time."""

    written: MemoryJournal

    def __init__(
        self, cards: Iterable[Card], guests: Iterable[Guest], journal: MemoryJournal
    ) -> None:
        super().__init__(journal.root, {}, Store({}), SimulatedTime(STEP_SECONDS / 2))
        self.cards = {card.address: card for card in cards}
        self.loaded, self.timeouts = False, InlineTimeouts()
        self.written = journal
        journal.gate, journal.clock = self.gate, self.clock
        for guest in guests:
            self.add(guest)

    def sysfs(self) -> Sysfs:
        return MemorySysfs(self)

    def served(self) -> tuple[BackendDevice, ...]:
        return tuple(self._served(*given) for given in sorted(self.backend.items()))

    def _served(self, address: Address, domid: int) -> BackendDevice:
        guest = self.guest_of(domid)
        assert guest is not None
        pv = guest.domain.kind is GuestKind.PV
        frontend = INITIALISED if guest.paused else CONNECTED
        stuck = self.stuck(guest)
        return BackendDevice(
            domid=domid,
            address=address,
            index=0,
            state=CLOSING if address in self.closing | self.given_up else INITIALISED,
            backend_state=(RECONFIGURING if stuck else frontend) if pv else INITIALISED,
            frontend_state=CONNECTED if stuck else frontend,
            virtual_slot=Address(0, 0, 0, 0),
            device_model_slot=None if pv else Address(0, 0, 4, 0),
        )

    def uses(
        self,
        network: Network,  # noqa: ARG002 - cards say themselves what they are used for
        served: Served,  # noqa: ARG002 - guests have none of that
    ) -> dict[Address, list[HostUse]]:
        return {
            card.address: [
                HostUse(guard=guard, chain=(str(card.address), "vda", "/"))
                for guard in (*(["filesystem"] if card.guarded else []), *sorted(card.uses))
            ]
            for card in self.cards.values()
            if card.guarded or card.uses
        }


class MemoryJournal(Journal):
    """cede's own journal below `root`, whose transactions can be cut off; it needn't outlive a loss of power."""

    gate: Gate
    clock: Clock

    def __init__(self, root: Path) -> None:
        self.root = root
        super().__init__(
            Paths(root=root).journal,
            boot="this",
            now=lambda: self.clock.now(),  # noqa: PLW0108 - the clock comes with the host
        )
        with super()._writing() as connection:
            connection.execute("PRAGMA user_version")
        assert self._open is not None
        self._open.execute("PRAGMA synchronous = OFF")

    def restart(self, boot: str) -> None:
        """Dom0 has been booted again; the file stays."""
        self._boot = boot

    def wipe(self) -> None:
        self._boot = "this"
        with super()._writing() as connection:
            for table in (
                "deed",
                "task",
                "origin",
                "held",
                "pause",
                "attachment",
                "condition",
                "given",
                "quarantine",
            ):
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


class MemorySysfs(SimulatedSysfs):
    """Each card is alike, but for what drives it and its interfaces; no file is there to be read."""

    def _reads(self, verb: str, answer: Callable[[], _T]) -> _T:
        return self._gate.asks(Adapter.SYSFS, verb, answer)

    def _reads_of(self, verb: str, address: Address, answer: Callable[[Card], _T]) -> _T:
        return self._gate.asks(Adapter.SYSFS, verb, lambda: answer(self._host.cards[address]))

    @property
    def pciback_loaded(self) -> bool:
        return self._reads("pciback-loaded", lambda: self._host.loaded)

    def pciback_slots(self) -> frozenset[Address]:
        cards = self._host.cards.values()
        return self._reads("slots", lambda: frozenset(c.address for c in cards if c.slot))

    def driver(self, address: Address) -> str | None:
        return self._reads_of("driver", address, lambda card: card.driver)

    def driver_override(self, address: Address) -> str | None:
        return self._reads_of("driver-override", address, lambda card: card.override)

    def modalias(self, address: Address) -> str:
        return self._host.cards[address].modalias

    def interfaces(self, address: Address) -> tuple[str, ...]:
        return self._reads_of("interfaces", address, _interfaces)

    def random_macs(self, address: Address) -> frozenset[str]:  # noqa: ARG002 - the port's signature
        return frozenset()

    def instance(self, address: Address) -> int | None:
        card = self._host.cards[address]
        return card.instance if card.present else None

    def serial(self, address: Address) -> str | None:
        return self._host.cards[address].serial

    def nodes(self) -> dict[Address, tuple[Node, ...]]:
        return self._reads(
            "nodes", lambda: {c.address: _nodes(c) for c in self._host.cards.values()}
        )

    def identity(self, address: Address) -> Identity | None:
        return self._reads_of("identity", address, lambda card: IDENTITY if card.present else None)

    def devices(self) -> tuple[Device, ...]:
        cards = self._host.cards.values()
        return self._reads("devices", lambda: tuple(_device(c) for c in cards if c.present))

    def device(self, address: Address) -> Device | None:
        return self._reads_of("device", address, lambda c: _device(c) if c.present else None)


def _interfaces(card: Card) -> tuple[str, ...]:
    return tuple(link.name for link in card.links)


def _nodes(card: Card) -> tuple[Node, ...]:
    """Its disks, which are there while its own driver has it."""
    there = card.present and card.driver == card.native
    return tuple(
        Node(kind="disk", name=f"sd{n}", id=id_) for n, id_ in enumerate(card.disks) if there
    )


def _device(card: Card) -> Device:
    return Device(
        address=card.address,
        identity=IDENTITY,
        driver=card.driver,
        driver_override=card.override,
        reset=card.reset,
        interfaces=_interfaces(card),
        mac=card.links[0].mac if card.links else None,
        serial=card.serial,
        instance=card.instance,
        physical_function=card.physical_function,
        in_pciback_slots=card.slot,
    )
