"""A dom0 made of files, nodes and XML: small enough to read, close enough to fool every adapter."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cede.adapters.composition import Adapters
from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.kernel_modules import Modules
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.xen.xenstore import Xenstore
from cede.adapters.xen.xenstore_client import Operation, XenstoreClient
from cede.domain_xml import document
from cede.model.inventory import KernelLine
from cede.model.pci import Address
from cede.state.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from cede.errors import CedeError
    from cede.model.domain import Domain
    from cede.model.pci import Link

GOLDEN = Path(__file__).parents[1] / "golden"
BACKEND = "/local/domain/0/backend/pci"
PASSTHROUGH = "<passthrough state='on'/>"


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


class SysTree:
    """Builds what the kernel shows below /sys and /proc, the links as the kernel makes them."""

    def __init__(self, root: Path) -> None:
        self.sys, self.proc = root / "sys", root / "proc"
        for folder in ("bus/pci/devices", "bus/pci/drivers", "class/net", "dev/block"):
            (self.sys / folder).mkdir(parents=True)
        self._mounts: list[str] = []

    def function(
        self,
        address: str,
        *,
        under: Path | None = None,
        identity: str = "8086:10d3",
        subsystem: str = "8086:0000",
        class_code: str = "020000",
        driver: str | None = None,
        reset: str = "pm bus",
        net: Mapping[str, str] | None = None,
    ) -> Path:
        """One PCI function, behind the bridge `under` if there is one; `net` maps interfaces to MACs."""
        path = (under or self.sys / "devices/pci0000:00") / address
        path.mkdir(parents=True)
        _link(self.sys / "bus/pci/devices" / address, path)
        event = (
            f"PCI_CLASS={class_code.lstrip('0')}\nPCI_ID={identity}\nPCI_SUBSYS_ID={subsystem}\n"
            f"PCI_SLOT_NAME={address}"
        )
        _write(path / "uevent", event.upper())
        _write(path / "driver_override", "(null)")
        _write(path / "reset_method", reset)
        self.bind(address, driver)
        for name, mac in (net or {}).items():
            self.interface(name, path, mac=mac)
        return path

    def bind(self, address: str, driver: str | None) -> None:
        link = self.sys / "bus/pci/devices" / address / "driver"
        link.unlink(missing_ok=True)
        if driver is not None:
            folder = self.sys / "bus/pci/drivers" / driver
            folder.mkdir(exist_ok=True)
            link.symlink_to(folder)

    def override(self, address: str, driver: str | None) -> None:
        _write(self.sys / "bus/pci/devices" / address / "driver_override", driver or "(null)")

    def slots(self, *addresses: str) -> Path:
        """Load pciback with these slots; returns its folder."""
        folder = self.sys / "bus/pci/drivers/pciback"
        _write(folder / "slots.new", "\n".join(addresses))
        (folder / "slots.new").replace(folder / "slots")  # nobody reads half of it
        _write(folder / "remove_slot", "")
        return folder

    def interface(
        self, name: str, below: Path | None = None, *, mac: str = "", lowers: Sequence[str] = ()
    ) -> None:
        path = (below or self.sys / "devices/virtual") / "net" / name
        _write(path / "address", mac)
        _link(self.sys / "class/net" / name, path)
        for lower in lowers:
            _link(path / f"lower_{lower}", self.sys / "class/net" / lower)

    def disk(self, name: str, below: Path | None = None, *, slaves: Sequence[str] = ()) -> Path:
        path = (below or self.sys / "devices/virtual") / "block" / name
        return self.block(path, slaves)

    def block(self, path: Path, slaves: Sequence[str] = ()) -> Path:
        number = f"254:{len(list((self.sys / 'dev/block').iterdir()))}"
        _write(path / "dev", number)
        _link(self.sys / "dev/block" / number, path)
        _link(self.sys / "class/block" / path.name, path)
        for slave in slaves:
            _link(path / "slaves" / slave, self.sys / "class/block" / slave)
        return path

    def partition(self, disk: Path, name: str) -> Path:
        path = self.block(disk / name)
        _write(path / "partition", "1")
        return path

    def mount(self, where: str, block: Path | None = None, *, source: str = "none") -> None:
        number = (block / "dev").read_text().strip() if block else "0:42"
        self._mounts.append(f"29 1 {number} / {where} rw,relatime shared:1 - ext4 {source} rw")
        _write(self.proc / "self/mountinfo", "\n".join(self._mounts))

    def swap(self, *names: str) -> None:
        lines = [f"/dev/{name} partition 1048572 0 -2" for name in names]
        _write(self.proc / "swaps", "\n".join(["Filename Type Size Used Priority", *lines]))

    def route(self, *lines: str) -> None:
        head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
        _write(self.proc / "net/route", "\n".join([head, *lines]))

    def route6(self, *lines: str) -> None:
        _write(self.proc / "net/ipv6_route", "\n".join(lines))


def descriptors() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Store:
    """A XenstoreClient over a dict of nodes; with `broken` every question fails like that."""

    def __init__(self, nodes: dict[str, str]) -> None:
        self.nodes = nodes
        self.broken: Exception | None = None

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        if self.broken is not None:
            raise self.broken
        look: dict[Operation, Callable[[str], str | None]] = {
            Operation.READ: self.nodes.get,
            Operation.DIRECTORY: self._names,
            Operation.RM: self._remove,
        }
        found = (look[operation](path) for path in paths)
        return [None if text is None else text.encode() for text in found]

    def _names(self, path: str) -> str | None:
        nodes = list(self.nodes)  # two groups may change them meanwhile
        names = {n.removeprefix(f"{path}/").split("/")[0] for n in nodes if f"{path}/" in n}
        return "\0".join(sorted(names)) if names else None

    def _remove(self, path: str) -> str | None:
        gone = [node for node in list(self.nodes) if f"{node}/".startswith(f"{path}/")]
        for node in gone:
            del self.nodes[node]
        return "OK" if gone else None

    def write(self, path: str, value: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        self.nodes[path] = value.decode()

    def close(self) -> None:
        """Nothing was opened."""

    def adapter(self) -> Xenstore:
        """The adapter that asks this one."""
        return Xenstore(cast("XenstoreClient", self))


class _Shell:
    """A guest's root shell that answers every command with the same text."""

    def __init__(self, answer: str) -> None:
        self._answer = answer.replace("\n", "\r\n")
        self._out: list[bytes] = []

    def send(self, data: bytes) -> None:
        asked = re.search(rb"cede-'([0-9a-f]+)'-begin", data)
        said = "\r\ncede-ready\r\n" if b"ready" in data else "\r\npv1:/# "
        if asked is not None:
            mark = f"cede-{asked[1].decode()}"
            said = f"\r\n{mark}-begin\r\n{self._answer}{mark}-end\r\npv1:/# "
        self._out.append(data + said.encode())

    def receive(self, _seconds: float) -> bytes | None:
        return self._out.pop(0) if self._out else None


class _Sysfs(Sysfs):
    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(host.tree.sys)
        self._host = host

    def remove_pciback_slot(self, address: Address) -> None:
        self._host.action("remove-slot", address)
        self._host.drop_slot(str(address))


class SimulatedHost:
    """A dom0 whose libvirt, xl and modprobe act on its own tree and nodes.

    `journal` tells what was done to it in order; an error put into `fails[verb]` is raised once, instead of the action.
    """

    def __init__(self, tree: SysTree) -> None:
        self.tree = tree
        self.journal: list[str] = []
        self.fails: dict[str, list[CedeError]] = defaultdict(list)
        self.store = Store({})
        self.guest_says = ""
        self.live: dict[str, str] = {}
        self.config: dict[str, str] = {}
        self.native: dict[str, str | None] = {}
        self.in_quarantine: set[str] = set()
        self.owned: set[str] = set()
        self.links: list[Link] = []
        self.logged_faults = 0
        self.xen_said = ""
        self.kernel_said: list[str] = []
        self.libxl_said = ""
        self.deaf = False
        self.started = 0
        self.written = Journal(tree.sys.parent / "journal.db", boot="this")
        self._kernel = threading.RLock()  # it does one thing at a time to its slots

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

    def adapters(self) -> Adapters:
        # the fakes have the methods that are used, not the connections behind them
        return Adapters(
            libvirt=cast("Any", self),
            sysfs=_Sysfs(self),
            xenstore=self.store.adapter(),
            uses=HostUses(self.tree.sys, self.tree.proc),
            links=cast("Any", self),
            kernel=cast("Any", self),
            modules=Modules(self.tree.sys.parent),
            kernel_log=cast("Any", self),
            xl=cast("Any", self),
            hypervisor=cast("Any", self),
            journal=self.written,
        )

    def action(self, verb: str, *about: object) -> None:
        self.journal.append(" ".join([verb, *map(str, about)]))
        if self.fails[verb]:
            raise self.fails[verb].pop(0)

    def look(self, verb: str) -> None:
        """A question, which changes nothing; it may fail like an action."""
        if self.fails[verb]:
            raise self.fails[verb].pop(0)

    def _slots(self) -> list[str]:
        return [str(slot) for slot in sorted(Sysfs(self.tree.sys).pciback_slots())]

    def drop_slot(self, address: str) -> None:
        with self._kernel:
            self.tree.slots(*(slot for slot in self._slots() if slot != address))

    def load_pciback(self) -> None:
        self.action("load")
        with self._kernel:
            self.tree.slots(*self._slots())

    def domains(self) -> tuple[Domain, ...]:
        return tuple(
            document.domain(self.live.get(name), kept) for name, kept in self.config.items()
        )

    def node_devices(self) -> frozenset[str]:
        known = (self.tree.sys / "bus/pci/devices").iterdir()
        return frozenset(Address.parse(path.name).node_device for path in known)

    def domain(self, name: str) -> Domain | None:
        return next((d for d in self.domains() if d.name == name), None)

    def running(self, name: str) -> Domain | None:
        self.look("running")
        found = self.domain(name)
        return found if found is not None and found.running else None

    def last_libxl_line(self, _domain: str) -> str:
        return self.libxl_said

    def persistent_xml(self, domain: str) -> str:
        self.look("persistent_xml")
        return self.config[domain]

    def in_guest(self, address: Address) -> bool:
        return str(address) in self.owned

    def quarantined(self, address: Address) -> bool:
        return str(address) in self.in_quarantine

    def faults(self, _address: Address) -> int:
        return self.logged_faults

    def kind(self) -> str:
        return "xen"

    def is_dom0(self) -> bool:
        return True

    def virtualisation(self) -> tuple[str, ...]:
        return ("pv", "pv_directio")

    def command_line(self) -> str:
        return ""

    def log(self) -> str:
        return self.xen_said

    def installed(self) -> bool:
        return True

    def lines(self, about: str = "") -> tuple[KernelLine, ...]:
        return tuple(
            KernelLine(seconds_since_boot=float(at), text=text)
            for at, text in enumerate(self.kernel_said)
            if about in text
        )

    def deassign(self, domid: int, address: Address) -> None:
        self.action("deassign", domid, address)
        self.owned.discard(str(address))
        self.in_quarantine.add(str(address))

    def detach(self, domid: int, address: Address) -> None:
        self.action("xl-detach", domid, address)
        self.take(str(address))

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        return tuple(link for link in self.links if link.name in names)

    def restore(self, was: Link, now: Link) -> None:
        self.action("restore", now.name, "as", was.name)
        self.links = [was if link.name == now.name else link for link in self.links]

    def await_udev(self, seconds: float) -> bool:
        self.look("await-udev")
        return seconds > 0

    def load_driver(self, modalias: str) -> None:
        self.action("load-driver", modalias)

    def bind_to_pciback(self, address: Address) -> None:
        self.action("bind_to_pciback", address)
        with self._kernel:
            self.tree.slots(*{*self._slots(), str(address)})
        self.tree.override(str(address), "pciback")
        self.tree.bind(str(address), "pciback")

    def reattach(self, address: Address) -> None:
        self.action("reattach", address)
        self.tree.override(str(address), None)
        kept = str(address) in self._slots()
        self.tree.bind(str(address), "pciback" if kept else self.native[str(address)])

    def plug(self, domain: str, address: Address, alias: str, *, permissive: bool) -> None:
        self.action("plug", domain, address)
        self.live[domain] = document.with_hostdev(
            self.live[domain], address, alias, permissive=permissive
        )
        self.give(domain, str(address))

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

    def unplug(self, domain: str, address: Address) -> bool:
        self.action("unplug", domain, address)
        self.live[domain] = document.without_hostdev(self.live[domain], address)
        self.take(str(address))
        return True

    def shut_down(self, domain: str) -> None:
        self.action("shut-down", domain)
        if not self.deaf:
            for hostdev in document.hostdevs(self.live[domain]):
                self.take(str(hostdev.address))
            del self.live[domain]

    def start(self, domain: str) -> None:
        """With a new number, and with all that its persistent XML lists."""
        self.action("start", domain)
        self.started += 1
        self.live[domain] = self.config[domain].replace(
            "<domain ", f"<domain id='{100 + self.started}' ", 1
        )
        for hostdev in document.hostdevs(self.config[domain]):
            self.give(domain, str(hostdev.address))

    def redefine(self, domain: str, edit: Callable[[str], str]) -> bool:
        self.action("redefine", domain)
        before = self.config[domain]
        self.config[domain] = edit(before)
        return self.config[domain] != before

    def assignable_remove(self, address: Address) -> bool:
        self.action("assignable-remove", address)
        if str(address) not in self.in_quarantine:
            return False
        self.in_quarantine.discard(str(address))
        self.drop_slot(str(address))
        self.tree.bind(str(address), None)
        return True

    @contextmanager
    def console(self, domain: str) -> Iterator[_Shell]:
        self.action("console", domain)
        yield _Shell(self.guest_says)


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    return SysTree(tmp_path)


@pytest.fixture
def store() -> Store:
    return Store({})


@pytest.fixture
def host(tree: SysTree) -> Iterator[SimulatedHost]:
    """A card with its dom0 driver at 0000:01:00.0, and the running PV guest pv1."""
    host = SimulatedHost(tree)
    host.card("0000:01:00.0")
    host.guest("pv1", 1)
    yield host
    host.written.close()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares with tests/golden, or writes there with --regenerate-golden."""

    def same(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--regenerate-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return same
