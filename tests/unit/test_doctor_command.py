"""`cede doctor` over a simulated host: what it tells, what it fixes, and how far it gets on a host that is down."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

import pytest

from cede.adapters.composition import open_adapters
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.runtime import LibvirtAccess
from cede.errors import PermanentError, UnreachableError
from cede.model.pci import Address
from cede.services.diagnose import DoctorRequest, diagnose
from sim.config_spaces import E1000
from unit import test_cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cede.adapters.ports import Adapters, Libvirt
    from cede.adapters.runtime import Runtime
    from cede.model.pci import Isolation
    from sim.in_files import SimulatedHost
    from unit.test_cli import Shown

NIC = "0000:01:00.0"
BOTH = "<passthrough state='on'/><e820_host state='on'/>"
cede, policy = test_cli.cede, test_cli.policy


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[TextIO], None]:
    """Where the command reads from, which is a name of Python's own."""
    return lambda stream: monkeypatch.setattr("sys.stdin", stream)


@pytest.fixture
def ready(host: SimulatedHost) -> SimulatedHost:
    """A host on which nothing is wrong, with pv1 set up as it should be."""
    host.tree.slots()
    host.adapters().modules.load_at_boot()
    host.guest("pv1", 1, features=BOTH)
    return host


def findings(shown: Shown) -> list[tuple[str, str, str]]:
    """The name, severity and subject of each."""
    said = shown.json("doctor")["findings"]
    return [(one["name"], one["severity"], one["subject"]) for one in said]


@pytest.mark.usefixtures("ready")
def test_a_healthy_host_and_pair_have_nothing_fatal(cede: Callable[..., Shown]) -> None:
    shown = cede("doctor", "--json", on=None)
    assert (shown.status, findings(shown), shown.err) == (0, [], "")
    pair = cede("doctor", NIC, "pv1", "--json")
    assert (pair.status, findings(pair)) == (0, [("ready", "note", f"{NIC} -> pv1")])


@pytest.mark.usefixtures("ready")
def test_every_json_of_the_doctor_fits_its_schema(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("doctor", "--json", on=None).json("doctor")["findings"] == []
    host.guest("pv1", 1, features="")
    (host.tree.sys / "bus/pci/drivers/pciback/slots").unlink()
    reported = cede("doctor", NIC, "pv1", "--json")
    said = reported.json("doctor")
    assert (reported.status, said["exit"], said["outcomes"]) == (1, 1, [])
    assert [one["name"] for one in said["findings"]] == [
        "passthrough-off",
        "e820-host-off",
        "ready",
    ]
    assert [
        action["action"] for change in said["fix"]["decisions"] for action in change["actions"]
    ] == ["switch-on"]
    fixed = cede("doctor", NIC, "pv1", "--fix", "--json").json("doctor")
    assert [one["subject"] for one in fixed["outcomes"]] == ["fix pv1"]


def test_what_is_harmless_is_cured_by_a_plan_that_the_history_remembers(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.guest("pv1", 1, features="")
    before = cede("doctor", NIC, "pv1", "--json")
    assert (before.status, host.journal) == (1, [])
    assert findings(before)[0] == ("passthrough-off", "fatal", "pv1")
    changes = before.json("doctor")["fix"]["decisions"]
    assert [[action["action"] for action in change["actions"]] for change in changes] == [
        ["load-pciback", "load-at-boot"],
        ["switch-on"],
    ]
    assert [bool(change["action_required"]) for change in changes] == [False, True]
    fixed = cede("doctor", NIC, "pv1", "--fix", "--json")
    assert (fixed.status, sorted(host.journal)) == (1, ["load", "redefine pv1"])
    assert findings(fixed)[0] == ("passthrough-off", "fatal", "pv1"), "until it is started anew"
    for feature in ("passthrough", "e820_host"):
        assert f"<{feature} state='on'" in host.guests["pv1"].config
    host.happens("reboot pv1")
    after = cede("doctor", NIC, "pv1", "--fix", "--json")
    assert (after.status, after.json("doctor")["fix"]["decisions"]) == (0, [])
    assert len(host.journal) == 2
    entries = cede("history", "--json", on=None).json("history")["history"]
    assert {(e["outcome"], e["command"], e["address"]) for e in entries} == {
        ("done", f"cede doctor {NIC} pv1 --fix", None)
    }


def test_a_fix_that_fails_says_why_and_is_taken_back(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["load"] = [
        PermanentError("no such module", name="pciback-not-loaded", remedy="build one")
    ]
    shown = cede("doctor", "--fix", "--json", on=None)
    assert shown.status == 1
    assert shown.json("doctor")["outcomes"][0]["error"] == {
        "name": "pciback-not-loaded", "message": "no such module", "remedy": "build one", "kind": "failed",
    }  # fmt: skip
    assert not host.adapters().modules.loaded_at_boot()


def test_a_person_is_asked_first_and_may_say_no(
    cede: Callable[..., Shown], host: SimulatedHost, stdin: Callable[[TextIO], None]
) -> None:
    person = io.StringIO("n\n")
    person.isatty = lambda: True  # type: ignore[method-assign]
    stdin(person)
    shown = cede("doctor", "--fix", on=None)
    assert (shown.status, host.journal) == (0, [])


def test_a_host_without_libvirt_is_examined_as_far_as_it_goes(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    disk = host.tree.function(
        "0000:00:03.0", driver="virtio-pci", class_code="010000", config=E1000
    )
    host.tree.mount("/", host.tree.disk("vda", disk))
    config = host.tree.sys.parent / "etc/modprobe.d/pciback.conf"
    config.parent.mkdir(parents=True)
    config.write_text("options xen-pciback hide=(00:03.0)\n")
    host.silent = UnreachableError("Failed to connect socket to 'libvirt-sock'")
    for arguments in ((), (NIC, "pv1")):
        reported = cede("doctor", "--json", *arguments, on=None)
        names = [one["name"] for one in reported.json("doctor")["findings"]]
        assert names[:2] == ["hide-guarded", "libvirt-down"]
        assert reported.status == 1
    fixed = cede("doctor", "--fix", "--yes", on=None)
    assert (fixed.status, host.journal) == (1, ["load"])
    assert host.adapters().modules.loaded_at_boot()


@pytest.mark.usefixtures("ready")
def test_a_host_that_cant_be_observed_as_a_whole_is_a_finding_too(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    why = PermanentError("somebody is logged in over ssh, on an interface nobody knows")

    def blind(*_: object) -> None:
        raise why

    host.instead["uses"] = blind
    for arguments in ((), (NIC, "pv1")):
        shown = cede("doctor", *arguments, on=None)
        assert (shown.status, why.message in shown.out) == (1, True)


@pytest.mark.usefixtures("ready")
def test_node_devices_that_cant_be_listed_are_a_finding_too(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["node_devices"] = [
        UnreachableError("Failed to connect socket to 'virtnodedevd-sock'")
    ]
    shown = cede("doctor", NIC, "pv1", on=None)
    assert (shown.status, "(virtnodedevd-down)" in shown.out) == (1, True)


@pytest.mark.usefixtures("ready")
def test_a_guests_log_may_come_through_a_pipe_with_a_fix_too(
    cede: Callable[..., Shown], host: SimulatedHost, stdin: Callable[[TextIO], None]
) -> None:
    host.guest("pv1", 1)
    said = b"xen map irq failed -22 for 32752 domain\n"
    pipe = io.TextIOWrapper(io.BytesIO(said))
    stdin(pipe)
    shown = cede("doctor", NIC, "pv1", "--guest-log", "-", "--fix", "--yes")
    assert host.journal == ["redefine pv1"]
    assert "<e820_host state='on'" in host.guests["pv1"].config
    assert "(no-interrupts)" in shown.out


@pytest.mark.usefixtures("ready")
def test_a_xenstore_that_is_down_is_a_finding_too(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.store.broken = UnreachableError("xenstore gave no answer: [Errno 32] Broken pipe")
    shown = cede("doctor", "--json", on=None)
    assert (shown.status, [name for name, _, _ in findings(shown)]) == (1, ["xenstore-down"])


@pytest.mark.usefixtures("ready")
def test_others_than_root_are_reported_that_they_see_less(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.is_root = False
    host.instead["xen-log"] = lambda _: pytest.fail("Xen's log was asked for")
    denied = "libvirt doesn't answer: authentication unavailable: no polkit agent available"
    host.silent = UnreachableError(denied)
    shown = cede("doctor", "--json", on=None)
    assert (shown.status, findings(shown)) == (0, [("not-root", "note", "this host")])


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((NIC,), "DOMAIN"),
        (("0f:00.0", "pv1"), "0f:00.0"),
        ((NIC, "nobody"), "nobody"),
        (("--guest-log", "x"), "--guest-log"),
        ((NIC, "pv1", "--guest-log", "/nowhere/log"), "/nowhere/log"),
    ],
)
def test_a_wrong_name_is_an_error_of_the_command_line(
    cede: Callable[..., Shown], arguments: tuple[str, ...], named: str
) -> None:
    shown = cede("doctor", *arguments, on=None)
    assert (shown.status, named in shown.err, shown.out) == (2, True, "")


def test_what_a_pair_shares_is_read_once(ready: SimulatedHost) -> None:
    """Of two functions of one card, of which another guest has the other one."""
    ready.card("0000:01:00.1")
    ready.give(ready.cards[Address.parse(NIC)], 2, by_cede=False)
    asked: list[Address] = []

    class Counting(Sysfs):
        def isolation(self, address: Address) -> Isolation | None:
            asked.append(address)
            return super().isolation(address)

    adapters = replace(ready.adapters(), sysfs=Counting(ready.tree.sys))
    diagnose(adapters, DoctorRequest(device="0000:01:00.1", domain="pv1"), is_root=True)
    assert asked
    assert len(asked) == len(set(asked))


@pytest.mark.usefixtures("ready")
def test_a_guests_log_is_examined_and_never_shown_raw(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    log = tmp_path / "dmesg"
    log.write_bytes(
        b"\x1b]0;owned\x07 NETDEV WATCHDOG: eth0 (\x1b[31me1000e): transmit queue 0 timed out\xff\n"
        b"pcifront pci-0: Could not claim resource 0000:00:01.0/4! Device offline. "
        b"Try using e820_host=1 in the guest config.\n"
    )
    shown = cede("doctor", NIC, "pv1", "--guest-log", str(log))
    assert shown.status == 1
    assert "(bar-unclaimed)" in shown.out
    assert "(no-interrupts)" in shown.out
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out


@pytest.mark.usefixtures("ready")
def test_a_device_named_in_the_policy_must_have_the_identity_that_it_expects(
    cede: Callable[..., Shown], policy: Path
) -> None:
    policy.write_text(test_cli.POLICY.replace('vendor: "8086"', 'vendor: "10de"'))
    shown = cede("doctor", "nic0", "pv1")
    assert (shown.status, "(another-device)" in shown.out) == (1, True), shown.out


def test_an_adapter_that_doesnt_open_reports_why_when_it_is_asked(
    host: SimulatedHost,
) -> None:
    def shut(_runtime: Runtime) -> Libvirt:
        raise UnreachableError("no")

    def opened(access: LibvirtAccess) -> AbstractContextManager[Adapters]:
        return open_adapters(host.runtime(), access, connect=shut)

    with pytest.raises(UnreachableError), opened(LibvirtAccess.REQUIRED):
        pass
    with opened(LibvirtAccess.OPTIONAL) as adapters, pytest.raises(UnreachableError):
        adapters.libvirt.domains()


@pytest.mark.usefixtures("ready")
def test_a_policy_that_cant_be_read_is_found_and_the_host_is_examined_all_the_same(
    cede: Callable[..., Shown], policy: Path
) -> None:
    policy.write_text("version: 1\ndevices: [\n")
    shown = cede("doctor", "--json")
    assert (shown.status, findings(shown)) == (0, [("policy-unreadable", "warning", "this host")])
    assert cede("doctor", NIC, "pv1").status == 2


@pytest.mark.usefixtures("ready")
def test_a_device_that_the_policy_knows_by_its_address_alone_is_warned_of(
    cede: Callable[..., Shown], policy: Path
) -> None:
    bare = f"version: 1\ndevices:\n  nic0:\n    match: {{address: '{NIC}'}}\n"
    policy.write_text(bare)
    warned = [("bare-address", "warning", "nic0")]
    assert findings(cede("doctor", "--json")) == warned
    assert warned[0] in findings(cede("doctor", NIC, "pv1", "--json"))
    policy.write_text(bare + "    expect: {vendor: '8086'}\n")
    assert findings(cede("doctor", "--json")) == []


def test_the_msix_mask_of_a_device_that_waits_for_a_guest_is_read_from_the_device(
    cede: Callable[..., Shown], ready: SimulatedHost
) -> None:
    masked = bytearray(256)
    masked[0x06], masked[0x34], masked[0x40] = 0x10, 0x40, 0x11
    masked[0x43] = 0xC0  # Enable+ Masked+
    (ready.tree.sys / f"bus/pci/devices/{NIC}/config").write_bytes(bytes(masked))
    assert findings(cede("doctor", "--json", on=None)) == [], "its driver may be about to set it up"
    ready.tree.bind(NIC, "pciback")
    assert findings(cede("doctor", "--json", on=None)) == [("msix-masked", "warning", NIC)]
    (ready.tree.sys / f"bus/pci/devices/{NIC}/config").write_bytes(bytes(masked[:64]))
    assert findings(cede("doctor", "--json", on=None)) == []
