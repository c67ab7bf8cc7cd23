"""A dom0 made of files, nodes and XML: small enough to read, close enough to fool every adapter.

What cede reads by itself (sysfs, procfs, module lists, xenstore) it reads here too, through its own adapters; libvirt,
xl, modprobe, ip and the hypervisor are played, and act on the same files, nodes and XML.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.ports import Adapters
from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.domain_xml import document
from cede.errors import CedeError
from cede.model.inventory import KernelLine
from cede.model.pci import Address
from cede.state.journal import Journal
from cede.util.clock import ThreadTimeouts
from cede.util.log import log_calls
from cede.util.paths import Paths
from sim.nodes import Store
from sim.passing_time import SimulatedTime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from cede.adapters.ports import Source
    from cede.model.domain import Domain
    from cede.model.pci import Device, HostUse, Link
    from cede.util.clock import Clock
    from sim.sys_tree import SysTree

_T = TypeVar("_T")
BACKEND = "/local/domain/0/backend/pci"
PASSTHROUGH = "<passthrough state='on'/>"


class SimulatedHost:
    """A dom0 whose libvirt, xl and modprobe act on its own tree and nodes.

    `journal` tells what was done to it in order; an error put into `fails[verb]` is raised once, instead of the action
    or the answer. `instead[verb]` is called in place of it, with what would have done it and with what it is about.
    """

    def __init__(self, tree: SysTree) -> None:
        self.tree = tree
        self.paths = Paths(root=tree.root)
        self.time = SimulatedTime()
        self.journal: list[str] = []
        self.fails: dict[str, list[CedeError]] = defaultdict(list)
        self.instead: dict[str, Callable[..., Any]] = {}
        self.silent: CedeError | None = None
        self.opened: list[str] = []
        self.user, self.is_root = "root", True
        self.store = Store({})
        self.guest_says = ""
        self.live: dict[str, str] = {}
        self.config: dict[str, str] = {}
        self.native: dict[str, str | None] = {}
        self.in_quarantine: set[str] = set()
        self.owned: set[str] = set()
        self.interfaces: list[Link] = []
        self.logged_faults = 0
        self.xen_said = ""
        self.kernel_said: list[str] = []
        self.libxl_said = ""
        self.deaf = False
        self.started = 0
        self.written = Journal(self.paths.journal, boot="this", now=lambda: self.time.today)
        self.slots_lock = threading.RLock()  # the kernel does one thing at a time to its slots
        self.paths.boot_id.parent.mkdir(parents=True, exist_ok=True)
        self.paths.boot_id.write_text("this\n")
        self.paths.run.mkdir(exist_ok=True)
        self.libvirt, self.kernel = SimulatedLibvirt(self), SimulatedKernel(self)

    # -- how it is made

    def card(self, address: str, driver: str | None = "e1000e") -> None:
        self.tree.function(address, driver=driver)
        self.native[address] = driver

    def guest(self, name: str, domid: int | None, *, features: str = PASSTHROUGH) -> None:
        body = (
            f"<name>{name}</name><uuid>00000000-0000-0000-0000-{len(self.config):012}</uuid>"
            "<os><type arch='x86_64' machine='xenpv'>linux</type></os>"
            f"<features><xen>{features}</xen></features><devices/>"
        )
        self.config[name] = f"<domain type='xen'>{body}</domain>"
        if domid is not None:
            self.live[name] = f"<domain type='xen' id='{domid}'>{body}</domain>"

    # -- how it is reached

    def adapters(self) -> Adapters:
        return Adapters(
            libvirt=log_calls(self.libvirt, "libvirt"),
            sysfs=SimulatedSysfs(self),
            xenstore=self.store.adapter(),
            uses=SimulatedUses(self),
            links=log_calls(SimulatedLinks(self), "links"),
            kernel=log_calls(self.kernel, "kernel"),
            modules=Modules(self.tree.root),
            kernel_log=SimulatedKernelLog(self),
            xl=log_calls(SimulatedXl(self), "xl"),
            hypervisor=log_calls(SimulatedHypervisor(self), "xc"),
            journal=self.written,
            clock=self.time.clock,
            timeouts=ThreadTimeouts(),
        )

    def runtime(self, *, clock: Clock | None = None, sources: tuple[Source, ...] = ()) -> Runtime:
        """What a command is handed on this host."""
        return Runtime(
            open_adapters=self._open,
            event_sources=lambda _runtime, _paths: sources,
            user=lambda: self.user,
            is_root=self.is_root,
            paths=self.paths,
            clock=clock or self.time.clock,
        )

    @contextmanager
    def _open(self, runtime: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
        """With a libvirt that is `silent` or answers; what stands in for it on an offline host answers in any case."""
        self.opened.append(runtime.uri)
        if self.silent is not None and access is LibvirtAccess.REQUIRED:
            raise self.silent
        offline = access is LibvirtAccess.OFFLINE
        libvirt = SimulatedLibvirt(self, offline=offline)
        yield replace(self.adapters(), libvirt=log_calls(libvirt, "libvirt"), clock=runtime.clock)

    # -- what happens on it

    def act(self, verb: str, effect: Callable[..., _T], *about: object) -> _T:
        """Something is done to it, which is told in `journal`."""
        self.journal.append(" ".join([verb, *map(str, about)]))
        return self.ask(verb, effect, *about)

    def ask(self, verb: str, answer: Callable[..., _T], *about: object) -> _T:
        """A question, which changes nothing; it may fail like an action."""
        if self.fails[verb]:
            raise self.fails[verb].pop(0)
        if verb in self.instead:
            answered: _T = self.instead[verb](answer, *about)
            return answered
        return answer(*about)

    def slots(self) -> list[str]:
        return [str(slot) for slot in sorted(Sysfs(self.tree.sys).pciback_slots())]

    def drop_slot(self, address: str) -> None:
        with self.slots_lock:
            self.tree.slots(*(slot for slot in self.slots() if slot != address))

    def give(self, domain: str, address: str) -> None:
        """What libxl writes for a PV guest that has taken the device, beside those that it has already."""
        domid = document.domain(self.live[domain], None).domid
        back, front = f"{BACKEND}/{domid}/0", f"/local/domain/{domid}/device/pci/0"
        number = int(self.store.nodes.get(f"{back}/num_devs", "0"))
        self.store.nodes |= {
            f"{back}/num_devs": str(number + 1),
            f"{back}/state": "4",
            f"{back}/frontend": front,
            f"{back}/dev-{number}": address,
            f"{back}/vdev-{number}": f"0000:00:{number:02x}.00",
            f"{back}/state-{number}": "3",
            f"{back}/opts-{number}": "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict",
            f"{front}/state": "4",
        }
        self.in_quarantine.add(address)

    def take(self, address: str) -> None:
        """What libxl removes of the device; with a guest's last one all of its backend goes."""
        nodes = self.store.nodes
        dev = (n for n, said in list(nodes.items()) if "/dev-" in n and said == address)
        node = next(dev, None)
        if node is None:
            return
        back, _, number = node.rpartition("/dev-")
        for name in ("dev", "vdev", "state", "opts"):
            del nodes[f"{back}/{name}-{number}"]
        if not any(n.startswith(f"{back}/dev-") for n in list(nodes)):
            front = nodes[f"{back}/frontend"]
            for gone in [n for n in list(nodes) if n.startswith((f"{back}/", f"{front}/"))]:
                del nodes[gone]


class _Port:
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host


class SimulatedShell:
    """A guest's root shell that answers every command with the same text."""

    def __init__(self, answer: str, time: SimulatedTime) -> None:
        self._answer = answer.replace("\n", "\r\n")
        self._time = time
        self._out: list[bytes] = []

    def send(self, data: bytes) -> None:
        asked = re.search(rb"cede-'([0-9a-f]+)'-begin", data)
        said = "\r\ncede-ready\r\n" if b"ready" in data else "\r\npv1:/# "
        if asked is not None:
            mark = f"cede-{asked[1].decode()}"
            said = f"\r\n{mark}-begin\r\n{self._answer}{mark}-end\r\npv1:/# "
        self._out.append(data + said.encode())

    def receive(self, seconds: float) -> bytes | None:
        if self._out:
            return self._out.pop(0)
        self._time.sleep(seconds)
        return None


class SimulatedLibvirt(_Port):
    """Keeps XML, and binds devices; unless it is `offline`, it can be silent."""

    def __init__(self, host: SimulatedHost, *, offline: bool = False) -> None:
        super().__init__(host)
        self._offline = offline

    def domains(self) -> tuple[Domain, ...]:
        return self._ask("domains", self._domains)

    def node_devices(self) -> frozenset[str]:
        known = self._host.tree.sys / "bus/pci/devices"
        return self._ask(
            "node_devices",
            lambda: frozenset(Address.parse(path.name).node_device for path in known.iterdir()),
        )

    def domain(self, name: str) -> Domain | None:
        return self._ask("domain", self._domain, name)

    def running(self, name: str) -> Domain | None:
        found = self._ask("running", self._domain, name)
        return found if found is not None and found.running else None

    def last_libxl_line(self, domain: str) -> str:
        return self._ask("last-libxl-line", lambda _: self._host.libxl_said, domain)

    def persistent_xml(self, domain: str) -> str:
        return self._ask("persistent_xml", lambda name: self._host.config[name], domain)

    def bind_to_pciback(self, address: Address) -> None:
        self._act("bind_to_pciback", self._bind, address)

    def reattach(self, address: Address) -> None:
        self._act("reattach", self._reattach, address)

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        def plug(*_about: object) -> None:
            live = self._host.live
            live[domain] = document.with_hostdev(
                live[domain], address, alias, permissive=permissive
            )
            self._host.give(domain, str(address))

        self._act("plug", plug, domain, address)

    def unplug(self, domain: str, address: Address) -> bool:
        return self._act("unplug", self._unplug, domain, address)

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        def redefine(_domain: str) -> bool:
            before = self._host.config[domain]
            self._host.config[domain] = edit(before)
            return self._host.config[domain] != before

        return self._act("redefine", redefine, domain)

    def shut_down(self, domain: str) -> None:
        self._act("shut-down", self._shut_down, domain)

    def start(self, domain: str) -> None:
        """With a new number, and with all that its persistent XML lists."""
        self._act("start", self._start, domain)

    @contextmanager
    def console(self, domain: str) -> Iterator[SimulatedShell]:
        yield self._act(
            "console",
            lambda _: SimulatedShell(self._host.guest_says, self._host.time),
            domain,
        )

    def close(self) -> None:
        """Nothing was opened."""

    def _ask(self, verb: str, answer: Callable[..., _T], *about: object) -> _T:
        self._answers()
        return self._host.ask(verb, answer, *about)

    def _act(self, verb: str, effect: Callable[..., _T], *about: object) -> _T:
        self._answers()
        return self._host.act(verb, effect, *about)

    def _answers(self) -> None:
        if self._host.silent is not None and not self._offline:
            raise self._host.silent

    def _domains(self) -> tuple[Domain, ...]:
        live, config = self._host.live, self._host.config
        return tuple(document.domain(live.get(name), kept) for name, kept in config.items())

    def _domain(self, name: str) -> Domain | None:
        return next((d for d in self._domains() if d.name == name), None)

    def _bind(self, address: Address) -> None:
        with self._host.slots_lock:
            self._host.tree.slots(*{*self._host.slots(), str(address)})
        self._host.tree.override(str(address), "pciback")
        self._host.tree.bind(str(address), "pciback")

    def _reattach(self, address: Address) -> None:
        self._host.tree.override(str(address), None)
        kept = str(address) in self._host.slots()
        self._host.tree.bind(str(address), "pciback" if kept else self._host.native[str(address)])

    def _unplug(self, domain: str, address: Address) -> bool:
        self._host.live[domain] = document.without_hostdev(self._host.live[domain], address)
        self._host.take(str(address))
        return True

    def _shut_down(self, domain: str) -> None:
        if not self._host.deaf:
            for hostdev in document.hostdevs(self._host.live[domain]):
                self._host.take(str(hostdev.address))
            del self._host.live[domain]

    def _start(self, domain: str) -> None:
        self._host.started += 1
        self._host.live[domain] = self._host.config[domain].replace(
            "<domain ", f"<domain id='{100 + self._host.started}' ", 1
        )
        for hostdev in document.hostdevs(self._host.config[domain]):
            self._host.give(domain, str(hostdev.address))


class SimulatedSysfs(Sysfs):
    """cede's own adapter over the tree, and pciback's file that takes a write."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(host.tree.sys)
        self._host = host

    def devices(self) -> tuple[Device, ...]:
        return self._host.ask("devices", super().devices)

    def remove_pciback_slot(self, address: Address) -> None:
        self._host.act("remove-slot", lambda at: self._host.drop_slot(str(at)), address)


class SimulatedUses(_Port):
    """cede's own adapter over the tree."""

    def find(
        self, disks: Mapping[str, Sequence[str]], interfaces: Mapping[str, Sequence[str]]
    ) -> dict[Address, list[HostUse]]:
        tree = self._host.tree
        uses = HostUses(tree.sys, tree.proc, tree.root / "run", tree.root / "dev")
        return self._host.ask("uses", uses.find, disks, interfaces)


class SimulatedLinks(_Port):
    """The interfaces that `ip` would show."""

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        return self._host.ask(
            "read-links",
            lambda names: tuple(link for link in self._host.interfaces if link.name in names),
            names,
        )

    def restore(self, link: Link, now: Link) -> None:
        def restore(*_about: object) -> None:
            self._host.interfaces = [
                link if seen.name == now.name else seen for seen in self._host.interfaces
            ]

        self._host.act("restore", restore, now.name, "as", link.name)


class SimulatedKernel(_Port):
    """modprobe and udev."""

    def load_pciback(self) -> None:
        self._host.act("load", self._load)

    def load_driver(self, modalias: str) -> None:
        self._host.act("load-driver", lambda _: None, modalias)

    def await_udev(self, seconds: float) -> bool:
        return self._host.ask("await-udev", lambda: seconds > 0)

    def _load(self) -> None:
        with self._host.slots_lock:
            self._host.tree.slots(*self._host.slots())


class SimulatedKernelLog(_Port):
    """One line a second since boot."""

    def lines(self, about: str = "") -> tuple[KernelLine, ...]:
        return tuple(
            KernelLine(seconds_since_boot=float(at), text=text)
            for at, text in enumerate(self._host.kernel_said)
            if about in text
        )


class SimulatedXl(_Port):
    """What libvirt has no call for."""

    def installed(self) -> bool:
        return True

    def detach(self, domid: int, address: Address) -> None:
        self._host.act("xl-detach", lambda _domid, at: self._host.take(str(at)), domid, address)

    def assignable_remove(self, address: Address) -> bool:
        return self._host.act("assignable-remove", self._remove, address)

    def _remove(self, address: Address) -> bool:
        if str(address) not in self._host.in_quarantine:
            return False
        self._host.in_quarantine.discard(str(address))
        self._host.drop_slot(str(address))
        self._host.tree.bind(str(address), None)
        return True


class SimulatedHypervisor(_Port):
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
        return self._host.ask("xen-log", lambda: self._host.xen_said)

    def faults(self, address: Address) -> int:
        return self._host.ask("faults", lambda _: self._host.logged_faults, address)

    def in_guest(self, address: Address) -> bool | None:
        return self._host.ask("in-guest", lambda at: str(at) in self._host.owned, address)

    def quarantined(self, address: Address) -> bool | None:
        return self._host.ask(
            "quarantined", lambda at: str(at) in self._host.in_quarantine, address
        )

    def deassign(self, domid: int, address: Address) -> None:
        def deassign(_domid: int, at: Address) -> None:
            self._host.owned.discard(str(at))
            self._host.in_quarantine.add(str(at))

        self._host.act("deassign", deassign, domid, address)
