"""Whether and how libvirt would reset a device, from its configuration space and the bridges above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.config_space import own_reset
from cede.adapters.linux.sysfs import Sysfs
from cede.doctor.finding import Finding
from cede.doctor.pair_rules import pair_refusals
from cede.model.domain import Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device, Reset
from cede.model.plan import Refused
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy
from cede.planner.fitness import FitKind, fitness
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.planner.targets import AttachTarget
from sim import config_spaces
from sim.config_spaces import (
    E1000,
    E1000E,
    EHCI,
    IGB,
    INTEGRATED_WIRELESS,
    NO_SOFT_RESET_GRAPHICS,
    RADEON_HD_6970,
    RADEON_HD_6970_SOUND,
    SATA,
    SILENT,
    VIRTUAL_FUNCTION,
)
from sim.sys_tree import link, write

if TYPE_CHECKING:
    from pathlib import Path

    from sim.sys_tree import SysTree

CARDS = (
    E1000,
    E1000E,
    EHCI,
    IGB,
    INTEGRATED_WIRELESS,
    NO_SOFT_RESET_GRAPHICS,
    RADEON_HD_6970,
    SATA,
)
NIC = "0000:01:00.0"


def judged(space: bytes) -> Reset | None:
    return own_reset(lambda offset, size: space[offset : offset + size])


def changed(space: bytes, **at: int) -> bytes:
    """The space with the bytes at `x40` and the like changed."""
    said = bytearray(space)
    for place, value in at.items():
        said[int(place[1:], 16)] = value
    return bytes(said)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (RADEON_HD_6970, Reset.PM),
        (NO_SOFT_RESET_GRAPHICS, Reset.NONE),
        (IGB, Reset.FLR),
        (E1000E, Reset.PM),
        (E1000, Reset.NONE),
        (EHCI, Reset.FLR),
        (INTEGRATED_WIRELESS, Reset.FLR),
        (SATA, Reset.NONE),
        # libvirt asks for the advanced features' FLR alone, not for their TP
        (changed(EHCI, x9b=0x02), Reset.FLR),
        (changed(EHCI, x9b=0x01), Reset.NONE),
        # a device in D3hot answers as in D0
        (changed(RADEON_HD_6970, x54=0x03), Reset.PM),
        (changed(RADEON_HD_6970, x54=0x0B), Reset.NONE),
        # without the list's bit in the status there are no capabilities
        (changed(IGB, x06=0), Reset.NONE),
    ],
    ids=[
        *("radeon", "no-soft-reset", "igb", "e1000e", "e1000", "ehci", "wireless", "sata"),
        *("no-tp", "tp-alone", "d3hot", "d3hot-no-soft-reset", "no-list"),
    ],
)
def test_a_card_resets_by_itself_as_its_capabilities_say(space: bytes, expected: Reset) -> None:
    assert judged(space) is expected


@pytest.mark.parametrize(
    "space",
    [
        b"",
        SILENT,
        VIRTUAL_FUNCTION,
        IGB[:64],
        E1000E[:64],
        RADEON_HD_6970[:0x54],
        changed(E1000E, xa1=0xC8),
        IGB[:64] + SILENT[64:],
        RADEON_HD_6970[:0xA0] + SILENT[0xA0:],
    ],
    ids=[
        *("gone", "silent", "no-vendor", "not-root", "not-root-e1000e", "cut-off", "circle"),
        *("silent-behind-the-header", "silent-in-the-list"),
    ],
)
def test_an_unknown_reset_is_neither_one_nor_none(space: bytes) -> None:
    assert judged(space) is None


def test_a_card_without_a_list_of_capabilities_is_known_without_root() -> None:
    assert judged(E1000[:64]) is Reset.NONE


@given(card=st.sampled_from(CARDS), size=st.integers(0, 256))
def test_a_space_that_ends_early_is_judged_as_the_whole_one_or_not_at_all(
    card: bytes, size: int
) -> None:
    assert judged(card[:size]) in {None, judged(card)}


@given(head=st.binary(max_size=256), fill=st.integers(0, 255))
def test_any_bytes_are_judged_and_the_walk_ends(head: bytes, fill: int) -> None:
    assert judged((head + bytes([fill]) * 256)[:256]) in {None, Reset.FLR, Reset.PM, Reset.NONE}


def port(tree: SysTree, address: str, *, root: str = "pci0000:00", code: str = "060400") -> Path:
    return tree.function(
        address, under=tree.sys / "devices" / root, class_code=code, driver="pcieport"
    )


def found(tree: SysTree, address: str, adapter: Sysfs | None = None) -> tuple[Reset | None, bool]:
    device = (adapter or Sysfs(tree.sys)).device(Address.parse(address))
    assert device is not None
    return device.reset, device.on_root_bus


@pytest.mark.parametrize(
    ("config", "behind"),
    [
        (RADEON_HD_6970, Reset.PM),
        (NO_SOFT_RESET_GRAPHICS, Reset.BUS),
        (IGB, Reset.FLR),
        (E1000, Reset.BUS),
        (None, None),
        (SILENT, None),
        (E1000E[:64], None),
    ],
)
def test_behind_a_bridge_what_has_no_reset_of_its_own_has_that_of_the_bus(
    tree: SysTree, config: bytes | None, behind: Reset | None
) -> None:
    tree.function("0000:01:00.0", under=port(tree, "0000:00:01.0"), config=config)
    tree.function("0000:00:1f.0", config=config)
    assert found(tree, "0000:01:00.0") == (behind, False)
    assert found(tree, "0000:00:1f.0") == (Reset.NONE if behind is Reset.BUS else behind, True)


def test_a_root_bus_is_one_without_a_bridge_above_it_whatever_its_number(tree: SysTree) -> None:
    second = tree.sys / "devices/pci0000:80"
    tree.function("0000:80:14.3", under=second, config=INTEGRATED_WIRELESS)
    tree.function("0000:80:17.0", under=second, config=SATA)
    tree.function("0000:81:00.0", under=port(tree, "0000:80:00.0", root="pci0000:80"), config=E1000)
    assert found(tree, "0000:80:14.3") == (Reset.FLR, True)
    assert found(tree, "0000:80:17.0") == (Reset.NONE, True)
    assert found(tree, "0000:81:00.0") == (Reset.BUS, False)
    assert found(tree, "0000:80:00.0") == (None, True), "nobody resets a bridge"


def test_libvirt_takes_a_bridge_to_cardbus_for_no_parent(tree: SysTree) -> None:
    """Source: src/util/virpci.c (virPCIDeviceIsParent)."""
    tree.function("0000:06:00.0", under=port(tree, "0000:00:1e.0", code="060700"), config=E1000)
    inner = tree.function(
        "0000:07:00.0", under=port(tree, "0000:00:1c.4"), class_code="060700", driver="yenta"
    )
    tree.function("0000:08:00.0", under=inner, config=E1000)
    assert found(tree, "0000:06:00.0") == (Reset.NONE, True)
    assert found(tree, "0000:08:00.0") == (Reset.BUS, False)


def test_a_virtual_function_has_an_flr_by_its_nature(tree: SysTree) -> None:
    above = port(tree, "0000:00:14.0")
    physical = tree.function("0000:0a:00.0", under=above, config=IGB)
    for address, config in (("0000:0a:10.0", VIRTUAL_FUNCTION), ("0000:0b:10.2", None)):
        virtual = tree.function(address, under=above, config=config)
        link(virtual / "physfn", physical)
        assert found(tree, address) == (Reset.FLR, False)


def test_a_bridge_that_cant_be_read_leaves_it_open_whether_the_bus_is_a_root_bus(
    tree: SysTree,
) -> None:
    above = port(tree, "0000:00:01.0")
    tree.function("0000:01:00.0", under=above, config=IGB)
    (above / "uevent").unlink()
    assert found(tree, "0000:01:00.0") == (None, False)


def test_a_bridge_is_known_by_its_class_alone_as_in_a_recorded_tree(tree: SysTree) -> None:
    above = port(tree, "0000:00:01.0")
    tree.function("0000:01:00.0", under=above, config=E1000)
    (above / "uevent").unlink()
    write(above / "class", "0x060400")
    assert found(tree, "0000:01:00.0") == (Reset.BUS, False)


def test_a_configuration_space_is_read_once_of_each_card(tree: SysTree) -> None:
    adapter = Sysfs(tree.sys)
    folder = tree.function(NIC, config=IGB)
    assert found(tree, NIC, adapter) == (Reset.FLR, False)
    (folder / "config").write_bytes(SILENT)
    assert found(tree, NIC, adapter) == (Reset.FLR, False), "a card in the middle of a reset"
    folder.rename(folder.with_name("gone"))
    (tree.sys / "bus/pci/devices" / NIC).unlink()
    again = tree.function(NIC, config=SILENT)
    assert found(tree, NIC, adapter) == (None, False), "another card has come"
    (again / "config").write_bytes(E1000E)
    assert found(tree, NIC, adapter) == (Reset.PM, False), "what can't be told is asked again"


def test_a_device_that_sleeps_is_read_for_its_reset_and_not_for_its_serial_number(
    tree: SysTree,
) -> None:
    """The kernel resumes it for that and lets it sleep again; else it could never be given away."""
    folder = tree.function(NIC, config=RADEON_HD_6970)
    write(folder / "power/runtime_status", "suspended")
    device = Sysfs(tree.sys).device(Address.parse(NIC))
    assert device is not None
    assert (device.asleep, device.reset, device.serial) == (True, Reset.PM, None)


GUEST = Domain(name="pv1", uuid="pv1", kind=GuestKind.PV, domid=1, passthrough=True, e820_host=True)
PLACE = Place(file="policy.yaml", line=1, column=1)


def answers(tree: SysTree, address: str) -> tuple[str, str, list[str]]:
    """What the plan, the FIT column and the doctor say of the device: the rule, the cause, the findings."""
    devices = Sysfs(tree.sys).devices()
    host = Inventory(devices=devices, domains=(GUEST,), pciback_loaded=True)
    device = host.device(Address.parse(address))
    assert device is not None
    named = DevicePolicy(
        name="thing", match=Match(address=device.address), expect=Expect(), place=PLACE
    )
    wanted = Assignment(device="thing", domain="pv1", place=PLACE)
    policy = Policy(devices=(named,), assignments=(wanted,), source="policy.yaml")
    (decision,) = plan(resolve_targets(policy, host)).decisions
    rule = decision.rule if isinstance(decision, Refused) else ""
    fit = fitness(device, host, Policy())
    assert (fit.fit is FitKind.YES) is not bool(rule)
    return rule, fit.cause, [finding.name for finding in findings(device, host, policy)]


def findings(device: Device, host: Inventory, policy: Policy) -> list[Finding]:
    target = AttachTarget(
        subject="thing -> pv1",
        assignment=policy.assignments[0],
        device=device,
        domain=GUEST,
        policy=policy,
        inventory=host,
    )
    return list(pair_refusals(target, "thing -> pv1"))


def test_plan_fitness_and_doctor_agree_on_each_reset(tree: SysTree) -> None:
    above, second = port(tree, "0000:00:01.0"), tree.sys / "devices/pci0000:80"
    graphics = tree.function(
        NIC, under=above, class_code="030000", driver="radeon", config=RADEON_HD_6970
    )
    write(graphics / "reset_method", "bus")  # the kernel's quirk hides `pm`
    tree.function(
        "0000:01:00.1", under=above, class_code="040300", driver="snd_hda_intel",
        config=RADEON_HD_6970_SOUND,
    )  # fmt: skip
    for address, method in (("0000:00:17.0", "device_specific"), ("0000:00:18.0", "acpi")):
        write(tree.function(address, driver="ahci", config=SATA) / "reset_method", method)
    tree.function("0000:80:14.3", under=second, driver="iwlwifi", config=INTEGRATED_WIRELESS)
    tree.function("0000:80:17.0", under=second, driver="ahci", config=SATA)
    tree.function("0000:00:11.0", driver="e1000e", config=E1000E)
    tree.function("0000:00:12.0", driver="e1000e", config=E1000E[:64])
    assert answers(tree, NIC) == ("", "", [])
    for address in ("0000:00:17.0", "0000:00:18.0"):
        assert answers(tree, address) == ("no-reset", "no reset", ["no-reset"])
    assert answers(tree, "0000:80:14.3") == ("root-bus", "on a root bus", ["root-bus"])
    assert answers(tree, "0000:80:17.0")[:2] == ("root-bus", "on a root bus")
    assert answers(tree, "0000:00:11.0") == ("", "", [])
    unknown = ("reset-unknown", "reset unknown", ["reset-unknown"])
    assert answers(tree, "0000:00:12.0") == unknown


def test_every_space_of_a_card_is_a_whole_one() -> None:
    spaces = {
        name: value for name, value in vars(config_spaces).items() if isinstance(value, bytes)
    }
    assert {len(space) for space in spaces.values()} == {256}
