"""Whatever comes into cede from a guest, a file or a daemon is read, refused or unknown; nothing else is raised.

Each channel gets mutations of what it really carries. Some 2,000 inputs are tried each time; CEDE_INPUTS says how many
in all, and `contrib/test --soak` asks for 100,000. They are the same ones for the same code.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cede.adapters.linux.kernel_log import KernelLog
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.xen.xenstore import Xenstore
from cede.adapters.xen.xenstore_client import XenstoreClient
from cede.domain_xml import document, sources
from cede.domain_xml.edits import incremental_edits
from cede.errors import CedeError, GuestSilentError
from cede.guest import probe
from cede.guest.channels.console_channel import ConsoleChannel
from cede.guest.channels.credentials import Login
from cede.guest.channels.xenstore_channel import XenstoreChannel
from cede.importing import xl_cfg
from cede.importing.imported_policy import import_policy, policy_text
from cede.importing.sources import of_guest
from cede.model import hide_settings
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device, Identity, SwitchedOn
from cede.model.policy import Policy
from cede.policy import policy_files
from cede.verifier import guest_checks, host_checks
from sim import probe_answers
from sim.xenstore_nodes import Store
from unit.fake_xenstored import FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INPUTS = int(os.environ.get("CEDE_INPUTS", "2000"))
SLOT, CARD = Address(0, 0, 0, 0), Address(0, 1, 0, 0)
DEVICE = Device(
    address=CARD,
    identity=Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000"),
    driver="pciback",
)
ON = SwitchedOn(memory=True, io=True, bus_master=True, msix=True)
LONG = 5000
HOSTILE = (
    "", "0", "-1", "1" + "0" * LONG, "0x" + "f" * LONG, "0" * LONG, "9" * 400, "1_0", "+1", " 1", "1e999", "nan",
    "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}", "x" * LONG, "\0", "\n", "\r", "\t", "|", "==end 1 1",
    "\x1b[2J", "\x1b]0;t\x07", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{ZERO WIDTH JOINER}", "\ud800", "\ufffd",
    "[", "]", "{", "}", "'", '"', "\\", "<", ">", "&", "&#0;", "<!--", "]]>", "%s", "{0}", "$(id)", "../..", "/", ":",
    ": ", "- ", "*", "#", "=",
    "0000:00:00.0", "10000:e1:00.0", "ffff:ff:1f.7", "ffff:ff:3f.9", "[size=" + "9" * LONG + "K]", "(" * 200, "[" * 200,
)  # fmt: skip
_WORD = re.compile(r"[0-9A-Za-z_]+|\s|[^\s0-9A-Za-z_]")
edits = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.integers(0, 2),
        st.one_of(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), st.text(max_size=12)),
    ),
    max_size=4,
)
Edits = list[tuple[int, int, str]]


def mutated(sample: str, changes: Edits) -> str:
    """The sample with words replaced, put in and taken out."""
    words = _WORD.findall(sample)
    for at, how, word in changes:
        place = at % max(1, len(words))
        words[place : place + (how > 0)] = [] if how > 1 else [word]
    return "".join(words)


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


DETAILS = """\
0000:00:00.0 0200: 8086:10d3 (rev 01) (prog-if 00 [Normal decode])
\tSubsystem: 8086:0000
\tInterrupt: pin A routed to IRQ 16
\tRegion 0: Memory at fe800000 (32-bit, non-prefetchable) [size=128K]
\tRegion 2: I/O ports at 7000 [size=32]
\tRegion 3: Memory at <unassigned> (32-bit, non-prefetchable) [disabled]
\tCapabilities: [d0] MSI: Enable- Count=1/1 Maskable- 64bit+
\tCapabilities: [a0] MSI-X: Enable+ Count=5 Masked-
\tCapabilities: [140 v1] Device Serial Number 52-54-00-ff-ff-12-34-56
\tKernel driver in use: e1000e
"""
BUSYBOX = '00:00.0 "Class 0200" "8086" "10d3" "8086" "0000" "e1000e"'
ANSWERS = (
    f"{probe_answers.KERNEL}==lspci\n{probe_answers.RECORD}==sysfs\n{probe_answers.SYSFS}",
    f"==lspci\n==busybox\n{BUSYBOX}\n==sysfs\n{probe_answers.SYSFS}",
    f"==lspci\n{probe_answers.RECORD}==details\n{DETAILS}==sysfs\n",
)


def guest_answer(changes: Edits, which: int) -> None:
    said = probe_answers.framed(mutated(ANSWERS[which % len(ANSWERS)], changes))
    for text in (said, mutated(said, changes)):
        for result in guest_checks.of_guest(probe.parse(text, SLOT), DEVICE, SLOT, ON):
            assert len(str(result)) < LONG


SCREEN = "\r\nDebian GNU/Linux 12 pv1 hvc0\r\n\r\npv1 login: \x1b[1mroot@pv1:~# \x1b[0mPassword: cede-ready\r\n"


class Screen:
    """A console that prints the same pieces after whatever is typed, and a clock that waiting turns."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces, self.ahead, self.now = pieces, list(pieces), 0.0

    def send(self, data: bytes) -> None:
        assert data
        self.ahead = list(self.pieces)

    def receive(self, seconds: float) -> bytes | None:
        self.now += 0.01 if self.ahead else seconds
        return self.ahead.pop(0) if self.ahead else None


def console(changes: Edits, which: int) -> None:
    said = as_bytes(mutated(SCREEN, changes))
    size = 1 + which % 80 + len(said) // 40
    line = Screen([said[at : at + size] for at in range(0, len(said), size)])
    login = Login(guest=f"g{which}", user="root", password="lab")
    channel = ConsoleChannel(line, login, clock=lambda: line.now)
    with suppress(GuestSilentError):
        channel.run("true", 10.0)
    channel.leave()


class Helper:
    """A guest's nodes below its `data`, of which each says the next thing."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._asked = count()

    def read_data(self, _domid: int, _name: str) -> bytes | None:
        return self._values[next(self._asked) % len(self._values)]

    def write_data(self, _domid: int, _name: str, _value: bytes) -> None: ...

    def remove_data(self, _domid: int, _name: str) -> None: ...


def helper(changes: Edits, which: int) -> None:
    piece = mutated("00ff" * (which % 300), changes)
    values = [as_bytes(mutated("3", changes)), as_bytes(piece), b"6162" * 256, b"61"]
    channel = XenstoreChannel(Helper(values), 1, clock=lambda: 0.0, sleep=lambda _: None)
    with suppress(GuestSilentError):
        probe.parse(channel.probe(SLOT, 1.0), SLOT)


BACKEND = "/local/domain/0/backend/pci"
SERVED = "/local/domain/0/backend"
NODES = {
    "/local/domain/1/name": "pv1",
    f"{BACKEND}/1/0/num_devs": "2",
    f"{BACKEND}/1/0/state": "4",
    f"{BACKEND}/1/0/frontend": "/local/domain/1/device/pci/0",
    f"{BACKEND}/1/0/dev-0": "0000:01:00.0",
    f"{BACKEND}/1/0/state-0": "3",
    f"{BACKEND}/1/0/opts-0": "msitranslate=0,power_mgmt=0,permissive=0",
    f"{BACKEND}/1/0/vdev-0": "0000:00:00.00",
    f"{BACKEND}/1/0/vdevfn-0": "20",
    "/local/domain/1/device/pci/0/state": "4",
    "/libxl/pci/0000-01-00-0/domid": "7",
    f"{SERVED}/vbd/1/51712/physical-device": "fd:a",
    f"{SERVED}/vif/1/0/bridge": "xenbr0",
    f"{SERVED}/vusb/1/0/port/1": "1-2.3",
    f"{SERVED}/vscsi/1/0/vscsi-devs/dev-0/p-dev": "3:0:0:0",
}


def xenstore_nodes(changes: Edits, which: int) -> None:
    nodes = dict(NODES)
    for at, how, word in changes:
        path = list(nodes)[at % len(nodes)]
        value = nodes.pop(path)
        if how == 0:
            nodes[mutated(path, [(which, 0, word)]).replace("\0", "")] = value
        elif how == 1:
            nodes[path] = mutated(value, [(which, 0, word)])
    plain = {path: as_bytes(path).decode("utf-8", "replace") for path in nodes}
    store = Store(
        {plain[path]: as_bytes(text).decode("utf-8", "replace") for path, text in nodes.items()}
    )
    with suppress(CedeError):
        Xenstore(store).backend()
        Xenstore(store).stale_notes()
    adapter = Xenstore(store)
    for ask in (adapter.guest_disks, adapter.guest_interfaces, adapter.guest_devices):
        with suppress(CedeError):
            ask()


def xenstore_wire(daemon: FakeXenstored) -> Callable[[Edits, int], None]:
    properly = daemon.properly
    daemon.nodes = {path: text.encode() for path, text in NODES.items()}

    def tried(changes: Edits, which: int) -> None:
        def answer(operation: object, request: int, payload: bytes) -> bytes | None:
            said = properly(operation, request, payload) or b""  # type: ignore[arg-type]
            kept = said[: which % 40] if which % 3 else said
            garbled = as_bytes(mutated(said.decode("latin-1"), changes))
            return (kept or None) if which % 2 else garbled or None

        daemon.answer = answer
        client = XenstoreClient(daemon.path, timeout=0.02)
        with suppress(CedeError):
            Xenstore(client).backend()
            client.events()
        client.close()

    return tried


EVENT = "PCI_CLASS=20000\nPCI_ID=8086:10D3\nPCI_SUBSYS_ID=8086:0000\nPCI_SLOT_NAME=0000:01:00.0\n"


def sysfs(root: Path) -> Callable[[Edits, int], None]:
    devices, slots = root / "bus/pci/devices", root / "bus/pci/drivers/pciback/slots"
    card = devices / str(CARD)
    for folder in (card / "net/eth0", slots.parent, root / "class/block"):
        folder.mkdir(parents=True)
    files = {card / "uevent": EVENT, card / "net/eth0/address": "52:54:00:01:00:00",
             card / "driver_override": "(null)",
             card / "power_state": "D0", slots: "0000:01:00.0\n0000:02:00.0\n"}  # fmt: skip
    link = card / "physfn"
    link.mkdir()
    made: list[Path] = []

    def tried(changes: Edits, which: int) -> None:
        for path, text in files.items():
            path.write_bytes(as_bytes(mutated(text, changes)))
        (card / "config").write_bytes(as_bytes(mutated("\x86\x80\xd3\x10" * 90, changes)))
        for old in made:
            old.unlink()
        made.clear()
        for _, _, word in changes:
            name = word.replace("/", "").replace("\0", "")[:200]
            target = link / as_bytes(f"virtfn{name}").decode("utf-8", "surrogateescape")
            with suppress(OSError):
                target.symlink_to(f"../0000:01:00.{which % 9}")
                made.append(target)
        adapter = Sysfs(root)
        for device in adapter.devices():
            str(device.identity)
            adapter.switched_on(device.address)
            adapter.interfaces(device.address)
        adapter.nodes()
        adapter.permissive()

    return tried


XML = """\
<domain type='xen' id='3'>
  <name>pv1</name><uuid>5d8ac0ac-8e1c-4f7e-8a52-3f7e6f1d2c3b</uuid>
  <metadata><cede:assignments xmlns:cede='urn:cede:assignments:1'>
    <cede:device name='nic0' address='0000:01:00.0' policy='/etc/cede/policy.yaml'/>
  </cede:assignments></metadata>
  <memory unit='KiB'>524288</memory><currentMemory unit='KiB'>524288</currentMemory>
  <os><type arch='x86_64' machine='xenpv'>linux</type></os>
  <features><xen><e820_host state='on'/><passthrough state='on'/></xen></features>
  <devices>
    <disk type='block' device='disk'><source dev='/dev/vg/pv1'/><target dev='xvda' bus='xen'/></disk>
    <interface type='bridge'><source bridge='br0'/></interface>
    <console type='pty' tty='/dev/pts/3'><target type='xen' port='0'/></console>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
      <alias name='ua-cede-nic0'/>
    </hostdev>
    <hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source></hostdev>
    <serial type='dev'><source path='/dev/ttyS4'/></serial>
  </devices>
</domain>
"""
POOL = """\
<pool type='scsi'><name>images</name><source><device path='/dev/sdb'/>
  <adapter type='scsi_host' name='scsi_host3' wwpn='10000090fa1b2c3d'><parentaddr unique_id='1'>
    <address domain='0x0000' bus='0x01' slot='0x1f' function='0x2'/></parentaddr></adapter>
</source><target><path>/dev/disk/by-path</path></target></pool>
"""


def libvirt_xml(changes: Edits, which: int) -> None:
    xml, pool = mutated(XML, changes), mutated(POOL, changes)
    for read in (sources.pool_devices, sources.pool_paths):
        with suppress(CedeError):
            read(pool)
    with suppress(CedeError):
        document.domain(xml, XML if which % 2 else None)
    for edit in (
        lambda: document.domain(None, xml),
        lambda: document.console_terminal(xml),
        lambda: document.hostdev_as_shown(xml, CARD),
        lambda: incremental_edits(xml, document.without_hostdev(xml, CARD)),
        lambda: incremental_edits(
            xml, document.with_hostdev(xml, SLOT, "ua-cede-n", policy="/etc/p.yaml")
        ),
        lambda: document.adopted(xml, CARD, "ua-cede-n", "/etc/p.yaml"),
        lambda: document.with_features(xml, ("passthrough",)),
        lambda: document.without_features(xml, ("passthrough", "e820_host")),
    ):
        with suppress(CedeError):
            edit()


POLICY = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}, expect: {vendor: "8086", device: "10d3"}}
  vf: {match: {physical_function: "0000:01:00.0", function: 1}}
assignments:
  - {device: nic0, domain: pv1, when: next-start, verify: {guest: console, timeout: 30}}
protect:
  - {address: "0000:00:03.0", reason: the root disk}
"""


def policy(changes: Edits, which: int) -> None:
    text = mutated(POLICY, changes)
    with suppress(CedeError):
        policy_files.parse(as_bytes(text) if which % 2 else text, "policy.yaml")


XL_CFG = """\
name = "pv1"  # a guest
type = 'pv'; memory = 512
e820_host = 1
rdm = "strategy=host,policy=strict"
pci = [ '01:00.0@5,permissive=1', "bdf=0000:02:00.*,seize=0",
        'name=card,rdm_policy=relaxed' ]
pci += [ '03:00.0' ]
"""


def xl_config(changes: Edits, _which: int) -> None:
    with suppress(CedeError):
        guest = xl_cfg.parse(as_bytes(mutated(XL_CFG, changes)), "pv1.cfg")
        host = Inventory(devices=(DEVICE,))
        policy_text(import_policy([of_guest(guest, host)], host, Policy()), ("pv1.cfg",), {})


KMSG = """\
6,1000,1234567,-;pciback 0000:01:00.0: xen_pciback: vpci: assign to virtual slot 0
 SUBSYSTEM=pci
3,1001,2234567,-;e1000e 0000:01:00.0: AER: Uncorrectable error \\x1b[2J
"""


def kernel_log(root: Path) -> Callable[[Edits, int], None]:
    def tried(changes: Edits, _which: int) -> None:
        (root / "kmsg").write_bytes(as_bytes(mutated(KMSG, changes)))
        lines = KernelLog(root / "kmsg").lines()
        assert all(line.text.isprintable() for line in lines or ())
        host_checks.of_kernel_log(lines, CARD)

    return tried


def hide(changes: Edits, _which: int) -> None:
    command_line = mutated("root=/dev/sda1 xen-pciback.hide=(0000:01:00.0)(02:00.*)", changes)
    options = (("m.conf", mutated("options xen-pciback hide=(01:00.0)", changes)),)
    for found in hide_settings.settings(command_line, options):
        found.addresses((CARD,))


CHANNELS = (
    "guest answer", "console", "helper", "xenstore nodes", "xenstore wire", "sysfs", "libvirt XML", "policy", "xl.cfg",
    "kernel log", "hide",
)  # fmt: skip


@pytest.fixture(scope="module", params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> Iterator[Callable[[Edits, int], None]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plain = {"guest answer": guest_answer, "console": console, "helper": helper, "xenstore nodes": xenstore_nodes,
                 "libvirt XML": libvirt_xml, "policy": policy, "xl.cfg": xl_config, "hide": hide}  # fmt: skip
        if request.param == "sysfs":
            yield sysfs(root)
        elif request.param == "kernel log":
            yield kernel_log(root)
        elif request.param == "xenstore wire":
            daemon = FakeXenstored(root / "socket")
            yield xenstore_wire(daemon)
            daemon.close()
        else:
            yield plain[request.param]


@settings(
    max_examples=max(1, INPUTS // len(CHANNELS)),
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(changes=edits, which=st.integers(0, 1 << 16))
def test_whatever_a_channel_carries_only_cedes_own_errors_come_of_it(
    channel: Callable[[Edits, int], None], changes: Edits, which: int
) -> None:
    channel(changes, which)
