"""What the kernel is to be told for an early binding, and every mistake in what it is told now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import FailureKind
from cede.model.inventory import Inventory
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, OriginalState
from cede.model.pciback_options import settings
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
        reset_methods=("pm",),
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


@given(
    line=st.text(alphabet='()*:.0123 "\\\x1b', max_size=80),
    text=st.text(alphabet="()*:.0123#\x1b", max_size=80),
)
def test_no_text_makes_it_fail_nor_reaches_the_screen_raw(line: str, text: str) -> None:
    lines = [(CONF, f"options xen-pciback hide={text}")]
    odd = BootConfiguration(settings=settings(f"xen-pciback.hide={line}", lines))
    for mistake in found(odd).mistakes:
        assert (mistake.what + mistake.place).isprintable()
