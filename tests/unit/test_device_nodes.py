"""What hangs on a PCI function is named, in a tree as the kernel makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cede.adapters.linux.device_nodes import device_nodes
from cede.model.pci import Address, Node
from sim.sys_tree import SysTree, link, write

HERE = "0000:00:12.0"


@pytest.fixture
def controller(tree: SysTree) -> Path:
    return tree.function(HERE, class_code="0c0330", identity="1b36:000d")


def nodes(tree: SysTree, address: str = HERE) -> tuple[Node, ...]:
    return device_nodes(tree.sys).get(Address.parse(address), ())


def shown(tree: SysTree, address: str = HERE) -> list[str]:
    return [str(node) for node in nodes(tree, address)]


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
    assert shown(tree) == [
        "sda (16.0 MiB, QEMU HARDDISK)",
        "USB 1-1 (QEMU USB HARDDRIVE)",
    ]


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


def test_only_whole_disks_of_the_card_itself_count_as_behind_it(
    tree: SysTree, controller: Path
) -> None:
    """Neither another card's, nor that of a card whose address begins alike, nor partitions, nor an empty reader."""
    whole = tree.disk("sda", controller / "ata1")
    write(whole / "wwid", "naa.5000c500a1b2c3d4")
    write(whole / "size", "1000")
    write(tree.partition(whole, "sda1") / "size", "900")
    write(tree.disk("sdb", controller / "ata2") / "size", "2048")
    write(tree.disk("sdc", controller / "ata3") / "size", "0")
    for other, name in (("0000:00:12.1", "sdd"), ("0000:02:00.0", "sde")):
        write(tree.disk(name, tree.function(other) / "ata1") / "size", "4096")
    write(tree.disk("dm-0", slaves=["sda"]) / "size", "1000")
    assert [(n.name, n.id) for n in nodes(tree)] == [("sda", "naa.5000c500a1b2c3d4"), ("sdb", "")]
    assert nodes(tree, "0000:00:09.0") == ()


def test_a_disk_has_the_id_that_its_bus_gives_it(tree: SysTree, controller: Path) -> None:
    ids = {
        "nvme0n1": ("wwid", "eui.0025385b71b0e31a"),
        "sda": (
            "device/wwid",
            "t10.ATA     A DISK                                  S3Z9NB0K123456",
        ),
        "mmcblk0": ("device/cid", "035344534333324780a1b2c3d4011a00"),
        "vda": ("serial", "disk-of-a-guest"),
        "sdb": ("size", "2048"),
    }
    for name, (file, said) in ids.items():
        disk = tree.disk(name, controller / name)
        write(disk / "size", "2048")
        write(disk / file, said)
    found = {node.name: node.id for node in nodes(tree)}
    assert found == {name: " ".join(said.split()) for name, (_, said) in ids.items()} | {"sdb": ""}


def test_an_sd_card_and_its_reader_go_with_their_controller(tree: SysTree) -> None:
    """As sdhci-pci shows them; what is in the slot can be pulled out, and so can what is on USB."""
    reader = tree.function("0000:24:00.2", class_code="080501", identity="197b:2391")
    card = tree.disk("mmcblk0", reader / "mmc_host/mmc0/mmc0:aaaa")
    write(card / "size", "62333952")
    write(card / "device/name", "SC32G")
    (node,) = nodes(tree, "0000:24:00.2")
    assert (str(node), node.on_controller) == ("mmcblk0 (29.7 GiB, SC32G)", True)
    assert node.pluggable


def test_a_disk_behind_sata_cannot_be_pulled_out_and_one_on_usb_can(
    tree: SysTree, controller: Path
) -> None:
    for name, place in (("sda", "ata1/host0"), ("sdb", "usb1/1-2/1-2:1.0/host4")):
        write(tree.disk(name, controller / place) / "size", "2048")
    optical = tree.disk("sr0", controller / "ata2/host1")
    write(optical / "size", "2048")
    write(optical / "removable", "1")
    assert [(n.name, n.pluggable) for n in nodes(tree)] == [
        ("sda", False),
        ("sdb", True),
        ("sr0", True),
    ]


def test_a_multipath_nvme_disk_is_behind_each_of_its_controllers(tree: SysTree) -> None:
    """Its subsystem is virtual, and has links to the controllers; the paths to it are hidden disks below those."""
    subsystem = tree.sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
    head = tree.block(subsystem / "nvme0n1")
    write(head / "size", "2048")
    write(head / "wwid", "eui.01000000010000005cd2e4c6d1b15151")
    for number, address in enumerate(("0000:5e:00.0", "0000:d8:00.0")):
        controller = tree.function(address, class_code="010802") / f"nvme/nvme{number}"
        path = tree.block(controller / f"nvme0c{number}n1")
        write(path / "size", "2048")
        write(path / "hidden", "1")
        link(subsystem / f"nvme{number}", controller)
    write(tree.disk("loop0") / "size", "8")
    for address in ("0000:5e:00.0", "0000:d8:00.0"):
        assert [(n.name, n.id) for n in nodes(tree, address)] == [
            ("nvme0n1", "eui.01000000010000005cd2e4c6d1b15151")
        ]


def test_what_is_behind_a_vmd_goes_with_it_too(tree: SysTree) -> None:
    """A root bus with a segment of its own is below the VMD's folder."""
    vmd = tree.function("0000:00:0e.0", class_code="010400", identity="8086:9a0b")
    port = tree.function("10000:e0:06.0", class_code="060400", under=vmd / "pci10000:e0")
    disk = tree.function("10000:e1:00.0", class_code="010802", under=port)
    write(tree.disk("nvme0n1", disk / "nvme/nvme0") / "size", "2048")
    for address in ("0000:00:0e.0", "10000:e1:00.0"):
        assert [node.name for node in nodes(tree, address)] == ["nvme0n1"]
    assert nodes(tree, "10000:e0:06.0") == ()


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
