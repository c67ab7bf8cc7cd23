"""What the kernel is to be told for an early binding, and every mistake in what it is told now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import Exit
from cede.model.inventory import Inventory
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Origin
from cede.model.pciback_options import settings
from cede.planner.early_boot import early
from cede.planner.hide_mistakes import Told
from cede.policy import policy_files

if TYPE_CHECKING:
    from cede.planner.early_boot import Early

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
        origin=Origin(identity=identity, driver=had) if had else None,
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


def found(now: Told, host: Inventory = HOST) -> Early:
    return early(POLICY, host, now)


def names(now: Told) -> list[str]:
    return [mistake.name for mistake in found(now).mistakes]


def told(*options: str, line: str = "") -> Told:
    """A host with these words for xen-pciback in modprobe.d and this kernel command line."""
    lines = [(CONF, f"options xen-pciback {text}") for text in options]
    return Told(settings=settings(f"ro {line} quiet", lines), loaders=IN_INITRAMFS)


def test_only_what_the_host_can_spare_is_hidden() -> None:
    shown = found(Told())
    assert shown.devices == (NIC, PORT)
    (left,) = shown.left_out
    assert left.exit is Exit.UNSAFE
    assert not any(str(ROOT) in line for file in shown.files for line in file.lines)


def test_each_driver_is_made_to_wait() -> None:
    (conf,) = [file for file in found(Told()).files if file.path == CONF]
    assert conf.lines[1:] == (
        f"options xen-pciback {RIGHT}",
        "softdep e1000e pre: xen-pciback",
        "softdep igb pre: xen-pciback",
    )


@pytest.mark.parametrize(
    ("host", "paths"),
    [
        (Told(), ["cede.conf", "cede.conf", "modules", "cede.conf", "cede.cfg"]),
        (Told(makers=("initramfs-tools",)), ["cede.conf", "cede.conf", "modules", "cede.cfg"]),
        (Told(makers=("dracut",)), ["cede.conf", "cede.conf", "cede.conf", "cede.cfg"]),
        (Told(built_in=True, makers=("dracut",)), ["cede.cfg"]),
    ],
)
def test_the_files_are_those_that_this_host_reads(host: Told, paths: list[str]) -> None:
    assert [file.path.rpartition("/")[2] for file in found(host).files] == paths


@pytest.mark.parametrize(("built_in", "named"), [(False, True), (True, False)])
def test_dracut_is_told_on_the_command_line_to_load_the_module_unless_it_is_built_in(
    built_in: bool, named: bool
) -> None:
    last = found(Told(makers=("dracut",), built_in=built_in)).files[-1]
    assert ("rd.driver.pre=xen-pciback" in last.lines[1]) is named


def test_what_is_printed_is_read_back_without_a_complaint() -> None:
    (conf,) = [file for file in found(Told()).files if file.path == CONF]
    assert names(told(conf.lines[1].removeprefix("options xen-pciback "))) == []
    grub = found(Told()).files[-1].lines[-1]
    line = grub.partition("$GRUB_CMDLINE_LINUX ")[2].rstrip('"')
    assert names(told(line=line)) == []


def test_a_policy_that_gives_nothing_away_prints_nothing() -> None:
    assert early(policy_files.parse("version: 1\n", "p"), HOST, Told()).files == ()


@pytest.mark.parametrize(
    ("host", "mistakes"),
    [
        (Told(), []),
        (told(RIGHT), []),
        (told(f"hide=({NIC})({PORT}"), ["malformed"]),
        (told(f"hide={NIC}"), ["malformed"]),
        (told(f"hide=({NIC})"), ["missing"]),
        (told(f"{RIGHT}(09:00.0)"), ["no-device"]),
        (told(f"{RIGHT}({ROOT})"), ["guarded"]),
        (told(f"{RIGHT}({IDLE})"), ["not-assigned"]),
        (told(f"{RIGHT}({NIC})"), ["twice"]),
        (told(f"{RIGHT}(01:00.*)"), ["twice"]),
        (replace(told(RIGHT), loaders=()), ["late"]),
        (replace(told(RIGHT), loaders=("/etc/modules-load.d/cede.conf",)), ["late"]),
        (replace(told(RIGHT), loaders=("rd.driver.pre=xen-pciback",)), []),
        (replace(told(RIGHT), loaders=("/etc/dracut.conf.d/cede.conf",)), []),
        (replace(told(RIGHT), loaders=(), built_in=True), []),
        (told(RIGHT, line=f"xen-pciback.{RIGHT}"), ["overruled"]),
        (told(RIGHT, line=f"pciback.{RIGHT}"), ["ignored"]),
        (told(line=f"xen-pciback.hide= xen-pciback.{RIGHT}"), ["overruled"]),
        (told(line=f"xen_pciback.{RIGHT}"), []),
    ],
)  # fmt: skip
def test_every_mistake_is_told(host: Told, mistakes: list[str]) -> None:
    assert names(host) == mistakes


def test_the_command_line_is_named_as_the_one_that_counts() -> None:
    overruled, missing = found(told(RIGHT, line=f"xen-pciback.hide=({NIC})")).mistakes
    assert overruled.place == f"hide= in {CONF}"
    assert missing.place == "xen-pciback.hide= on the kernel's command line"


def test_hiding_what_the_host_lives_on_is_unsafe_and_says_why() -> None:
    mistake = found(told(f"{RIGHT}({ROOT})")).mistakes[0]
    assert mistake.exit is Exit.UNSAFE
    assert "vda, which holds /" in mistake.what


def test_a_hidden_device_that_has_its_driver_all_the_same_is_told() -> None:
    host = replace(
        HOST, devices=(device(NIC, "e1000e", had="e1000e"), *HOST.devices[2:], HOST.devices[0])
    )
    (mistake,) = found(told(RIGHT), host).mistakes
    assert (mistake.name, "its driver e1000e" in mistake.what) == ("ineffective", True)


@given(
    line=st.text(alphabet='()*:.0123 "\\\x1b', max_size=80),
    text=st.text(alphabet="()*:.0123#\x1b", max_size=80),
)
def test_no_text_makes_it_fail_nor_reaches_the_screen_raw(line: str, text: str) -> None:
    lines = [(CONF, f"options xen-pciback hide={text}")]
    odd = Told(settings=settings(f"xen-pciback.hide={line}", lines))
    for mistake in found(odd).mistakes:
        assert (mistake.what + mistake.place).isprintable()
