"""The ports of the host in memory: each call passes its gate, acts in stages, and refuses what the real one refuses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cede.adapters.ports import Adapters
from cede.domain_xml import document
from cede.domain_xml.edits import IncrementalEdit, incremental_edits
from cede.errors import CedeError, GuestSilentError, PermanentError, WorldMovedError
from cede.model.domain import Domain, GuestKind
from cede.model.inventory import BackendDevice, KernelLine
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Link
from sim.changed_xml import changed
from sim.faults import Adapter
from sim.memory_host import DOM0, QUARANTINE, Card, Given, Guest, Host
from sim.passing_time import InlineTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from cede.adapters.ports import Console
    from cede.model.inventory import LibxlNote
    from cede.model.pci import SwitchedOn

IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
_Stages = list["Callable[[], object]"]


def _sets(thing: object, **values: object) -> Callable[[], None]:
    """One stage of an action: the thing has these values from then on."""

    def stage() -> None:
        for name, value in values.items():
            setattr(thing, name, value)

    return stage


def adapters(host: Host) -> Adapters:
    return Adapters(
        libvirt=MemoryLibvirt(host),
        sysfs=MemorySysfs(host),
        xenstore=MemoryXenstore(host),
        uses=MemoryHostUses(host),
        links=MemoryLinks(host),
        kernel=MemoryKernel(host),
        modules=MemoryModules(),
        kernel_log=MemoryKernelLog(),
        xl=MemoryXl(host),
        hypervisor=MemoryHypervisor(host),
        journal=host.journal,
        clock=host.clock,
        timeouts=InlineTimeouts(),
    )


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


class MemoryXenstore(_Port):
    def backend(self) -> tuple[BackendDevice, ...]:
        def seen() -> tuple[BackendDevice, ...]:
            given = sorted(self._host.backend.items())
            self._host.shown_given = {address: one.domid for address, one in given}
            return tuple(self._seen(*one) for one in given)

        return self._gate.asks(Adapter.XENSTORE, seen)

    def remove_given_up(self, given: BackendDevice) -> None:
        def prepare() -> _Stages:
            assert given.detach_given_up, "what a guest may still have is cleared"
            return [partial(self._host.backend.pop, given.address)]

        self._gate.does(Adapter.XENSTORE, prepare)

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
