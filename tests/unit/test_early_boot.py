"""What the kernel is to be told for an early binding, and every mistake in what it is told now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.doctor import pciback_rules
from cede.doctor.finding import Facts
from cede.errors import FailureKind
from cede.model.hide_settings import settings
from cede.model.inventory import Inventory
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, OriginalState, Reset
from cede.model.policy import Policy
from cede.planner.boot_plan import early_boot
from cede.planner.hide_mistakes import BootConfiguration
from cede.policy import policy_files

if TYPE_CHECKING:
    from cede.planner.boot_plan import EarlyBoot

ROOT, NIC, PORT, IDLE = (
    Address.parse(a) for a in ("0000:00:03.0", "0000:01:00.0", "0000:02:00.0", "0000:04:00.0")
)
POLICY = policy_files.parse(
    """\
version: 1
devices:
  root: {match: {address: "0000:00:03.0"}}
  nic: {match: {address: "0000:01:00.0"}}
  port: {match: {address: "0000:02:00.0"}}
assignments:
  - {device: root, domain: pv1}
  - {device: nic, domain: pv1}
  - {device: port, domain: pv2}
""",
    "policy.yaml",
)
CONF = "/etc/modprobe.d/cede.conf"
IN_INITRAMFS = ("/etc/initramfs-tools/modules",)
RIGHT = f"hide=({NIC})({PORT})"


def device(
    address: Address, driver: str, *, had: str = "", uses: tuple[HostUse, ...] = ()
) -> Device:
    identity = Identity(vendor="8086", device="10d3", class_code="020000")
    return Device(
        address=address,
        identity=identity,
        driver=driver,
        uses=uses,
        reset=Reset.PM,
        original_state=OriginalState(identity=identity, driver=had) if had else None,
    )


HOST = Inventory(
    devices=(
        device(ROOT, "virtio-pci", uses=(
            HostUse(guard="filesystem", chain=(str(ROOT), "vda", "/")),
            HostUse(guard="default-route", chain=(str(ROOT), "eth0", "the default route")),
        )),
        device(NIC, PCIBACK, had="e1000e"),
        device(PORT, PCIBACK, had="igb"),
        device(IDLE, "e1000e"),
    ),
    pciback_loaded=True,
)  # fmt: skip


def found(now: BootConfiguration, host: Inventory = HOST) -> EarlyBoot:
    return early_boot(POLICY, host, now)


def names(now: BootConfiguration) -> list[str]:
    return [mistake.name for mistake in found(now).mistakes]


def reported(*options: str, line: str = "") -> BootConfiguration:
    """A host with these words for xen-pciback in modprobe.d and this kernel command line."""
    lines = [(CONF, f"options xen-pciback {text}") for text in options]
    return BootConfiguration(settings=settings(f"ro {line} quiet", lines), loaders=IN_INITRAMFS)


def told(texts: dict[str, Any], line: str = "") -> BootConfiguration:
    """A host that is told these things elsewhere than in modprobe.d's right line."""
    options = texts.pop("options", ())
    return BootConfiguration(settings=settings(line, options, **texts), loaders=IN_INITRAMFS)


def test_only_what_the_host_can_spare_is_hidden() -> None:
    shown = found(BootConfiguration())
    assert shown.devices == (NIC, PORT)
    (left,) = shown.left_out
    assert left.kind is FailureKind.UNSAFE
    assert not any(str(ROOT) in line for file in shown.files for line in file.lines)


def test_each_driver_is_made_to_wait() -> None:
    (conf,) = [file for file in found(BootConfiguration()).files if file.path == CONF]
    assert conf.lines[1:] == (
        f"options xen-pciback {RIGHT}",
        "softdep e1000e pre: xen-pciback",
        "softdep igb pre: xen-pciback",
    )


@pytest.mark.parametrize(
    ("host", "paths"),
    [
        (BootConfiguration(), ["cede.conf", "cede.conf", "modules", "cede.conf", "cede.cfg"]),
        (
            BootConfiguration(makers=("initramfs-tools",)),
            ["cede.conf", "cede.conf", "modules", "cede.cfg"],
        ),
        (
            BootConfiguration(makers=("dracut",)),
            ["cede.conf", "cede.conf", "cede.conf", "cede.cfg"],
        ),
        (BootConfiguration(built_in=True, makers=("dracut",)), ["cede.cfg"]),
    ],
)
def test_the_files_are_those_that_this_host_reads(
    host: BootConfiguration, paths: list[str]
) -> None:
    assert [file.path.rpartition("/")[2] for file in found(host).files] == paths


@pytest.mark.parametrize(("built_in", "named"), [(False, True), (True, False)])
def test_dracut_is_reported_on_the_command_line_to_load_the_module_unless_it_is_built_in(
    built_in: bool, named: bool
) -> None:
    last = found(BootConfiguration(makers=("dracut",), built_in=built_in)).files[-1]
    assert ("rd.driver.pre=xen-pciback" in last.lines[1]) is named


def test_what_is_printed_is_read_back_without_a_mistake() -> None:
    (conf,) = [file for file in found(BootConfiguration()).files if file.path == CONF]
    assert names(reported(conf.lines[1].removeprefix("options xen-pciback "))) == []
    grub = found(BootConfiguration()).files[-1].lines[-1]
    line = grub.partition("$GRUB_CMDLINE_LINUX ")[2].rstrip('"')
    assert names(reported(line=line)) == []


def test_a_policy_that_gives_nothing_away_prints_nothing() -> None:
    assert (
        early_boot(policy_files.parse("version: 1\n", "p"), HOST, BootConfiguration()).files == ()
    )


@pytest.mark.parametrize(
    ("host", "mistakes"),
    [
        (BootConfiguration(), []),
        (reported(RIGHT), []),
        (reported(f"hide=({NIC})({PORT}"), ["malformed"]),
        (reported(f"hide={NIC}"), ["malformed"]),
        (reported(f"hide=({NIC})"), ["missing"]),
        (reported(f"{RIGHT}(09:00.0)"), ["no-device"]),
        (reported(f"{RIGHT}({ROOT})"), ["guarded"]),
        (reported(f"{RIGHT}({IDLE})"), ["not-assigned"]),
        (reported(f"{RIGHT}({NIC})"), ["twice"]),
        (reported(f"{RIGHT}(01:00.*)"), ["twice"]),
        (replace(reported(RIGHT), loaders=()), ["late"]),
        (replace(reported(RIGHT), loaders=("/etc/modules-load.d/cede.conf",)), ["late"]),
        (replace(reported(RIGHT), loaders=("rd.driver.pre=xen-pciback",)), []),
        (replace(reported(RIGHT), loaders=("/etc/dracut.conf.d/cede.conf",)), []),
        (replace(reported(RIGHT), loaders=(), built_in=True), []),
        (reported(RIGHT, line=f"xen-pciback.{RIGHT}"), ["overruled"]),
        (reported(RIGHT, line=f"pciback.{RIGHT}"), ["ignored"]),
        (reported(line=f"xen-pciback.hide= xen-pciback.{RIGHT}"), ["overruled"]),
        (reported(line=f"xen_pciback.{RIGHT}"), []),
        (reported(f"hide=({NIC}) ({PORT})"), ["trailing", "missing"]),
        (reported(line=f"xen-pciback.hide=({NIC})({PORT})  ({IDLE})"), ["trailing"]),
        (reported(f"{RIGHT}(09:*.*)"), ["no-device"]),
        (told({"options": [(CONF, f"options pciback {RIGHT}")]}), ["ignored"]),
        (told({"lists": [("/etc/modules", f"xen-pciback {RIGHT}")]}), ["ignored"]),
        (told({"lists": [("/etc/modules-load.d/x.conf", f"xen-pciback hide=({NIC}")]}), ["ignored", "malformed"]),
        (told({"lists": [(IN_INITRAMFS[0], f"xen-pciback {RIGHT}")]}), []),
        (told({"lists": [(IN_INITRAMFS[0], f"xen-pciback hide=({NIC}")]}), ["malformed"]),
        (told({"lists": [(IN_INITRAMFS[0], f"xen-pciback {RIGHT}")]}, f"xen-pciback.hide=({NIC})"), ["overruled"]),
        (told({"xen_command_line": f"xen-pciback.{RIGHT}"}), ["ignored"]),
        (told({}, f"rd.qubes.hide_pci={NIC},{PORT}"), ["ignored"]),
        (told({"qubes": True}, f"rd.qubes.hide_pci={NIC},{PORT}"), []),
        (told({"qubes": True}, f"rd.qubes.hide_pci={NIC},{ROOT}"), ["guarded"]),
        (told({"qubes": True}, f"rd.qubes.hide_pci={NIC},{IDLE}"), ["not-assigned"]),
        (told({"qubes": True}, f"rd.qubes.hide_pci=({NIC})"), ["malformed"]),
        (replace(reported(RIGHT), old_names=(CONF,)), ["old-name"]),
        (replace(reported(RIGHT), disabled=(CONF,)), ["disabled"]),
    ],
)  # fmt: skip
def test_every_mistake_is_reported(host: BootConfiguration, mistakes: list[str]) -> None:
    assert names(host) == mistakes


def test_the_command_line_is_named_as_the_one_that_counts() -> None:
    overruled, missing = found(reported(RIGHT, line=f"xen-pciback.hide=({NIC})")).mistakes
    assert overruled.place == f"hide= in {CONF}"
    assert missing.place.startswith("xen-pciback.hide= ")


def test_hiding_what_the_host_lives_on_is_unsafe_and_says_why() -> None:
    mistake = found(reported(f"{RIGHT}({ROOT})")).mistakes[0]
    assert mistake.kind is FailureKind.UNSAFE
    assert "vda" in mistake.what


def test_a_hidden_device_that_has_its_driver_all_the_same_is_reported() -> None:
    host = replace(
        HOST, devices=(device(NIC, "e1000e", had="e1000e"), *HOST.devices[2:], HOST.devices[0])
    )
    (mistake,) = found(reported(RIGHT), host).mistakes
    assert (mistake.name, "e1000e" in mistake.what) == ("ineffective", True)


@pytest.mark.parametrize(
    ("policy", "host", "rule"),
    [
        (
            POLICY,
            replace(HOST, devices=(*HOST.devices[:2], replace(HOST.devices[2], physical_function=NIC))),
            "host-needs-it",
        ),
        (
            policy_files.parse(
                f"""\
version: 1
devices: {{nic: {{match: {{address: "{NIC}"}}, expect: {{vendor: "10de"}}}}}}
assignments: [{{device: nic, domain: pv1}}]
""",
                "p",
            ),
            HOST,
            "another-device",
        ),
    ],
)  # fmt: skip
def test_a_hidden_device_whose_assignment_is_refused_gets_the_rules_reason(
    policy: Policy, host: Inventory, rule: str
) -> None:
    shown = early_boot(policy, host, reported(f"hide=({NIC})"))
    found = {mistake.name: mistake for mistake in shown.mistakes}
    assert "not-assigned" not in found
    assert found["refused"].entry == str(NIC)
    assert rule in found["refused"].what
    (refusal,) = [one for one in shown.left_out if "nic" in one.subject]
    assert (found["refused"].why, found["refused"].kind) == (refusal.reason, refusal.kind)


def test_the_doctor_says_of_each_setting_what_the_early_binder_says() -> None:
    told_now = reported(f"hide=({NIC})(09:00.0)({ROOT})({NIC}) ({PORT})", line=f"pciback.{RIGHT}")
    mistakes = {f"hide-{mistake.name}" for mistake in found(told_now).mistakes}
    facts = Facts(boot=told_now, inventory=HOST, policy=POLICY)
    assert {one.name for one in pciback_rules.hidden(facts)} == mistakes
    without = {one.name for one in pciback_rules.hidden(replace(facts, policy=Policy()))}
    assert without == mistakes - {"hide-missing"}


@given(
    line=st.text(alphabet='()*:.0123 "\\\x1b', max_size=80),
    text=st.text(alphabet="()*:.0123#\x1b", max_size=80),
)
def test_no_text_makes_it_fail_nor_reaches_the_screen_raw(line: str, text: str) -> None:
    lines = [(CONF, f"options xen-pciback hide={text}")]
    odd = BootConfiguration(settings=settings(f"xen-pciback.hide={line}", lines))
    for mistake in found(odd).mistakes:
        assert (mistake.what + mistake.place).isprintable()
