"""dom0's sysfs, read from a tree made of files as the kernel makes them."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.config_space import serial_number
from cede.adapters.linux.sysfs import Sysfs
from cede.adapters.recorded.dom0 import RecordedSysfs
from cede.errors import IndeterminateError, PermanentError
from cede.model.host_answers import HostAnswers
from cede.model.pci import Address, Device, Identity, Reset, SwitchedOn
from sim.config_spaces import E1000, IGB
from sim.sys_tree import write
from unit.raises import raises

if TYPE_CHECKING:
    from sim.sys_tree import SysTree

NIC = Address(0, 1, 0, 0)
SERIAL = bytes.fromhex("00000001ffff5452")
SPELT = "52-54-ff-ff-01-00-00-00"


def config_space(*capabilities: tuple[int, int, int], size: int = 4096) -> bytes:
    """A `config` file with (offset, id, next) in its extended list, each followed by SERIAL."""
    space = bytearray(4096)
    for offset, identity, following in capabilities:
        struct.pack_into("<I", space, offset, identity | 1 << 16 | following << 20)
        space[offset + 4 : offset + 12] = SERIAL
    return bytes(space[:size])


def serial_in(space: bytes) -> str | None:
    return serial_number(lambda offset, size: space[offset : offset + size])


def only(tree: SysTree) -> Device:
    (device,) = Sysfs(tree.sys).devices()
    return device


def test_a_function_is_read_with_everything_that_it_says_of_itself(tree: SysTree) -> None:
    tree.function("0000:01:00.0", driver="e1000e", net={"enp1s0": "52:54:00:ce:de:01"})
    assert only(tree) == Device(
        address=NIC,
        identity=Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000"),
        driver="e1000e",
        reset=Reset.PM,
        interfaces=("enp1s0",),
        mac="52:54:00:ce:de:01",
        path="pci0000:00/1c.0/00.0",
        parent=Address(0, 0, 0x1C, 0),
    )


def test_functions_come_in_the_order_of_their_addresses(tree: SysTree) -> None:
    names = ["0001:00:00.0", "0000:0a:00.0", "0000:02:00.1", "0000:02:00.0"]
    for name in names:
        tree.function(name)
    assert [str(d.address) for d in Sysfs(tree.sys).devices()] == sorted(names)


def test_ids_are_lower_case_whatever_the_file_says(tree: SysTree) -> None:
    tree.function("0000:01:00.0", identity="1AF4:10D3")
    assert str(only(tree).identity) == "1af4:10d3"


@pytest.mark.parametrize(("written", "read"), [(None, None), ("pciback", "pciback")])
def test_driver_override_is_a_name_or_nothing(
    tree: SysTree, written: str | None, read: str | None
) -> None:
    tree.function("0000:01:00.0")
    tree.override("0000:01:00.0", written)
    assert only(tree).driver_override == read


def test_a_device_without_a_driver_or_a_reset_has_none(tree: SysTree) -> None:
    tree.function("0000:00:10.0", config=E1000)
    assert (only(tree).driver, only(tree).reset) == (None, Reset.NONE)


def test_virtio_hides_its_interface_one_level_down(tree: SysTree) -> None:
    path = tree.function("0000:00:02.0", identity="1af4:1000", driver="virtio-pci")
    tree.interface("enp0s2", path / "virtio0", mac="52:54:00:12:34:56")
    assert (only(tree).interfaces, only(tree).mac) == (("enp0s2",), "52:54:00:12:34:56")
    assert Sysfs(tree.sys).interfaces(Address(0, 0, 2, 0)) == ("enp0s2",)


def test_of_several_interfaces_the_first_by_name_gives_the_mac(tree: SysTree) -> None:
    macs = {f"port{n}": f"52:54:00:00:00:0{n}" for n in (7, 3, 9, 1, 5)}
    tree.function("0000:01:00.0", net=macs)
    assert only(tree).interfaces == tuple(sorted(macs))
    assert only(tree).mac == "52:54:00:00:00:01"


def test_a_bridge_has_no_interface_of_the_card_behind_it(tree: SysTree) -> None:
    port = tree.function("0000:00:09.0", class_code="060400", driver="pcieport")
    tree.function("0000:01:00.0", under=port, net={"enp1s0": "52:54:00:ce:de:01"})
    bridge, card = Sysfs(tree.sys).devices()
    assert (bridge.is_bridge, bridge.interfaces, bridge.mac) == (True, (), None)
    assert card.interfaces == ("enp1s0",)


def test_pciback_that_is_not_loaded_has_no_slots(tree: SysTree) -> None:
    sysfs = Sysfs(tree.sys)
    assert (sysfs.pciback_loaded, sysfs.pciback_slots()) == (False, frozenset())


def test_slots_report_what_pciback_binds_at_the_next_probe(tree: SysTree) -> None:
    tree.function("0000:01:00.0", driver="e1000e")
    tree.slots("0000:01:00.0", "0000:02:00.1")
    sysfs = Sysfs(tree.sys)
    assert sysfs.pciback_loaded
    assert sysfs.pciback_slots() == {NIC, Address(0, 2, 0, 1)}
    assert only(tree).in_pciback_slots
    assert not only(tree).on_pciback


def test_permissive_is_what_pciback_itself_lists(tree: SysTree) -> None:
    assert Sysfs(tree.sys).permissive() == frozenset()
    (tree.slots("0000:01:00.0") / "permissive").write_text("0000:01:00.0\n")
    assert Sysfs(tree.sys).permissive() == {NIC}


def test_what_is_switched_on_in_a_card_is_read_of_its_config_file(tree: SysTree) -> None:
    path = tree.function("0000:01:00.0", config=None)
    assert Sysfs(tree.sys).switched_on(NIC) is None
    (path / "config").write_bytes(struct.pack("<HHHH", 0x8086, 0x10D3, 0x0006, 0) + bytes(56))
    on = SwitchedOn(memory=True, io=False, bus_master=True)
    assert Sysfs(tree.sys).switched_on(NIC) == on


def test_a_slot_is_removed_by_its_address(tree: SysTree) -> None:
    folder = tree.slots("0000:01:00.0")
    Sysfs(tree.sys).remove_pciback_slot(NIC)
    assert (folder / "remove_slot").read_text() == "0000:01:00.0"


def test_a_slot_that_the_kernel_keeps_is_an_error_with_the_command_to_try(tree: SysTree) -> None:
    with raises(PermanentError, "slot-kept", "0000:01:00.0") as caught:
        Sysfs(tree.sys).remove_pciback_slot(NIC)
    assert caught.value.remedy.startswith("echo 0000:01:00.0 > ")


def test_a_device_that_is_gone_has_neither_driver_nor_identity(tree: SysTree) -> None:
    sysfs = Sysfs(tree.sys)
    assert (sysfs.driver(NIC), sysfs.identity(NIC), sysfs.interfaces(NIC)) == (None, None, ())


def test_a_device_that_went_before_it_was_read_is_left_out(tree: SysTree) -> None:
    shutil.rmtree(tree.function("0000:01:00.0"))
    tree.function("0000:02:00.0")
    assert [str(d.address) for d in Sysfs(tree.sys).devices()] == ["0000:02:00.0"]


def test_a_device_whose_files_are_going_is_no_device_with_an_empty_identity(
    tree: SysTree,
) -> None:
    (tree.function("0000:01:00.0") / "uevent").unlink()
    assert Sysfs(tree.sys).identity(NIC) is None
    assert Sysfs(tree.sys).devices() == ()


@pytest.mark.parametrize("call", ["readlink", "read"])
def test_a_device_that_goes_while_it_is_read_raises_nothing(
    tree: SysTree, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tree.function("0000:01:00.0", driver="e1000e", net={"enp1s0": "52:54:00:ce:de:01"})

    def gone(*_args: object, **_named: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, call, gone)  # between two calls of the adapter
    for device in Sysfs(tree.sys).devices():
        assert call != "readlink" or device.driver is None
    assert Sysfs(tree.sys).driver(NIC) in {None, "e1000e"}
    assert Sysfs(tree.sys).interfaces(NIC) in {(), ("enp1s0",)}


def test_the_path_names_each_bridge_and_no_bus_that_could_shift(tree: SysTree) -> None:
    port = tree.function("0000:00:08.0", class_code="060400")
    tree.function("0000:01:00.0", under=port)
    far = tree.sys / "devices/pci10000:e0"
    switch = tree.function("0001:e0:06.0", under=far, class_code="060400")
    tree.function("0001:e1:00.1", under=switch)
    assert [device.path for device in Sysfs(tree.sys).devices()] == [
        "pci0000:00/08.0",
        "pci0000:00/08.0/00.0",
        "pci10000:e0/06.0",
        "pci10000:e0/06.0/00.1",
    ]


def test_a_function_behind_a_vmd_has_its_own_segment_and_the_requester_id_of_the_vmd(
    tree: SysTree,
) -> None:
    """All that is behind it sends under its id (arch/x86/pci/common.c, pci_real_dma_dev), PCI Express or not."""
    vmd = tree.function("0000:00:0e.0", class_code="010400", driver="vmd")
    port = tree.function("10000:e0:06.0", class_code="060400", under=vmd / "pci10000:e0")
    write(tree.function("10000:e1:00.0", under=port, config=IGB) / "max_link_speed", "8.0 GT/s")
    tree.slots("10000:e1:00.0")
    there, below, disk = Sysfs(tree.sys).devices()
    assert [(str(d.address), d.parent, d.requester) for d in (there, below, disk)] == [
        ("0000:00:0e.0", None, None),
        ("10000:e0:06.0", there.address, there.address),
        ("10000:e1:00.0", below.address, there.address),
    ]
    assert (disk.path, disk.reset) == ("pci0000:00/0e.0/pci10000:e0/06.0/00.0", Reset.FLR)
    assert disk.in_pciback_slots


@pytest.mark.parametrize(
    ("said", "removable"), [("removable", True), ("fixed", False), ("unknown", None), (None, None)]
)
def test_what_is_outside_of_the_case_may_be_removed(
    tree: SysTree, said: str | None, removable: bool | None
) -> None:
    """Behind a Thunderbolt port the kernel says so (Documentation/ABI/testing/sysfs-devices-removable)."""
    path = tree.function("0000:01:00.0")
    if said is not None:
        write(path / "removable", said)
    assert only(tree).removable is removable


def test_the_serial_number_is_spelt_as_lspci_prints_it(tree: SysTree) -> None:
    space = config_space((0x100, 1, 0x140), (0x140, 3, 0))
    (tree.function("0000:01:00.0") / "config").write_bytes(space)
    assert only(tree).serial == SPELT


def test_a_device_that_sleeps_keeps_its_serial_number_and_is_not_woken(tree: SysTree) -> None:
    folder = tree.function("0000:01:00.0")
    (folder / "config").write_bytes(config_space((0x100, 3, 0)))
    (folder / "power").mkdir()
    adapter = Sysfs(tree.sys)
    for state, asleep in (("active", False), ("suspended", True)):
        (folder / "power/runtime_status").write_text(f"{state}\n")
        (found,) = adapter.devices()
        assert (found.serial, found.asleep) == (SPELT, asleep)
        if not asleep:
            (folder / "config").unlink()
    assert (only(tree).serial, only(tree).asleep) == (None, True), "another process knows nothing"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("power/runtime_status", "suspended"),
        ("power/runtime_status", "suspending"),
        ("power_state", "D3cold"),
    ],
)
def test_extended_configuration_space_of_a_device_that_sleeps_is_not_read(
    tree: SysTree, file: str, said: str
) -> None:
    folder = tree.function("0000:01:00.0")
    (folder / "config").write_bytes(config_space((0x100, 3, 0)))
    (folder / "power").mkdir()
    (folder / file).write_text(f"{said}\n")
    assert (only(tree).serial, only(tree).asleep) == (None, True)
    assert Sysfs(tree.sys).isolation(NIC) is None
    assert Sysfs(tree.sys).serial(NIC) == SPELT, "what is asked for is read"


def test_a_card_that_has_come_in_the_place_of_another_does_not_inherit_its_serial_number(
    tree: SysTree,
) -> None:
    folder = tree.function("0000:01:00.0")
    (folder / "config").write_bytes(config_space((0x100, 3, 0)))
    adapter = Sysfs(tree.sys)
    assert [device.serial for device in adapter.devices()] == [SPELT]
    folder.rename(folder.with_name("gone"))
    (tree.sys / "bus/pci/devices/0000:01:00.0").unlink()
    again = tree.function("0000:01:00.0")
    (again / "power").mkdir()
    (again / "power/runtime_status").write_text("suspended\n")
    assert [device.serial for device in adapter.devices()] == [None]


@pytest.mark.parametrize(
    "space",
    [
        b"",
        config_space((0x100, 3, 0), size=256),
        config_space((0x100, 3, 0), size=64),
        config_space((0x100, 3, 0), size=0x106),
        config_space((0x100, 1, 0)),
        config_space((0x100, 1, 0x140), (0x140, 2, 0x100)),
        config_space((0x100, 1, 0x0FC), (0x0FC, 3, 0)),
        config_space((0x100, 1, 0xFFC)),
        config_space(),
        b"\xff" * 4096,
        config_space((0x100, 3, 0)).replace(SERIAL, bytes(8)),
        config_space((0x100, 3, 0)).replace(SERIAL, b"\xff" * 8),
    ],
    ids=[
        *("empty", "conventional", "not-root", "cut-off", "none", "circle", "into-the-head"),
        *("out-of-the-end", "no-list", "fallen-off-the-bus", "all-zeros", "all-ones"),
    ],
)
def test_a_function_without_a_sound_serial_number_has_none(tree: SysTree, space: bytes) -> None:
    (tree.function("0000:01:00.0") / "config").write_bytes(space)
    assert only(tree).serial is None


@given(
    head=st.binary(min_size=0, max_size=512), fill=st.integers(0, 255), size=st.integers(0, 4096)
)
def test_the_walk_ends_on_any_bytes_with_a_number_or_with_none(
    head: bytes, fill: int, size: int
) -> None:
    found = serial_in((bytes(256) + head + bytes([fill]) * 4096)[:size])
    assert found is None or len(found) == len(SPELT)


@given(
    offsets=st.lists(st.integers(0x11, 0xFE).map(lambda n: n * 16), unique=True),
    others=st.data(),
)
def test_the_number_is_found_wherever_the_list_has_it(
    offsets: list[int], others: st.DataObject
) -> None:
    offsets = [0x100, *offsets]
    chain = list(zip(offsets, [*offsets[1:], 0], strict=True))
    place = others.draw(st.integers(0, len(chain) - 1))
    capabilities = [(at, 3 if n == place else 1, then) for n, (at, then) in enumerate(chain)]
    assert serial_in(config_space(*capabilities)) == SPELT


def test_the_walk_reads_headers_and_the_number_and_nothing_else() -> None:
    space = config_space((0x100, 1, 0x140), (0x140, 3, 0))
    asked: list[tuple[int, int]] = []

    def read(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return space[offset : offset + size]

    assert serial_number(read) == SPELT
    assert asked == [(0x100, 4), (0x140, 4), (0x144, 8)]


def test_a_virtual_function_names_its_physical_one_and_its_index_there(tree: SysTree) -> None:
    physical = tree.function("0000:01:00.0")
    for index, name in enumerate(("0000:01:10.0", "0000:01:10.2", "0000:02:00.0")):
        path = tree.function(name)
        (path / "physfn").symlink_to(Path("..") / physical.name)
        (physical / f"virtfn{index}").symlink_to(Path("..") / name)
    (physical / "virtfn_odd").write_text("")
    found = [(d.physical_function, d.function_index) for d in Sysfs(tree.sys).devices()]
    assert found == [(None, None), (NIC, 0), (NIC, 1), (NIC, 2)]


def test_a_virtual_function_that_its_physical_one_has_just_dropped_has_no_index(
    tree: SysTree,
) -> None:
    physical = tree.function("0000:01:00.0")
    (tree.function("0000:01:10.0") / "physfn").symlink_to(Path("..") / physical.name)
    (physical / "virtfn0").symlink_to("../0000:01:10.1")
    assert Sysfs(tree.sys).devices()[1].function_index is None


def test_a_host_whose_devices_cannot_be_listed_is_not_one_without_devices(tmp_path: Path) -> None:
    with raises(IndeterminateError, "sysfs-unreadable"):
        Sysfs(tmp_path).devices()


def _refused(*_args: object, **_named: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("call", ["readlink", "listdir", "open"])
def test_what_cannot_be_read_of_a_device_is_not_taken_for_no(
    tree: SysTree, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tree.function("0000:01:00.0", driver="e1000e")
    monkeypatch.setattr(os, call, _refused)
    with raises(IndeterminateError, "sysfs-unreadable"):
        Sysfs(tree.sys).devices()


@pytest.mark.parametrize(
    ("assigned", "mac", "given"),
    [
        ("0", True, False),
        ("1", False, False),
        ("2", True, True),
        ("3", True, True),
        ("", True, False),
    ],
)
def test_a_mac_that_the_driver_made_up_is_no_identity(
    tree: SysTree, assigned: str, mac: bool, given: bool
) -> None:
    path = tree.function("0000:01:00.0", net={"enp1s0": "52:54:00:ce:de:01"})
    (path / "net/enp1s0/addr_assign_type").write_text(assigned)
    device = Sysfs(tree.sys).device(NIC)
    assert device is not None
    assert (device.mac is not None, device.mac_set) == (mac, given)
    assert Sysfs(tree.sys).random_macs(NIC) == (frozenset() if mac else {"enp1s0"})


def test_a_mac_that_udev_gave_a_virtual_function_for_the_drivers_is_no_identity_either(
    tree: SysTree,
) -> None:
    """Below it there is the one that the driver made up, and the kernel says no more that it did."""
    path = tree.function("0000:01:00.0", net={"enp1s0v0": "52:54:00:ce:de:01"})
    (path / "net/enp1s0v0/addr_assign_type").write_text("3")
    (path / "physfn").symlink_to(tree.function("0000:02:00.0"))
    device = Sysfs(tree.sys).device(NIC)
    assert device is not None
    assert device.mac is None
    assert Sysfs(tree.sys).random_macs(NIC) == {"enp1s0v0"}


def test_a_driver_or_its_override_that_cannot_be_read_is_not_none(
    tree: SysTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.function("0000:01:00.0", driver="e1000e")
    for call, question in (("readlink", Sysfs.driver), ("open", Sysfs.driver_override)):
        monkeypatch.setattr(os, call, _refused)
        with raises(IndeterminateError, "sysfs-unreadable"):
            question(Sysfs(tree.sys), NIC)
        monkeypatch.undo()


def test_the_power_state_is_read_and_empty_where_there_is_none(tree: SysTree) -> None:
    path = tree.function("0000:01:00.0")
    assert Sysfs(tree.sys).power(Address.parse("01:00.0")) == ""
    (path / "power_state").write_text("D3cold\n")
    assert Sysfs(tree.sys).power(Address.parse("01:00.0")) == "D3cold"


@pytest.mark.parametrize(
    ("kind", "express", "expected"),
    [("7", False, True), ("7", True, False), ("4", False, False), (None, False, False)],
    ids=["behind-a-bridge-to-pci", "express-itself", "behind-a-root-port", "unreadable"],
)
def test_a_conventional_function_names_the_bridge_that_speaks_for_it(
    tree: SysTree, kind: str | None, express: bool, expected: bool
) -> None:
    port = tree.function("0000:00:0b.0", class_code="060400")
    bridge = tree.function("0000:0f:00.0", class_code="060400", under=port)
    inner = tree.function("0000:10:03.0", class_code="060400", under=bridge)
    card = tree.function("0000:11:01.0", under=inner)
    for path, word in ((port, "4"), (bridge, kind), (inner, kind)):
        if word is not None:
            space = bytearray(256)
            space[6], space[0x34], space[0x40], space[0x42] = 0x10, 0x40, 0x10, int(word) << 4
            (path / "config").write_bytes(space)
    if express:
        (card / "max_link_speed").write_text("2.5 GT/s PCIe\n")
    found = Sysfs(tree.sys).device(Address(0, 0x11, 1, 0))
    assert found is not None
    assert found.requester == (Address(0, 0x0F, 0, 0) if expected else None)


_PORT, _PLAIN = {"max_link_speed": "8.0 GT/s PCIe", "enable": "1"}, {"enable": "1"}


@pytest.mark.parametrize("recorded", [False, True], ids=["without-root", "in-a-folder"])
@pytest.mark.parametrize(
    ("port", "bridge", "card", "expected"),
    [
        (("pcieport", _PORT), (None, _PORT), _PLAIN, "0000:0f:00.0"),
        (("pcieport", _PORT), ("pcieport", _PORT), _PLAIN, None),
        (("pcieport", _PORT), (None, _PORT), _PORT, None),
        ((None, _PORT), ("pcieport", _PORT), _PLAIN, None),
        ((None, _PLAIN), (None, _PLAIN), _PLAIN, "0000:00:0b.0"),
        (("pcieport", _PORT), (None, _PLAIN), _PLAIN, "0000:0f:00.0"),
        ((None, {}), (None, {}), {}, None),
        ((None, _PORT), (None, _PORT), {}, None),
    ],
    ids=[
        "behind-a-bridge-to-pci", "behind-a-switch", "express-itself", "behind-a-root-port-without-its-driver",
        "conventional-host", "conventional-bridge", "not-told", "not-told-of-the-card",
    ],
)  # fmt: skip
def test_without_a_bridges_capabilities_its_speed_and_driver_tell_what_is_behind_it(
    tree: SysTree,
    recorded: bool,
    port: tuple[str | None, dict[str, str]],
    bridge: tuple[str | None, dict[str, str]],
    card: dict[str, str],
    expected: str | None,
) -> None:
    """The first 64 bytes say that there are capabilities, and none of them."""
    space = bytearray(64)
    space[6], space[0x34] = 0x10, 0x40
    above = None
    driver: str | None
    for address, (driver, files) in {
        "0000:00:0b.0": port,
        "0000:0f:00.0": bridge,
        "0000:10:03.0": (None, card),
    }.items():
        kind = "020000" if address == "0000:10:03.0" else "060400"
        above = tree.function(
            address, under=above, class_code=kind, driver=driver, config=bytes(space)
        )
        for name, said in files.items():
            (above / name).write_text(f"{said}\n")
    adapter = RecordedSysfs(tree.sys, HostAnswers()) if recorded else Sysfs(tree.sys)
    found = adapter.device(Address(0, 0x10, 3, 0))
    assert found is not None
    assert found.requester == (Address.parse(expected) if expected else None)
