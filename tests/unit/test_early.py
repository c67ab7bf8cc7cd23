"""What the kernel is to be told for an early binding, and every mistake in what it is told now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede import policy_file
from cede.address import Address
from cede.errors import Exit
from cede.model import PCIBACK, Device, HostUse, Identity, Inventory, Origin
from cede.plan.early import early
from cede.plan.hide_mistakes import COMMAND_LINE, Told

if TYPE_CHECKING:
    from cede.plan.early import Early

ROOT, NIC, PORT, IDLE = (
    Address.parse(a) for a in ("0000:00:03.0", "0000:01:00.0", "0000:02:00.0", "0000:04:00.0")
)
POLICY = policy_file.parse(
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
IN_INITRAMFS = (("/etc/initramfs-tools/modules", "# comment\nxen-pciback\n"),)
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


def found(told: Told, host: Inventory = HOST) -> Early:
    return early(POLICY, host, told)


def names(told: Told, host: Inventory = HOST) -> list[str]:
    return [mistake.name for mistake in found(told, host).mistakes]


def options(text: str) -> Told:
    return Told(modprobe=((CONF, f"options xen-pciback {text}"),), initramfs=IN_INITRAMFS)


def test_only_what_the_host_can_spare_is_hidden() -> None:
    told = found(Told())
    assert told.devices == (NIC, PORT)
    (left,) = told.left_out
    assert left.exit is Exit.UNSAFE
    assert not any(str(ROOT) in line for file in told.files for line in file.lines)


def test_each_driver_is_made_to_wait() -> None:
    (conf,) = [file for file in found(Told()).files if file.path == CONF]
    assert conf.lines[1:] == (
        f"options xen-pciback {RIGHT}",
        "softdep e1000e pre: xen-pciback",
        "softdep igb pre: xen-pciback",
    )


@pytest.mark.parametrize(
    ("told", "paths"),
    [
        (Told(), ["cede.conf", "cede.conf", "modules", "cede.conf", "cede.cfg"]),
        (Told(makers=("initramfs-tools",)), ["cede.conf", "cede.conf", "modules", "cede.cfg"]),
        (Told(makers=("dracut",)), ["cede.conf", "cede.conf", "cede.conf", "cede.cfg"]),
        (Told(built_in=True, makers=("dracut",)), ["cede.cfg"]),
    ],
)
def test_the_files_are_those_that_this_host_reads(told: Told, paths: list[str]) -> None:
    assert [file.path.rpartition("/")[2] for file in found(told).files] == paths


@pytest.mark.parametrize(("built_in", "named"), [(False, True), (True, False)])
def test_dracut_is_told_on_the_command_line_to_load_the_module_unless_it_is_built_in(
    built_in: bool, named: bool
) -> None:
    last = found(Told(makers=("dracut",), built_in=built_in)).files[-1]
    assert ("rd.driver.pre=xen-pciback" in last.lines[1]) is named


def test_what_is_printed_is_read_back_without_a_complaint() -> None:
    (conf,) = [file for file in found(Told()).files if file.path == CONF]
    text = "\n".join(conf.lines)
    assert names(Told(modprobe=((CONF, text),), initramfs=IN_INITRAMFS)) == []
    grub = found(Told()).files[-1].lines[-1]
    line = grub.partition("$GRUB_CMDLINE_LINUX ")[2].rstrip('"')
    assert names(Told(command_line=f"ro {line} quiet", initramfs=IN_INITRAMFS)) == []


def test_a_policy_that_gives_nothing_away_prints_nothing() -> None:
    assert early(policy_file.parse("version: 1\n", "p"), HOST, Told()).files == ()


@pytest.mark.parametrize(
    ("told", "mistakes"),
    [
        (Told(), []),
        (options(RIGHT), []),
        (options(f"hide=({NIC})({PORT}"), ["malformed", "missing"]),
        (options(f"hide={NIC}"), ["malformed", "missing"]),
        (options(f"hide=({NIC})"), ["missing"]),
        (options(f"{RIGHT}(09:00.0)"), ["no-device"]),
        (options(f"{RIGHT}({ROOT})"), ["guarded"]),
        (options(f"{RIGHT}({IDLE})"), ["not-assigned"]),
        (options(f"{RIGHT}({NIC})"), ["twice"]),
        (options(f"{RIGHT}(01:00.*)"), ["twice"]),
        (replace(options(RIGHT), initramfs=()), ["late"]),
        (replace(options(RIGHT), initramfs=(("m", "# xen-pciback"),)), ["late"]),
        (replace(options(RIGHT), initramfs=(), built_in=True), []),
        (replace(options(RIGHT), command_line=f"xen-pciback.{RIGHT}"), ["overruled"]),
        (replace(options(RIGHT), command_line=f"pciback.{RIGHT}"), ["odd"]),
        (Told(command_line=f"xen-pciback.hide= xen-pciback.{RIGHT}", initramfs=IN_INITRAMFS), ["odd"]),
        (Told(command_line=f"xen_pciback.{RIGHT}", initramfs=IN_INITRAMFS), []),
    ],
)  # fmt: skip
def test_every_mistake_is_told(told: Told, mistakes: list[str]) -> None:
    assert names(told) == mistakes


def test_the_command_line_is_named_as_the_one_that_counts() -> None:
    told = replace(options(RIGHT), command_line=f"xen-pciback.hide=({NIC})")
    overruled, missing = found(told).mistakes
    assert (overruled.place, missing.place) == (CONF, COMMAND_LINE)


def test_hiding_what_the_host_lives_on_is_unsafe_and_says_why() -> None:
    mistake = found(options(f"{RIGHT}({ROOT})")).mistakes[0]
    assert mistake.exit is Exit.UNSAFE
    assert "vda, which holds /" in mistake.what


def test_a_hidden_device_that_has_its_driver_all_the_same_is_told() -> None:
    host = replace(
        HOST, devices=(device(NIC, "e1000e", had="e1000e"), *HOST.devices[2:], HOST.devices[0])
    )
    (mistake,) = found(options(RIGHT), host).mistakes
    assert (mistake.name, "its driver e1000e" in mistake.what) == ("ineffective", True)


@given(
    command_line=st.text(alphabet='xen-pciback.hide=()*:0123 "\\', max_size=80),
    text=st.text(alphabet="options xen-pciback hide=()*:.0123\n#", max_size=80),
)
def test_no_text_makes_it_fail_nor_reaches_the_screen_raw(command_line: str, text: str) -> None:
    told = Told(command_line=command_line, modprobe=((CONF, text),), initramfs=((CONF, text),))
    assert all(mistake.what.isprintable() for mistake in found(told).mistakes)
