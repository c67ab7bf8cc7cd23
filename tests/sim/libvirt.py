"""libvirt, played: it keeps XML, binds and plugs devices, and refuses what the real one refuses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cede.domain_xml import document
from cede.domain_xml.edits import IncrementalEdit, incremental_edits
from cede.errors import PermanentError, WorldMovedError
from cede.model.pci import PCIBACK, Address
from sim.changed_xml import changed
from sim.faults import Adapter
from sim.guest import GuestShell
from sim.port import Port, Stages, sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Console
    from cede.model.domain import Domain
    from sim.card import Card
    from sim.guest import Guest
    from sim.host import Host

_T = TypeVar("_T")


class SimulatedLibvirt(Port):
    """Unless it is `offline`, it can be silent."""

    def __init__(self, host: Host, *, offline: bool = False) -> None:
        super().__init__(host)
        self._offline = offline

    def _asks(self, verb: str, answer: Callable[..., _T], *about: object) -> _T:
        self._answers()
        return self._gate.asks(Adapter.LIBVIRT, verb, answer, *about)

    def _does(
        self, verb: str, prepare: Callable[[], Stages], *about: object, honest: bool = True
    ) -> bool:
        self._answers()
        return self._gate.does(Adapter.LIBVIRT, verb, prepare, *about, honest=honest)

    def _answers(self) -> None:
        if self._host.silent is not None and not self._offline:
            raise self._host.silent

    # -- what it knows

    def domains(self) -> tuple[Domain, ...]:
        guests = self._host.guests
        return self._asks("domains", lambda: tuple(guests[name].domain for name in sorted(guests)))

    def domain(self, name: str) -> Domain | None:
        return self._asks("domain", self._known, name)

    def running(self, name: str) -> Domain | None:
        found = self._asks("running", self._known, name)
        return replace(found, config=()) if found is not None and found.running else None

    def _known(self, name: str) -> Domain | None:
        return self._host.guests[name].domain if name in self._host.guests else None

    def storage_pools(self) -> dict[str, tuple[str, ...]]:
        return self._asks("storage_pools", lambda: dict(self._host.pools))

    def node_devices(self) -> frozenset[str]:
        cards = self._host.cards.values()
        return self._asks(
            "node_devices", lambda: frozenset(c.address.node_device for c in cards if c.present)
        )

    def last_libxl_line(self, domain: str) -> str:  # noqa: ARG002 - the port's signature
        return ""

    def persistent_xml(self, domain: str) -> str:
        return self._asks("persistent_xml", lambda name: self._guest(name).config, domain)

    # -- what it does with node devices

    def _there(self, address: Address) -> Card:
        card = self._card(address)
        assert not card.long_gone, f"libvirt is asked of {address}, which has long gone"
        if not card.present:
            raise WorldMovedError(f"no node device {address.node_device}")
        return card

    def bind_to_pciback(self, address: Address) -> None:
        def prepare() -> Stages:
            card = self._there(address)
            if not self._host.loaded:
                raise PermanentError("failed to load PCI driver module pciback")
            if card.driver == PCIBACK:
                return []
            return [
                sets(card, override=PCIBACK),
                partial(self._host.unbind, card),
                partial(self._host.bind_pciback, card),
            ]

        self._does("bind_to_pciback", prepare, address, honest=False)

    def reattach(self, address: Address) -> None:
        def prepare() -> Stages:
            card, host = self._there(address), self._host
            if any(guest.domain.live_hostdev(address) for guest in host.guests.values()):
                raise PermanentError(f"{address} is in use")
            assert not card.in_guest, "dom0's driver is bound to what a guest owns"
            listed = host.closing | host.given_up
            assert address not in listed, "dom0 takes what a guest hasn't let go of"
            return [
                sets(card, override=None),
                partial(self._host.unbind, card),
                partial(self._host.probe, card),
            ]

        self._does("reattach", prepare, address, honest=False)

    # -- what it does with domains

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        def prepare() -> Stages:
            guest, card, host = self._guest(domain), self._there(address), self._host
            live, domid, seen = guest.live, guest.domid, guest.domain
            if live is None or domid is None:
                raise WorldMovedError("domain is not running")
            if seen.live_hostdev(address):
                raise WorldMovedError("target pci device already exists")
            if card.driver != PCIBACK:
                raise WorldMovedError("must be manually detached from the host")
            assert host.shown_owned.get(address, True) is not True, (
                f"libvirt resets {address} in use"
            )
            if card.resets_with_bus and any(map(host.active, host.bus_of(card))):
                raise PermanentError(f"Active devices on bus with {address}, not doing bus reset")
            ready = seen.passthrough and not host.stuck(guest)
            if not ready or address in host.backend or card.in_guest:
                raise PermanentError("libxenlight failed to attach pci device")
            return [
                sets(card, owner=domid),
                partial(host.list_given, address, domid, by_cede=True),
                sets(
                    guest, live=document.with_hostdev(live, address, alias, permissive=permissive)
                ),
            ]

        self._does("plug", prepare, domain, address, honest=False)

    def unplug(self, domain: str, address: Address) -> bool:
        def prepare() -> Stages:
            guest, host = self._guest(domain), self._host
            if document.hostdev_as_shown(guest.live or guest.config, address) is None:
                return []
            if guest.live is None:
                raise WorldMovedError("domain is not running")
            card, live, domid = self._there(address), guest.live, guest.domid
            if host.backend.get(address) != domid:
                seen = host.shown_given.get(address) == domid
                assert seen, "a live detach that fails: libvirtd crashes"
                raise PermanentError("libxenlight failed to detach pci device")
            assert address in host.by_cede, f"another tool's {address} is taken out"
            return [
                partial(host.left, card, domid),
                partial(host.detach, guest, address),
                sets(guest, live=document.without_hostdev(live, address)),
            ]

        return self._does("unplug", prepare, domain, address)

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        def prepare() -> Stages:
            guest = self._guest(domain)
            edited = edit(guest.config)
            if edited == guest.config:
                return []
            found = incremental_edits(guest.config, edited)
            if found is None:
                return [sets(guest, config=edited)]
            return [partial(self._edit, guest, change) for change in found]

        return self._does("redefine", prepare, domain)

    @staticmethod
    def _edit(guest: Guest, change: IncrementalEdit) -> None:
        guest.config = changed(guest.config, change)

    def shut_down(self, domain: str) -> None:
        def prepare() -> Stages:
            if self._guest(domain).live is None:
                raise WorldMovedError("domain is not running")
            return [] if self._host.deaf else [partial(self._host.happens, f"destroy {domain}")]

        self._does("shut-down", prepare, domain)

    def destroy(self, domain: str) -> None:
        def prepare() -> Stages:
            if self._guest(domain).live is None:
                raise WorldMovedError("domain is not running")
            return [partial(self._host.happens, f"destroy {domain}")]

        self._does("destroy", prepare, domain)

    def start(self, domain: str) -> None:
        """With a new number, and with all that its persistent XML lists."""
        guest = self._guest(domain)

        def started() -> None:
            self._host.happens(f"start {domain}")
            if guest.live is None:
                raise PermanentError("a device of the domain is in use, or must be detached")

        def prepare() -> Stages:
            if guest.live is not None:
                raise WorldMovedError("domain is already running")
            return [started]

        self._does("start", prepare, domain)

    @contextmanager
    def console(self, domain: str) -> Iterator[Console]:
        self._does("console", list, domain)
        yield GuestShell(self._host.guest_says, self._host.time)

    def close(self) -> None:
        """Nothing was opened."""
