"""The other played ports: xl, the hypervisor, the kernel; each call passes the host's gate and acts in stages."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.ports import Adapters
from cede.adapters.xen.xenstore import Xenstore
from cede.errors import CedeError, PermanentError
from cede.model.log_lines import KernelLine
from cede.model.pci import PCIBACK, Address, Link
from cede.state.key_files import RefusedLogins
from cede.util.log import log_calls
from sim.card import DOM0, QUARANTINE
from sim.faults import Adapter
from sim.libvirt import SimulatedLibvirt
from sim.port import Port, Stages, sets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cede.model.domain import Silence
    from cede.model.inventory import BackendDevice
    from cede.model.network import Network
    from cede.model.pci import Device, HostUse
    from cede.model.served import Served
    from cede.model.virtual_functions import FunctionSettings
    from sim.host import Host


def adapters(host: Host, *, offline: bool) -> Adapters:
    """All of the host's ports."""
    return Adapters(
        libvirt=log_calls(SimulatedLibvirt(host, offline=offline), "libvirt"),
        sysfs=host.sysfs(),
        xenstore=SimulatedXenstore(host),
        uses=SimulatedHostUses(host),
        links=log_calls(SimulatedLinks(host), "links"),
        kernel=log_calls(SimulatedKernel(host), "kernel"),
        modules=Modules(host.paths.root),
        kernel_log=SimulatedKernelLog(host),
        xl=log_calls(SimulatedXl(host), "xl"),
        hypervisor=log_calls(SimulatedHypervisor(host), "xc"),
        daemons=SimulatedDaemons(),
        journal=host.written,
        refused_logins=RefusedLogins(host.paths.refused_logins),
        clock=host.clock,
        timeouts=host.timeouts,
        seed=lambda: "this host",
    )


class SimulatedDaemons:
    """Nothing more is known of a daemon that is silent."""

    def explain(self, silence: CedeError) -> CedeError:
        return silence


class SimulatedXl(Port):
    """What libvirt has no call for."""

    def installed(self) -> bool:
        return True

    def attach(self, domid: int, address: Address, *, permissive: bool) -> None:
        def prepare() -> Stages:
            host, card, guest = self._host, self._card(address), self._host.guest_of(domid)
            if guest is None or card.driver != PCIBACK or card.in_guest:
                raise PermanentError("PCI device not assignable, or already assigned")
            hostdev = guest.domain.live_hostdev(address)
            assert hostdev is not None, f"libvirt never hears of {address} in {guest.name}"
            assert hostdev.write_filtering is not permissive
            assert not guest.paused, "a paused guest is given something"
            return [
                sets(card, owner=domid),
                partial(host.list_given, address, domid, by_cede=hostdev.owned),
            ]

        self._gate.does(Adapter.XL, "xl-attach", prepare, domid, address)

    def detach(self, domid: int, address: Address) -> None:
        def prepare() -> Stages:
            host, card, guest = self._host, self._card(address), self._host.guest_of(domid)
            if guest is None or host.backend.get(address) != domid:
                raise PermanentError("PCI device not attached to this domain")
            listed = guest.domain.live_hostdev(address)
            assert not listed, f"{address} is taken out behind libvirt's back"
            assert address in host.by_cede, f"another tool's {address} is taken out"
            assert address not in host.closing | host.given_up, "asked again, the backend is stuck"
            return [partial(host.left, card, domid), partial(host.detach, guest, address)]

        self._gate.does(Adapter.XL, "xl-detach", prepare, domid, address)

    def assignable_remove(self, address: Address) -> bool:
        def prepare() -> Stages:
            card = self._card(address)
            if card.owner != QUARANTINE:
                return []  # "failed to de-quarantine"
            stages: Stages = [sets(card, owner=DOM0)]
            if card.driver == PCIBACK:
                stages.append(partial(self._host.unbind, card))
                stages.append(sets(card, slot=False))
            return stages

        return self._gate.does(Adapter.XL, "assignable-remove", prepare, address)


class SimulatedHypervisor(Port):
    """Xen's own word on each device."""

    def kind(self) -> str:
        return "xen"

    def is_dom0(self) -> bool | None:
        return True

    def virtualisation(self) -> tuple[str, ...]:
        return ("pv", "pv_directio")

    def command_line(self) -> str:
        return ""

    def log(self) -> str:
        return self._gate.replaced("xen-log", lambda: "")

    def faults(self, address: Address) -> int:
        return self._gate.replaced("faults", lambda _: self._host.logged_faults, address)

    def silences(self) -> dict[int, Silence]:
        return {
            guest.domid: guest.silence
            for guest in self._host.guests.values()
            if guest.domid is not None and guest.silence is not None
        }

    def in_guest(self, address: Address) -> bool | None:
        owned = self._reported("in-guest", lambda at: self._host.cards[at].in_guest, address)
        self._host.shown_owned[address] = owned
        return owned

    def quarantined(self, address: Address) -> bool | None:
        return self._reported(
            "quarantined", lambda at: self._host.cards[at].owner == QUARANTINE, address
        )

    def _reported(
        self, verb: str, answer: Callable[[Address], bool], address: Address
    ) -> bool | None:
        try:
            return self._gate.asks(Adapter.HYPERVISOR, verb, answer, address)
        except CedeError:
            return None  # it can't be asked

    def deassign(self, domid: int, address: Address) -> None:
        def prepare() -> Stages:
            card = self._card(address)
            if card.owner != domid:
                raise PermanentError(f"Xen doesn't take {address} from domain {domid}")
            assert address not in self._host.backend, f"xenstore still gives {address} away"
            return [partial(self._host.left, card, domid)]

        self._gate.does(Adapter.HYPERVISOR, "deassign", prepare, domid, address)


class SimulatedKernelLog(Port):
    """One line a second since boot."""

    def lines(self, about: str = "") -> tuple[KernelLine, ...] | None:
        return self._gate.replaced("kernel-log", self._said, about)

    def _said(self, about: str) -> tuple[KernelLine, ...]:
        return tuple(
            KernelLine(seconds_since_boot=float(at), text=text)
            for at, text in enumerate(self._host.kernel_said)
            if about in text
        )


class SimulatedLinks(Port):
    """The interfaces that `ip` would show."""

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        return self._gate.asks(Adapter.LINKS, "read-links", self._named, names)

    def network(self) -> Network:
        return self._gate.replaced("network", self._host.network)

    def _named(self, names: Collection[str]) -> tuple[Link, ...]:
        links = (link for card in list(self._host.cards.values()) for link in card.links)
        return tuple(link for link in links if link.name in names)

    def functions(self, name: str) -> tuple[FunctionSettings, ...]:
        return self._gate.asks(
            Adapter.LINKS, "functions", lambda of: tuple(self._host.functions.get(of, ())), name
        )

    def switch_on(self, name: str) -> None:
        def prepare() -> Stages:
            return [partial(self._host.off.discard, name)]

        self._gate.does(Adapter.LINKS, "switch-on", prepare, name)

    def set_up_function(self, name: str, index: int, settings: FunctionSettings) -> None:
        def prepare() -> Stages:
            for what in settings.said:
                if what in self._host.unsupported:
                    raise PermanentError(f"RTNETLINK answers: Operation not supported ({what})")
            each = self._host.functions[name]
            return [partial(each.__setitem__, index, replace(each[index], **settings.said))]  # type: ignore[arg-type]

        self._gate.does(Adapter.LINKS, "set-up-function", prepare, name, index)

    def restore(self, link: Link, now: Link) -> None:
        def prepare() -> Stages:
            for card in list(self._host.cards.values()):
                for seen in card.links:
                    if seen.name == now.name:
                        others = tuple(one for one in card.links if one is not seen)
                        return [
                            sets(card, links=(replace(seen, mtu=link.mtu), *others)),
                            sets(card, links=(link, *others)),
                        ]
            raise PermanentError(f"there is no interface {now.name}")

        self._gate.does(Adapter.LINKS, "restore", prepare, now.name, "as", link.name)


class SimulatedKernel(Port):
    """modprobe and udev."""

    def await_udev(self, seconds: float) -> bool:
        return self._gate.replaced("await-udev", lambda: seconds > 0)

    def load_pciback(self) -> None:
        self._gate.does(
            Adapter.KERNEL, "load", lambda: [sets(self._host, loaded=True)], honest=False
        )

    def load_driver(self, modalias: str) -> None:
        def prepare() -> Stages:
            cards = [card for card in self._host.cards.values() if card.modalias == modalias]
            if not cards or cards[0].native is None:
                raise PermanentError("no module for it")
            return [partial(self._host.load_driver, self._card(card.address)) for card in cards]

        self._gate.does(Adapter.KERNEL, "load-driver", prepare, modalias)


class SimulatedSysfs(Port, Sysfs):
    """cede's own adapter, and pciback's file that takes a write."""

    def __init__(self, host: Host) -> None:
        Port.__init__(self, host)
        Sysfs.__init__(self, host.paths.root / "sys")

    def devices(self) -> tuple[Device, ...]:
        return self._gate.asks(Adapter.SYSFS, "devices", super().devices)

    def set_virtual_functions(self, address: Address, count: int, *, probed: bool) -> None:
        def prepare() -> Stages:
            taken = [c.address for c in self._host.cards.values() if c.present and c.in_guest]
            there = self._host.virtual_of(address)
            assert not set(taken) & set(there), f"virtual functions of {address} end in a guest"
            return [partial(self._host.make_virtual, address, count, probed=probed)]

        self._gate.does(Adapter.SYSFS, "set-virtual-functions", prepare, address, count)

    def remove_pciback_slot(self, address: Address) -> None:
        def prepare() -> Stages:
            card = self._card(address)
            if not card.slot:
                raise PermanentError(f"{address} is in no slot")
            return [sets(card, slot=False)]

        self._gate.does(Adapter.SYSFS, "remove-slot", prepare, address)


class SimulatedXenstore(Port, Xenstore):
    """cede's own adapter, of which it is remembered what it has shown."""

    def __init__(self, host: Host) -> None:
        Port.__init__(self, host)
        Xenstore.__init__(self, host.store)

    def backend(self) -> tuple[BackendDevice, ...]:
        served = self._gate.asks(Adapter.XENSTORE, "backend", self._host.served)
        self._host.shown_given = {one.address: one.domid for one in served}
        return served

    def remove_given_up(self, given: BackendDevice) -> None:
        def prepare() -> Stages:
            assert given.detach_given_up, "what a guest may still have is cleared"
            return [partial(self._host.remove_given_up, given)]

        self._gate.does(Adapter.XENSTORE, "remove-given-up", prepare, given.address)


class SimulatedHostUses(Port):
    def find(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        return self._gate.asks(Adapter.USES, "uses", self._host.uses, network, served)
