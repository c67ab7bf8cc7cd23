"""The simulated host with its state where a real one has it: files of sysfs and procfs, nodes of xenstore.

What cede reads by itself (sysfs, procfs, module lists, xenstore) it reads here too, through its own adapters; a test
may change a file or a node as the kernel or another tool would.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.xen.xenstore import Xenstore
from cede.model.pci import Address, Link, Reset
from cede.model.virtual_functions import NO_MAC, FunctionSettings
from cede.state.journal import Journal
from cede.util.clock import ThreadTimeouts
from cede.util.kernel_files import listing
from sim import ports
from sim.card import Card
from sim.guest import PASSTHROUGH, new_guest
from sim.host import Host
from sim.libvirt import SimulatedLibvirt
from sim.passing_time import SimulatedTime
from sim.xenstore_nodes import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.inventory import BackendDevice
    from cede.model.network import Network
    from cede.model.pci import HostUse
    from cede.model.served import Served
    from sim.sys_tree import SysTree

BACKEND = "/local/domain/0/backend/pci"
_OF_EACH = ("dev", "vdev", "state", "opts")
_SLOTS = tuple(f"0000:00:{number:02x}.00" for number in range(32))


class SimulatedHost(Host):
    """A dom0 below the root of a tree."""

    def __init__(self, tree: SysTree) -> None:
        store = Store({})
        super().__init__(tree.root, BackendNodes(store), store, SimulatedTime())
        self.tree, self.cards = tree, FileCards(tree)
        self.timeouts = ThreadTimeouts()
        self.written = Journal(self.paths.journal, boot="this", now=lambda: self.time.today)
        self.paths.boot_id.parent.mkdir(parents=True, exist_ok=True)
        self.paths.boot_id.write_text("this\n")
        self.libvirt, self.kernel = SimulatedLibvirt(self), ports.SimulatedKernel(self)

    def card(self, address: str, driver: str | None = "e1000e") -> None:
        self.tree.function(address, driver=driver)
        assert self.cards[Address.parse(address)].native == driver

    def physical(self, address: str, interface: str, *, total: int = 7) -> None:
        """A network card that can have virtual functions."""
        self.tree.function(address, driver="igb", net={interface: "52:54:00:0a:00:00"})
        assert self.cards[Address.parse(address)].native == "igb"
        self.tree.sriov(address, total)
        self.functions[interface] = []

    def virtual_of(self, address: Address) -> tuple[Address, ...]:
        return tuple(Address.parse(name) for name in self.tree.virtual_of(str(address)))

    def make_virtual(self, address: Address, count: int, *, probed: bool) -> None:
        self.tree.make_virtual(str(address), count, driver="igbvf" if probed else None)
        (name,) = self.sysfs().interfaces(address)
        before = self.functions[name]
        if len(before) != count:
            fresh = FunctionSettings(mac=NO_MAC, vlan=0, spoof_check=True, trust=False, rate=0)
            self.functions[name] = [fresh] * count

    def guest(self, name: str, domid: int | None, *, features: str = PASSTHROUGH) -> None:
        self.add(new_guest(name, len(self.guests), features=features), domid)

    @property
    def loaded(self) -> bool:
        return self.sysfs().pciback_loaded

    @loaded.setter
    def loaded(self, value: bool) -> None:
        if value:
            self.tree.slots(*map(str, sorted(self.sysfs().pciback_slots())))

    def sysfs(self) -> Sysfs:
        return ports.SimulatedSysfs(self)

    def pauses(self) -> None:
        """What was seen stays new, since another thread may be between its look and its action."""
        for card in self.cards.values():
            card.long_gone = not card.present

    def served(self) -> tuple[BackendDevice, ...]:
        return Xenstore(self.store).backend()

    def remove_given_up(self, given: BackendDevice) -> None:
        Xenstore(self.store).remove_given_up(given)

    def network(self) -> Network:
        shown, more = self.tree.network(), super().network()
        return replace(shown, interfaces=(*shown.interfaces, *more.interfaces))

    def uses(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        tree = self.tree
        roots = (tree.sys, tree.proc, tree.root / "run", tree.root / "dev")
        uses = HostUses(*roots, tree, tree.nodes)
        return uses.find(network, served)


class FileCards(Mapping[Address, Card]):
    """Every function of the tree, also one that a test has put there, and those that have gone."""

    def __init__(self, tree: SysTree) -> None:
        self._tree = tree
        self._known: dict[Address, FileCard] = {}

    def __getitem__(self, address: Address) -> Card:
        return self._known.get(address) or self._known.setdefault(
            address, FileCard(self._tree, address)
        )

    def __iter__(self) -> Iterator[Address]:
        listed = (Address.parse(name) for name in listing(self._tree.sys / "bus/pci/devices"))
        return iter(sorted({*list(self._known), *listed}))

    def __len__(self) -> int:
        return len(list(iter(self)))


class FileCard(Card):
    """A card of which the tree shows whether it is there, its driver, override, slot and interfaces."""

    def __init__(self, tree: SysTree, address: Address) -> None:
        self._tree, self._sysfs = tree, Sysfs(tree.sys)
        self._links: tuple[Link, ...] = ()
        self._listed = tree.sys / "bus/pci/devices" / str(address)
        self._path = self._listed.resolve()
        super().__init__(address=address, native=self._sysfs.driver(address))

    def __post_init__(self) -> None:
        """What is so now is in the tree."""

    @property
    def modalias(self) -> str:
        return self._sysfs.modalias(self.address)

    @property
    def resets_with_bus(self) -> bool:
        device = self._sysfs.device(self.address)
        return device is not None and device.reset is Reset.BUS

    @property
    def present(self) -> bool:
        return self._listed.exists()

    @present.setter
    def present(self, value: bool) -> None:
        if value:
            self._listed.symlink_to(self._path)
        else:
            self._listed.unlink()

    @property
    def driver(self) -> str | None:
        return self._sysfs.driver(self.address)

    @driver.setter
    def driver(self, value: str | None) -> None:
        self._tree.bind(str(self.address), value)

    @property
    def override(self) -> str | None:
        return self._sysfs.driver_override(self.address)

    @override.setter
    def override(self, value: str | None) -> None:
        self._tree.override(str(self.address), value)

    @property
    def slot(self) -> bool:
        return self.address in self._sysfs.pciback_slots()

    @slot.setter
    def slot(self, value: bool) -> None:
        slots = self._sysfs.pciback_slots()
        if value != (self.address in slots):
            self._tree.slots(*map(str, sorted(slots ^ {self.address})))

    @property
    def links(self) -> tuple[Link, ...]:
        return self._links

    @links.setter
    def links(self, value: tuple[Link, ...]) -> None:
        self._tree.remove_interfaces(self._path)
        for link in value:
            self._tree.interface(link.name, self._path, mac=link.mac)
        self._links = value


class BackendNodes(MutableMapping[Address, int]):
    """The PCI backend's nodes, as libxl writes and renumbers them for PV guests.

    Each change is such that whoever reads meanwhile misses no device.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def _places(self) -> dict[Address, tuple[str, int]]:
        """The backend's path and the number there of each device."""
        found = {}
        for node, address in list(self._store.nodes.items()):
            back, _, number = node.rpartition("/dev-")
            if back.startswith(BACKEND):
                found[Address.parse(address)] = back, int(number)
        return found

    def __getitem__(self, address: Address) -> int:
        return int(self._places()[address][0].split("/")[-2])

    def __iter__(self) -> Iterator[Address]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())

    def __setitem__(self, address: Address, domid: int) -> None:
        back, front = f"{BACKEND}/{domid}/0", f"/local/domain/{domid}/device/pci/0"
        nodes = self._store.nodes
        number = int(nodes.get(f"{back}/num_devs", "0"))
        used = {nodes[f"{back}/vdev-{one}"] for one in range(number)}
        nodes |= {
            f"{back}/state": "4",
            f"{back}/frontend": front,
            f"{back}/dev-{number}": str(address),
            f"{back}/vdev-{number}": next(slot for slot in _SLOTS if slot not in used),
            f"{back}/state-{number}": "3",
            f"{back}/opts-{number}": "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict",
            f"{front}/state": "4",
            f"{back}/num_devs": str(number + 1),
        }

    def __delitem__(self, address: Address) -> None:
        """Remove the device; with a guest's last one all of its backend goes."""
        back, number = self._places()[address]
        nodes, last = self._store.nodes, int(self._store.nodes[f"{back}/num_devs"]) - 1
        for after in range(number, last):
            for name in _OF_EACH:
                nodes[f"{back}/{name}-{after}"] = nodes[f"{back}/{name}-{after + 1}"]
        nodes[f"{back}/num_devs"] = str(last)
        for name in _OF_EACH:
            del nodes[f"{back}/{name}-{last}"]
        if last == 0:
            front = nodes[f"{back}/frontend"]
            for gone in [n for n in list(nodes) if n.startswith((f"{back}/", f"{front}/"))]:
                del nodes[gone]
