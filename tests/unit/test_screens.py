"""What people read of each command: every screen in one golden file per command, and nowhere else.

Other tests hold on to exit statuses, rule names, actions and values. A wording is changed in the product alone, then
`pytest tests/unit/test_screens.py --regenerate-golden` shows by the diff of tests/golden what people will read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from cede.domain_xml import document
from cede.errors import HungError, PermanentError, UnreachableError
from cede.model.actions import ReturnToDom0
from cede.model.pci import Address
from cede.model.plan import Change, Purpose
from cede.policy.policy_files import source_at
from cede.state.journal import Requester
from sim import listed_machine, probe_answers
from sim.config_spaces import E1000
from sim.sys_tree import link, write
from unit.both_ways import by_the_agent
from unit.test_asking import near
from unit.test_cli import NIC, POLICY, Shown, cede, policy
from unit.test_in_sync import REPORT, taken_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.runtime import Runtime
    from sim.in_files import SimulatedHost

__all__ = ["cede", "near", "policy"]  # fixtures
SECOND = "0000:02:00.0"
OTHERWISE = {
    "finds no driver": probe_answers.whole(
        probe_answers.RECORD.replace("Driver:\te1000e\n", ""),
        probe_answers.SYSFS.replace("DRIVER=e1000e\n", ""),
    ),
    "finds another device": probe_answers.whole(
        probe_answers.RECORD.replace("10d3", "100e"), probe_answers.SYSFS.replace("10D3", "100E")
    ),
    "finds nothing": probe_answers.whole("", "", ""),
    "answers in pieces": probe_answers.whole().replace("|D0|\n", ""),
}


class Scenes:
    """Runs commands and keeps their screens under a title each, without what differs from run to run."""

    def __init__(self, cede: Callable[..., Shown], folder: str) -> None:
        self._cede, self._folder = cede, folder
        self.said: list[str] = []

    def __call__(self, title: str, *arguments: str, **options: Path | None) -> None:
        shown = self._cede(*arguments, **options)
        text = f"== {title}\n$ cede {' '.join(arguments)}\n{shown.out}{shown.err}"
        text = text.replace(f"{self._folder}/etc/cede", "/etc/cede")
        text = text.replace(self._folder, "/etc/cede")
        text = re.sub(r"Usage: .*\nTry .*\n\n", "", text)  # click's own, by its version
        self.said.append(re.sub(r"\b\d+\.\d s\b", "0.0 s", text) + f"exit status {shown.status}\n")


@pytest.fixture(params=["by the command", "by the agent"])
def runtime_of(
    request: pytest.FixtureRequest, host: SimulatedHost, near: Path
) -> Iterator[Callable[[], Runtime]]:
    """Every screen is the same, whoever does what the command says."""
    if request.param == "by the command" or "import" in request.node.name:
        yield host.runtime
    else:
        with by_the_agent(host, near) as runtime:
            yield runtime


@pytest.fixture
def scenes(
    cede: Callable[..., Shown],
    policy: Path,
    golden: Callable[[str, str], None],
    host: SimulatedHost,
    request: pytest.FixtureRequest,
) -> Iterator[Scenes]:
    """The scenes of the command that a test is named for; compared when the test has ended."""
    host.user = "ann"
    found = Scenes(cede, str(policy.parent))
    yield found
    command = request.node.originalname.removeprefix("test_screens_of_")
    golden(f"{command}.txt", "\n".join(found.said))


def root_disk(host: SimulatedHost) -> None:
    disk = host.tree.function(
        "0000:00:03.0", driver="virtio-pci", class_code="010000", config=E1000
    )
    host.tree.mount("/", host.tree.disk("vda", disk))


def test_screens_of_apply(scenes: Scenes, host: SimulatedHost, policy: Path) -> None:
    host.fails["plug"] = [PermanentError("libxl said no", remedy="read its log")]
    scenes("a step fails and is taken back", "apply", "--yes")
    host.fails["plug"] = [PermanentError("no")]
    host.fails["reattach"] = [PermanentError("the driver is gone", remedy="load it")]
    scenes("a step fails and can't be taken back", "apply", "--yes")
    scenes("what can't be taken back is gone on with", "apply", "--yes")
    scenes("a second time does nothing", "apply", "--yes")
    taken_away(host)
    scenes("what was taken away is put back", "apply", "--yes")
    taken_away(host)
    policy.write_text(REPORT)
    scenes("what was taken away is only reported", "apply", "--scheduled")
    scenes("the administrator restores it", "apply", "--yes")
    for title, answer in OTHERWISE.items():
        taken_away(host)
        host.guest_says = answer
        scenes(f"the guest {title}", "apply", "--yes")
    host.written.hold(Address.parse(NIC), "unbinding it hung")
    taken_away(host)
    scenes("a device that hung is left alone", "apply", "--yes")
    policy.write_text(POLICY.replace("domain: pv1", "domain: nobody"))
    scenes("the domain isn't there", "apply", "--yes")
    policy.write_text("version: 1\ndevcies: {}\n")
    scenes("the policy is wrong", "apply")


def test_screens_of_status(
    scenes: Scenes,
    cede: Callable[..., Shown],
    host: SimulatedHost,
    policy: Path,
) -> None:
    scenes("before the first apply", "status")
    host.fails["plug"] = [PermanentError("no")]
    cede("apply", "--yes")
    failed = host.written.conditions(source_at([policy]))
    at = "2026-01-31T03:10:00+00:00"
    host.written.save_status(
        source_at([policy]),
        [replace(c, next_try=at if c.reason == "Failed" else "") for c in failed],
    )
    scenes("failed, and tried again later", "status")
    cede("apply", "--yes")
    host.time.today += timedelta(hours=1)
    scenes("in sync", "status")
    taken_away(host)
    scenes("drifted", "status")
    cede("pause", "pv1", "--for", "2h", "--reason", "a test")
    scenes("paused", "status")
    cede("resume", "--yes")
    cede("drain", "--yes", "--reason", "new firmware")
    scenes("drained", "status")
    cede("resume", "--yes")
    host.silent = UnreachableError("libvirt doesn't answer", remedy="systemctl start libvirtd")
    host.time.today += timedelta(hours=1)
    scenes("libvirt doesn't answer", "status")
    host.silent = None
    host.tree.mount("/", host.tree.disk("sda", host.tree.sys / "bus/pci/devices" / NIC))
    policy.write_text(POLICY.replace("domain: pv1", "domain: nobody"))
    scenes("the domain isn't there", "status")


def test_screens_of_verify(
    scenes: Scenes,
    cede: Callable[..., Shown],
    host: SimulatedHost,
) -> None:
    scenes("before the first apply, the whole way", "verify", "--explain")
    scenes("nothing is restarted that isn't in sync", "verify", "--restart", "--yes")
    cede("apply", "--yes")
    host.kernel_said = [f"pciback {NIC}: xen_pciback: vpci: assign to virtual slot 0"]
    scenes("in sync", "verify")
    scenes("in sync, the whole way", "verify", "--explain")
    scenes("after a restart", "verify", "--restart", "--explain", "--yes")
    whole = host.guest_says
    for title, answer in OTHERWISE.items():
        host.guest_says = answer
        scenes(f"the guest {title}", "verify")
    host.guest_says, host.deaf = whole, True
    scenes("the guest doesn't shut down", "verify", "--restart", "--yes")


def test_screens_of_attach(scenes: Scenes, cede: Callable[..., Shown]) -> None:
    scenes("by address", "attach", "01:00.0", "pv1")
    scenes("again", "attach", NIC, "pv1")
    scenes("into another domain", "attach", NIC, "pv2")
    cede("drain", "--yes")
    scenes("of a drained device", "attach", NIC, "pv1")
    scenes("of an unknown name", "attach", "nosuch", "pv1")
    scenes("of an address where nothing is", "attach", "0f:00.0", "pv1")


def test_screens_of_detach(scenes: Scenes, cede: Callable[..., Shown]) -> None:
    cede("apply", "--yes")
    scenes("by name", "detach", "nic0")
    scenes("again", "detach", "nic0")


def test_screens_of_release(
    scenes: Scenes, cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    scenes("of what dom0 has", "release", "nic0")
    cede("apply", "--yes")
    host.fails["unplug"] = [HungError("unplugging has hung")]
    scenes("a step hangs", "release", NIC)
    scenes("again", "release", NIC)
    host.guests["pv1"].config = document.with_hostdev(
        host.guests["pv1"].config, Address.parse("09:00.0"), "ua-cede-old"
    )
    scenes("of a device that has vanished", "release", "09:00.0")
    host.tree.mount("/", host.tree.disk("sda", host.tree.sys / "bus/pci/devices" / NIC))
    scenes("of what the host lives on", "release", NIC)
    scenes("of an unknown name", "release", "nosuch")
    scenes("of an address where nothing is", "release", "0000:0f:00.0")


def test_screens_of_pause(scenes: Scenes, policy: Path) -> None:
    scenes("a domain, for a time", "pause", "pv1", "--for", "2h", "--reason", "a test")
    scenes("a device", "pause", "nic0")
    scenes("an unknown name", "pause", "pv9")
    scenes("an address where nothing is", "pause", "0000:09:00.0")
    scenes("no time", "pause", "nic0", "--for", "soon")
    scenes("what apply says then", "apply", "--yes")
    policy.write_text(POLICY.replace("nic0", "pv1"))
    scenes("a name of a domain and a device", "pause", "pv1")


def test_screens_of_resume(
    scenes: Scenes, cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    scenes("nothing is paused", "resume")
    cede("apply", "--yes")
    cede("pause", "pv1")
    scenes("a name that isn't paused itself", "resume", "nic0")
    taken_away(host)
    scenes("what drifted meanwhile is put back", "resume", "pv1", "--yes")
    policy.write_text(REPORT)
    cede("pause", "nic0")
    taken_away(host)
    scenes("what drifted meanwhile is only reported", "resume", "nic0", "--yes")
    cede("drain", "--yes")
    scenes("one where everything is drained", "resume", "nic0")


def test_screens_of_drain(
    scenes: Scenes, cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    cede("apply", "--yes")
    scenes("everything", "drain", "--yes", "--reason", "new firmware")
    scenes("again", "drain", "--yes")
    scenes("what apply says then", "apply", "--yes")
    cede("resume", "--yes")
    host.fails["unplug"] = [PermanentError("no", remedy="do")]
    scenes("a step fails", "drain", "--yes")
    cede("resume", "--yes")
    policy.write_text("version: 1\n")
    cede("apply", "--yes", "--prune")
    cede("attach", NIC, "pv1")
    scenes("a one-off", "drain", "--yes")


def test_screens_of_doctor(scenes: Scenes, host: SimulatedHost, tmp_path: Path) -> None:
    host.guest("pv1", 1, features="")
    scenes("a host on which something is missing", "doctor")
    scenes("a pair", "doctor", NIC, "pv1")
    host.fails["load"] = [PermanentError("no such module", remedy="build one")]
    scenes("a fix that fails", "doctor", "--fix", "--yes")
    scenes("a fix of the host", "doctor", "--fix", "--yes")
    scenes("a fix of the domain", "doctor", NIC, "pv1", "--fix", "--yes")
    scenes("nothing to fix", "doctor", NIC, "pv1", "--fix", "--yes")
    host.happens("reboot pv1")
    scenes("nothing is wrong", "doctor")
    log = tmp_path / "dmesg"
    log.write_text("NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out\n")
    scenes("a guest's log", "doctor", NIC, "pv1", "--guest-log", str(log))
    scenes("a device without a domain", "doctor", NIC)
    scenes("an unknown domain", "doctor", NIC, "nobody")
    host.store.broken = UnreachableError("xenstore gave no answer: [Errno 32] Broken pipe")
    scenes("xenstore is down", "doctor")
    host.is_root = False
    scenes("others than root ask", "doctor")


MORE = yaml.safe_load("""
"0000:00:1d.0": {id: "8086:3420", class: "0604", port: root, driver: pcieport}
"0000:04:00.0": {id: "104c:8232", class: "0604", above: "0000:00:1d.0", port: upstream, driver: pcieport}
"0000:05:08.0": {id: "104c:8233", class: "0604", above: "0000:04:00.0", port: downstream, driver: pcieport}
"0000:06:00.0": {id: "8086:10d3", class: "0200", above: "0000:05:08.0", reset: flr, removable: true}
"0000:05:09.0": {id: "104c:8233", class: "0604", above: "0000:04:00.0", port: downstream, driver: pcieport}
"0000:07:00.0": {id: "1002:5046", class: "0300", above: "0000:05:09.0"}
"0000:07:00.1": {id: "8086:2668", class: "0403", above: "0000:05:09.0", driver: snd_hda_intel}
"0000:00:1e.0": {id: "8086:3422", class: "0604", port: root, driver: pcieport}
"0000:08:00.0": {id: "1b36:000e", class: "0604", above: "0000:00:1e.0", port: to-pci}
"0000:09:01.0": {id: "8086:100e", class: "0200", above: "0000:08:00.0", conventional: true}
"0000:09:02.0": {id: "8086:100e", class: "0200", above: "0000:08:00.0", conventional: true}
"0000:00:1f.0": {id: "8086:3421", class: "0604", port: root, driver: pcieport}
"0000:0c:00.0": {id: "1b36:000d", class: "0c0330", above: "0000:00:1f.0", reset: flr, driver: xhci_hcd}
"0000:80:05.0": {id: "8086:10d3", class: "0200", reset: flr}
""")


def more_devices(host: SimulatedHost) -> None:
    """A switch, a bridge to conventional PCI, a second root bus, and a controller with a stick."""
    tree = host.tree
    listed_machine.build(tree, MORE)
    stick = (tree.sys / "bus/pci/devices/0000:0c:00.0").resolve() / "usb1/1-1"
    told = {
        "bDeviceClass": "00", "idVendor": "0951", "idProduct": "1666", "serial": "60A44C3F",
        "manufacturer": "Kingston", "product": "DataTraveler 3.0",
    }  # fmt: skip
    for name, said in told.items():
        write(stick / name, said)
    link(tree.sys / "bus/usb/devices/1-1", stick)
    disk = tree.disk("sdb", stick / "1-1:1.0/host3")
    write(disk / "size", "31129600")
    write(disk / "device/wwid", "t10.Kingston DataTraveler 3.0 60A44C3F")


def fewer_devices(host: SimulatedHost) -> None:
    for address in MORE:
        (host.tree.sys / "bus/pci/devices" / address).unlink()


def test_screens_of_devices(
    scenes: Scenes, cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    root_disk(host)
    host.tree.bind(SECOND, "pciback")
    host.tree.slots(SECOND)
    scenes("all", "devices")
    scenes("the one that dom0 lives on", "devices", "00:03.0")
    more_devices(host)
    scenes("as a tree", "devices", "--tree")
    scenes("a part of the tree", "devices", "--tree", "07:00.1", NIC)
    scenes("a controller", "devices", "0c:00.0")
    scenes("a tree at length", "devices", "--tree", "--long")
    fewer_devices(host)
    host.store.nodes |= {
        "/local/domain/0/backend/pci/7/0/num_devs": "1",
        "/local/domain/0/backend/pci/7/0/dev-0": NIC,
        "/local/domain/7/name": "theirs",
    }
    scenes("one is in a guest that libvirt doesn't know", "devices")
    host.store.nodes.clear()
    cede("apply", "--yes")
    host.guests["pv1"].config = document.with_hostdev(
        host.guests["pv1"].config, Address.parse("09:00.0"), "ua-cede-old"
    )
    scenes("one is in a guest, one has vanished", "devices")
    scenes("the one in a guest", "devices", NIC)
    host.paths.policy.parent.mkdir(parents=True)
    host.paths.policy.write_text("version: 2\n")
    scenes("the policy is wrong", "devices", NIC)


def test_screens_of_import(
    scenes: Scenes, host: SimulatedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # comments are broken by the lengths of the names in them
    cfg, out = Path("pv1.cfg"), "new.yaml"
    cfg.write_text("name = 'pv1'\npci = ['01:00.0,permissive=1']\n")
    scenes("a file", "import", str(cfg), "-o", out, on=None)
    scenes("a file again", "import", str(cfg), "-o", out, on=None)
    scenes("nothing", "import", on=None)
    scenes("a missing file", "import", "missing.cfg", on=None)
    scenes("an unknown domain", "import", "--from-domain", "nobody", on=None)
    scenes("to nowhere", "import", str(cfg), "-o", "/nowhere/at/all.yaml", on=None)
    scenes("hidden devices, of which there are none", "import", "--from-hide", on=None)
    scenes("of a text that is wrong", "import", "--hide", "(03:00.0)(oops)", on=None)
    cfg.write_text("name = 'g'\npci = ['01:00.0,permisive=1']\nimport os\n")
    scenes("a file that is wrong", "import", str(cfg), on=None)
    cfg.write_text("name = ''\npci = ['01:00.0']\n")
    scenes("a guest with an empty name", "import", str(cfg), on=None)
    host.guests["pv1"].config = document.with_hostdev(
        host.guests["pv1"].config, Address.parse(NIC), "ua-mine"
    )
    scenes("a hostdev of another tool", "import", "--from-domains", on=None)


def test_screens_of_history(
    scenes: Scenes, cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    scenes("nothing was done", "history", on=None)
    host.fails["plug"] = [PermanentError("libxl said no", remedy="read its log")]
    cede("apply", "--yes")
    cede("apply", "--yes")
    cede("release", NIC)
    scenes("rolled back, done, released", "history", on=None)
    scenes("of a domain that it has nothing of", "history", "pv9", on=None)
    action = ReturnToDom0(address=Address.parse(SECOND))
    change = Change(
        subject=f"release {SECOND}", purpose=Purpose.RELEASE, address=action.address, identity=None,
        actions=(action,),
    )  # fmt: skip
    host.written.begin_action(host.written.begin_change(change, Requester()), action, {})
    scenes("interrupted, of which nobody knows who asked", "history", SECOND, on=None)
