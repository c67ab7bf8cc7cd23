"""What hangs on a PCI function is named, in a tree as the kernel makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cede.adapters.linux.device_nodes import device_nodes
from cede.model.pci import Address
from sim.sys_tree import SysTree, link, write

HERE = "0000:00:12.0"


@pytest.fixture
def controller(tree: SysTree) -> Path:
    return tree.function(HERE, class_code="0c0330", identity="1b36:000d")


def shown(tree: SysTree, address: str = HERE) -> list[str]:
    return [str(node) for node in device_nodes(tree.sys).get(Address.parse(address), ())]


def disk(tree: SysTree, below: Path, name: str, size: str, *, vendor: str, model: str) -> Path:
    path = tree.disk(name, below)
    write(path / "size", size)
    write(path / "device/vendor", vendor)
    write(path / "device/model", model)
    return path


def test_the_disk_and_the_usb_device_behind_a_controller_go_with_it(
    tree: SysTree, controller: Path
) -> None:
    stick = controller / "usb1/1-1"
    for path, kind in ((controller / "usb1", "09"), (stick, "00")):
        write(path / "bDeviceClass", kind)
        link(tree.sys / "bus/usb/devices" / path.name, path)
    write(stick / "manufacturer", "QEMU")
    write(stick / "product", "QEMU USB HARDDRIVE")
    (stick / "1-1:1.0").mkdir()
    link(tree.sys / "bus/usb/devices/1-1:1.0", stick / "1-1:1.0")
    whole = disk(tree, stick, "sda", "32768", vendor="QEMU", model="HARDDISK")
    write(tree.partition(whole, "sda1") / "size", "2048")
    assert shown(tree) == ["sda (16.0 MiB, QEMU HARDDISK)", "USB 1-1 (QEMU USB HARDDRIVE)"]


def test_interfaces_sound_cards_and_displays_are_named_and_connectors_are_not(
    tree: SysTree, controller: Path
) -> None:
    tree.interface("eth1", controller)
    for folder, names in (("sound", ("card0", "pcmC0D0p")), ("drm", ("card1", "card1-VGA-1"))):
        for name in names:
            (controller / folder / name).mkdir(parents=True)
            link(tree.sys / "class" / folder / name, controller / folder / name)
    assert shown(tree) == ["eth1", "card0", "card1"]


def test_what_is_virtual_empty_or_behind_another_function_is_not_its(
    tree: SysTree, controller: Path
) -> None:
    bridge = tree.function("0000:00:08.0", class_code="060400")
    below = tree.function("0000:01:00.0", under=bridge)
    tree.interface("lo")
    tree.interface("eth2", below)
    disk(tree, controller, "sr0", "0", vendor="QEMU", model="DVD")
    link(tree.sys / "class/net/gone", tree.sys / "devices/gone/net/gone")
    assert shown(tree) == []
    assert shown(tree, "0000:00:08.0") == []
    assert shown(tree, "0000:01:00.0") == ["eth2"]


@pytest.mark.parametrize(
    ("size", "about"),
    [
        ("1", "0.5 KiB"),
        ("8388608", "4.0 GiB"),
        ("9" * 5000, ""),
        ("many", ""),
        ("¹", ""),
    ],
)
def test_a_size_is_reported_in_the_unit_that_fits(
    tree: SysTree, controller: Path, size: str, about: str
) -> None:
    disk(tree, controller, "vda", size, vendor="0x1af4", model="")
    (node,) = device_nodes(tree.sys)[Address.parse(HERE)]
    assert node.about == about


def test_what_a_device_says_of_itself_is_printable_and_bounded(
    tree: SysTree, controller: Path
) -> None:
    disk(tree, controller, "sdz", "2", vendor="\x1b[2J", model="x" * 500)
    (node,) = device_nodes(tree.sys)[Address.parse(HERE)]
    assert node.about.startswith("1.0 KiB, ?[2J xxx")
    assert str(node).isprintable()
    assert len(node.about) < 80


def test_a_host_without_any_of_it_has_none(tmp_path: Path) -> None:
    assert device_nodes(tmp_path) == {}
