"""What dom0 lives on: each chain from a device to what needs it, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.host_uses.processes import look_through
from cede.errors import PermanentError
from cede.model.network import Interface
from cede.model.pci import Address
from cede.model.served import Served
from sim.sys_tree import SysTree
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cede.model.pci import HostUse


class Mentions(str):
    """Equal to each text that has it in it."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, text: object) -> bool:
        return isinstance(text, str) and str(self) in text


def uses_of(
    tree: SysTree, **of_guests: Mapping[str, Sequence[str]]
) -> dict[Address, list[HostUse]]:
    """What the adapter finds."""
    root = tree.sys.parent
    adapter = HostUses(tree.sys, tree.proc, root / "run", root / "dev", tree, tree.nodes)
    return adapter.find(tree.network(), Served(**of_guests))


def found(
    tree: SysTree,
    *,
    disks: Mapping[str, Sequence[str]] | None = None,
    interfaces: Mapping[str, Sequence[str]] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> dict[str, list[tuple[str, ...]]]:
    """Per device its chains, each after the name of its guard."""
    tree.known += [Interface(name=name, addresses=(at,)) for at, name in (addresses or {}).items()]
    uses = uses_of(tree, disks=disks or {}, interfaces=interfaces or {})
    return {str(at): [(use.guard, *use.chain) for use in of] for at, of in uses.items()}


def virtio_disk(tree: SysTree, name: str = "vda", address: str = "0000:00:03.0") -> Path:
    path = tree.function(address, class_code="010000", driver="virtio-pci", identity="1af4:1001")
    return tree.disk(name, path / "virtio1")


def card(tree: SysTree, name: str, address: str = "0000:01:00.0") -> None:
    tree.function(address, driver="e1000e", net={name: "52:54:00:ce:de:01"})


def test_a_host_that_uses_nothing_keeps_nothing(tree: SysTree) -> None:
    virtio_disk(tree)
    card(tree, "enp1s0")
    assert found(tree) == {}


def test_the_root_file_system_on_a_partition_of_a_virtio_disk(tree: SysTree) -> None:
    tree.mount("/", tree.partition(virtio_disk(tree), "vda1"))
    assert found(tree) == {"0000:00:03.0": [("filesystem", "0000:00:03.0", "vda1", "/")]}


def test_every_mounted_file_system_counts_and_those_without_a_disk_do_not(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    tree.mount("/", disk)
    tree.mount("/srv", disk)
    tree.mount("/srv", disk)
    tree.mount("/proc", source="proc")
    chains = [("filesystem", "0000:00:03.0", "vda", where) for where in ("/", "/srv")]
    assert found(tree) == {"0000:00:03.0": chains}


def test_a_disk_behind_a_root_port_is_its_controllers_not_the_ports(tree: SysTree) -> None:
    port = tree.function("0000:00:0a.0", class_code="060400")
    nvme = tree.function("0000:03:00.0", under=port, class_code="010802", driver="nvme")
    tree.mount("/", tree.disk("nvme0n1", nvme / "nvme/nvme0"))
    assert list(found(tree)) == ["0000:03:00.0"]


def test_lvm_on_crypt_on_raid_leads_down_to_every_disk(tree: SysTree) -> None:
    for number, name in enumerate(("sda", "sdb")):
        path = tree.function(f"0000:0{number + 1}:00.0", class_code="010601", driver="ahci")
        tree.partition(tree.disk(name, path / "ata1/host0"), f"{name}2")
    tree.disk("md0", slaves=["sda2", "sdb2"])
    tree.disk("dm-0", slaves=["md0"])
    tree.mount("/home", tree.disk("dm-1", slaves=["dm-0"]))
    above = ("md0", "dm-0", "dm-1", "/home")
    assert found(tree) == {
        "0000:01:00.0": [("filesystem", "0000:01:00.0", "sda2", *above)],
        "0000:02:00.0": [("filesystem", "0000:02:00.0", "sdb2", *above)],
    }


def test_a_partition_of_a_raid_leads_to_the_disks_of_the_raid(tree: SysTree) -> None:
    virtio_disk(tree)
    raid = tree.disk("md0", slaves=["vda"])
    tree.mount("/", tree.partition(raid, "md0p1"))
    assert [chain[2] for chain in found(tree)["0000:00:03.0"]] == ["vda"]


def test_swap_on_a_volume(tree: SysTree) -> None:
    virtio_disk(tree)
    tree.disk("dm-0", slaves=["vda"])
    tree.swap("dm-0")
    assert found(tree) == {"0000:00:03.0": [("swap", "0000:00:03.0", "vda", "dm-0", "swap")]}


def test_btrfs_mounts_under_a_number_of_its_own_and_keeps_all_its_disks(tree: SysTree) -> None:
    for name, address in (("vda", "0000:00:03.0"), ("vdb", "0000:00:05.0")):
        virtio_disk(tree, name, address)
        devices = tree.sys / "fs/btrfs/5f6a/devices"
        devices.mkdir(parents=True, exist_ok=True)
        (devices / name).symlink_to(tree.sys / "class/block" / name)
    (tree.sys / "fs/btrfs/features").mkdir()
    tree.mount("/", source="/dev/vda")
    assert found(tree) == {
        "0000:00:03.0": [("filesystem", "0000:00:03.0", "vda", mock.ANY)],
        "0000:00:05.0": [("filesystem", "0000:00:05.0", "vdb", mock.ANY)],
    }


def test_an_nvme_disk_with_several_paths_keeps_every_controller(tree: SysTree) -> None:
    subsystem = tree.sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.mount("/", tree.block(subsystem / "nvme0n1"))
    for number in (0, 1):
        path = tree.function(f"0000:0{number + 3}:00.0", class_code="010802", driver="nvme")
        controller = path / "nvme" / f"nvme{number}"
        controller.mkdir(parents=True)
        (subsystem / f"nvme{number}").symlink_to(controller)
    assert found(tree) == {
        f"0000:0{n}:00.0": [("filesystem", f"0000:0{n}:00.0", "nvme0n1", "/")] for n in (3, 4)
    }


def test_the_default_route_over_a_card(tree: SysTree) -> None:
    card(tree, "enp1s0")
    tree.route("enp1s0")
    chain = ("default-route", "0000:01:00.0", "enp1s0", mock.ANY)
    assert found(tree) == {"0000:01:00.0": [chain]}


def test_the_default_route_over_a_virtio_card(tree: SysTree) -> None:
    path = tree.function("0000:00:02.0", driver="virtio-pci")
    tree.interface("enp0s2", path / "virtio0")
    tree.route("enp0s2")
    assert list(found(tree)) == ["0000:00:02.0"]


def test_the_default_route_over_a_vlan_on_a_bridge_on_a_bond_keeps_both_cards(
    tree: SysTree,
) -> None:
    for number in (1, 2):
        card(tree, f"enp{number}s0", f"0000:0{number}:00.0")
    tree.interface("bond0", lowers=["enp1s0", "enp2s0"])
    tree.interface("xenbr0", lowers=["bond0"])
    tree.interface("xenbr0.7", lowers=["xenbr0"])
    tree.route("xenbr0.7")
    above = ("bond0", "xenbr0", "xenbr0.7", mock.ANY)
    assert found(tree) == {
        f"0000:0{n}:00.0": [("default-route", f"0000:0{n}:00.0", f"enp{n}s0", *above)]
        for n in (1, 2)
    }


def test_interfaces_that_lie_on_each_other_are_walked_once(tree: SysTree) -> None:
    card(tree, "enp1s0")
    tree.interface("a", lowers=["b"])
    tree.interface("b", lowers=["a", "enp1s0"])
    tree.route("a")
    assert [chain[2:4] for chain in found(tree)["0000:01:00.0"]] == [("enp1s0", "b")]


@pytest.mark.parametrize("name", ["lo", "gone0", "../x", ""])
def test_a_default_route_over_no_card_keeps_nothing(tree: SysTree, name: str) -> None:
    card(tree, "enp1s0")
    tree.interface("lo")
    tree.route(name)
    assert found(tree) == {}


def test_the_boot_display_and_not_the_second_one(tree: SysTree) -> None:
    for name, boot in (("0000:00:01.0", "1"), ("0000:04:00.0", "0")):
        (tree.function(name, class_code="030000") / "boot_vga").write_text(boot + "\n")
    assert found(tree) == {"0000:00:01.0": [("boot-vga", "0000:00:01.0", mock.ANY)]}


def test_a_display_that_goes_while_it_is_read_keeps_nothing(tree: SysTree) -> None:
    (tree.function("0000:00:01.0") / "boot_vga").mkdir()
    assert found(tree) == {}


def hold(holder: Path, *members: Path) -> Path:
    """Both links that the kernel makes between a volume and what it is made of."""
    for member in members:
        for link, target in (
            (member / "holders" / holder.name, holder),
            (holder / "slaves" / member.name, member),
        ):
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(target)
    return holder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


@pytest.mark.parametrize(
    "line",
    ["", "29", "29 1 254:0 /", "29 1 ../x / /srv rw", "29 1 999:9 / /srv rw", "\0 \0 \0 \0 \0 \0"],
    ids=["empty", "short", "no-mount-point", "no-number", "gone", "noughts"],
)
def test_odd_lines_are_no_mounts(tree: SysTree, line: str) -> None:
    virtio_disk(tree)
    write(tree.proc / "self/mountinfo", f"22 1 0:21 / / rw - overlay overlay rw\n{line}")
    write(tree.proc / "swaps", f"Filename\n{line}")
    write(tree.proc / "iomem", line)
    write(tree.proc / "consoles", line)
    write(tree.proc / "net/tcp", f"sl\n{line}")
    assert found(tree) == {}


def test_a_mount_point_with_a_space_is_said_as_people_write_it(tree: SysTree) -> None:
    tree.mount("/srv/my\\040disk", virtio_disk(tree))
    assert found(tree)["0000:00:03.0"][0][-1] == "/srv/my disk"


def test_a_swap_file_is_not_taken_for_the_disk_of_its_name(tree: SysTree) -> None:
    virtio_disk(tree)
    write(tree.proc / "swaps", "Filename Type Size Used\n/srv/vda file 1048572 0 -2")
    assert found(tree) == {}


def test_a_disk_behind_a_vmd_keeps_the_vmd(tree: SysTree) -> None:
    vmd = tree.function("0000:00:0e.0", class_code="010400", driver="vmd")
    nvme = tree.function("10000:e1:00.0", under=vmd / "pci10000:e0/10000:e0:06.0")
    tree.mount("/", tree.disk("nvme0n1", nvme / "nvme/nvme0"))
    chain = ("filesystem", "0000:00:0e.0", "10000:e1:00.0", "nvme0n1", "/")
    assert found(tree) == {
        "0000:00:0e.0": [chain],
        "10000:e1:00.0": [("filesystem", *chain[2:])],
    }


def test_a_use_of_a_virtual_function_is_a_use_of_its_physical_one(tree: SysTree) -> None:
    physical = tree.function("0000:01:00.0")
    virtual = tree.function("0000:01:10.0", net={"enp1s0v0": "52:54:00:ce:de:01"})
    (virtual / "physfn").symlink_to(physical)
    tree.function("0000:01:00.1")
    tree.route("enp1s0v0")
    below = ("0000:01:10.0", "enp1s0v0", mock.ANY)
    assert found(tree) == {
        "0000:01:00.0": [("default-route", "0000:01:00.0", *below)],
        "0000:01:10.0": [("default-route", *below)],
    }


def test_a_bcache_keeps_its_backing_disk_and_its_cache(tree: SysTree) -> None:
    backing = virtio_disk(tree, "vda", "0000:00:03.0")
    cache = virtio_disk(tree, "vdb", "0000:00:05.0")
    cached = hold(tree.disk("bcache0"), backing)
    (backing / "bcache").mkdir()
    (cache / "bcache").mkdir()
    fleet = tree.sys / "fs/bcache/6a3d"
    fleet.mkdir(parents=True)
    (fleet / "cache0").symlink_to(cache / "bcache")
    (backing / "bcache/cache").symlink_to(fleet)
    (cached / "bcache").symlink_to(backing / "bcache")
    tree.mount("/", cached)
    assert found(tree) == {
        "0000:00:03.0": [("filesystem", "0000:00:03.0", "vda", "bcache0", "/")],
        "0000:00:05.0": [("filesystem", "0000:00:05.0", "vdb", "bcache0", "/")],
    }


def test_volumes_that_lie_on_each_other_are_walked_once(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    first, second = tree.disk("dm-0"), tree.disk("dm-1")
    hold(first, disk, second)
    hold(second, first)
    tree.mount("/", first)
    assert ("filesystem", "0000:00:03.0", "vda", "dm-0", "/") in found(tree)["0000:00:03.0"]


def test_a_member_of_an_active_volume_is_kept_though_nothing_is_mounted(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    raid = hold(tree.disk("md0"), tree.partition(disk, "vda2"))
    tree.partition(disk, "vda1")
    hold(tree.disk("dm-0"), raid)
    write(tree.sys / "class/block/dm-0/dm/name", "vg-home")
    virtio_disk(tree, "vdb", "0000:00:05.0")
    chain = ("member", "0000:00:03.0", "vda2", "md0", "dm-0 (vg-home)")
    assert found(tree) == {"0000:00:03.0": [chain]}


def test_membership_is_said_once_where_a_mount_says_it_already(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    tree.mount("/", hold(tree.disk("dm-0"), disk))
    hold(tree.disk("dm-1"), disk)
    assert found(tree)["0000:00:03.0"] == [
        ("filesystem", "0000:00:03.0", "vda", "dm-0", "/"),
        ("member", "0000:00:03.0", "vda", "dm-1"),
    ]


@pytest.mark.parametrize(
    ("label", "pool", "end"),
    [
        ("tank", "tank", Mentions("tank")),
        ("old", "tank", Mentions("ZFS")),
        ("tank", None, None),
        (None, "tank", None),
    ],
    ids=["imported", "under-another-name", "not-imported", "no-member"],
)
def test_a_zfs_member_is_kept_while_a_pool_is_imported(
    tree: SysTree, label: str | None, pool: str | None, end: str | None
) -> None:
    part = tree.partition(virtio_disk(tree), "vda1")
    number = (part / "dev").read_text().strip()
    kind = f"E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL={label}" if label else "E:ID_FS_TYPE=ext4"
    write(tree.sys.parent / f"run/udev/data/b{number}", f"S:disk/by-id/x\n{kind}\nG:systemd")
    write(tree.proc / "spl/kstat/zfs/arcstats", "1")
    if pool:
        write(tree.proc / f"spl/kstat/zfs/{pool}/state", "ONLINE")
    wanted = {"0000:00:03.0": [("member", "0000:00:03.0", "vda1", end)]} if end else {}
    assert found(tree) == wanted


def established(local: str, *, state: str = "01", inode: int = 4446) -> str:
    return f" 1: {local} 0202000A:8F02 {state} 0:0 00:0 0 0 0 {inode} 3 0 20 4"


TCP = "  sl  local_address rem_address   st"
HERE, HERE6 = "0F02000A:0016", "B80D0120000000000000000001000000:0016"
MAPPED = "0000000000000000FFFF00000F02000A:0016"
ADDRESSES = {"10.0.2.15": "enp1s0", "2001:db8::1": "enp1s0", "127.0.0.1": "lo", "::1": "lo"}


@pytest.mark.parametrize(
    ("table", "local", "address"),
    [
        ("tcp", HERE, "10.0.2.15"),
        ("tcp6", HERE6, "2001:db8::1"),
        ("tcp6", MAPPED, "10.0.2.15"),
    ],
    ids=["IPv4", "IPv6", "IPv4-on-an-IPv6-socket"],
)
def test_an_ssh_session_keeps_the_card_that_it_comes_in_on(
    tree: SysTree, table: str, local: str, address: str
) -> None:
    card(tree, "enp1s0")
    card(tree, "enp2s0", "0000:02:00.0")
    write(tree.proc / "net" / table, f"{TCP}\n{established(local)}\n{established(local)}")
    chain = ("ssh", "0000:01:00.0", "enp1s0", Mentions(address))
    assert found(tree, addresses=ADDRESSES) == {"0000:01:00.0": [chain]}


@pytest.mark.parametrize(
    "line",
    [
        established(HERE, state="06"),
        established(HERE, state="0A"),
        established("0F02000A:1F90"),
        established("0100007F:0016"),
        established("0000000000000000FFFF00000100007F:0016"),
        established("00000000000000000000000001000000:0016"),
        established("0902000A:0016"),
        established("0F02000:0016"),
        established("xyz"),
    ],
    ids=[
        *("closing", "listening", "another-port", "loopback", "mapped-loopback", "loopback6"),
        *("an-address-that-went", "odd-address", "no-address"),
    ],
)
def test_what_is_no_ssh_session_over_a_card_keeps_nothing(tree: SysTree, line: str) -> None:
    card(tree, "enp1s0")
    tree.interface("lo")
    write(tree.proc / "net/tcp", f"{TCP}\n{line}")
    chains = found(tree, addresses=ADDRESSES).get("0000:01:00.0", [])
    assert "ssh" not in [chain[0] for chain in chains]


@pytest.mark.parametrize(("owner", "kept"), [("sshd", True), ("nginx", False)])
def test_sshd_is_found_on_the_port_that_it_listens_on(
    tree: SysTree, owner: str, kept: bool
) -> None:
    card(tree, "enp1s0")
    listening = established("00000000:08AE", state="0A", inode=806)
    write(tree.proc / "net/tcp", f"{TCP}\n{listening}\n{established('0F02000A:08AE')}")
    write(tree.proc / "286/comm", owner)
    (tree.proc / "286/fd").mkdir()
    (tree.proc / "286/fd/3").symlink_to("socket:[806]")
    (tree.proc / "286/fd/4").symlink_to("/dev/null")
    (chain,) = found(tree, addresses=ADDRESSES)["0000:01:00.0"]
    assert chain[0] == ("ssh" if kept else "connection")


def test_ways_that_cant_be_asked_for_are_an_error_and_never_none(tmp_path: Path) -> None:
    class Broken(SysTree):
        def ways(self, peers: Sequence[str]) -> dict[str, str]:
            raise PermanentError(f"no ip for {peers}", name="command-missing")

    with raises(PermanentError, "command-missing"):
        found(Broken(tmp_path))


@pytest.mark.parametrize(
    "mounted", ["", "garbage", "29 1 254:0 / /srv rw - ext4 /dev/vda rw", None]
)
def test_mounts_without_a_root_are_an_error_and_never_none(
    tree: SysTree, mounted: str | None
) -> None:
    path = tree.proc / "self/mountinfo"
    path.unlink() if mounted is None else write(path, mounted)
    with raises(PermanentError, "mounts-unknown"):
        found(tree)


def test_a_guests_disk_is_kept_down_to_the_controller(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    hold(tree.disk("dm-3"), tree.partition(disk, "vda2"))
    dev = tree.sys.parent / "dev"
    write(dev / "dm-3", "")
    (dev / "vg").mkdir()
    (dev / "vg/db").symlink_to("../dm-3")
    chain = ("guest-disk", "0000:00:03.0", "vda2", "dm-3", Mentions("db"))
    assert found(tree, disks={"db": ["/dev/vg/db"]}) == {"0000:00:03.0": [chain]}


def test_a_disk_in_a_folder_is_found_as_the_kernel_spells_it(tree: SysTree) -> None:
    virtio_disk(tree, "cciss!c0d0")
    write(tree.sys.parent / "dev/cciss/c0d0", "")
    assert list(found(tree, disks={"db": ["/dev/cciss/c0d0"]})) == ["0000:00:03.0"]


@pytest.mark.parametrize(
    "path",
    [
        "/dev/vdb",
        "/dev/",
        "/dev",
        "",
        "vda",
        "/srv/vda",
        "/dev/out",
        "/dev/\0",
        "/dev/" + "x" * 999,
    ],
)
def test_a_path_that_is_no_block_device_is_no_guests_disk(tree: SysTree, path: str) -> None:
    virtio_disk(tree)
    outside = write(tree.sys.parent / "vda", "")
    write(tree.sys.parent / "dev/null", "")
    (tree.sys.parent / "dev/out").symlink_to(outside)
    assert found(tree, disks={"db": [path]}) == {}


def test_a_guests_network_is_kept_through_its_bridge_or_straight(tree: SysTree) -> None:
    card(tree, "enp1s0")
    card(tree, "enp2s0", "0000:02:00.0")
    card(tree, "enp3s0", "0000:03:00.0")
    tree.interface("vif1.0")
    tree.interface("xenbr0", lowers=["enp1s0", "vif1.0"])
    tree.interface("xenbr1", lowers=["enp3s0"])
    assert found(tree, interfaces={"web": ["xenbr0"], "db": ["enp2s0", "gone0", "../x", ""]}) == {
        "0000:01:00.0": [("guest-network", "0000:01:00.0", "enp1s0", "xenbr0", Mentions("web"))],
        "0000:02:00.0": [("guest-network", "0000:02:00.0", "enp2s0", Mentions("db"))],
    }


TYPING = "402000002 3803078f800d001 feffffdfffefffff fffffffffffffffe"
BUTTONS = "8000 10000000000000 0"


def keyboard(tree: SysTree, below: Path, number: int, keys: str = TYPING) -> None:
    path = below / "input" / f"input{number}"
    write(path / "capabilities/key", keys)
    link = tree.sys / "class/input" / path.name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(path)


def test_the_controller_of_the_only_keyboard_is_kept(tree: SysTree) -> None:
    usb = tree.function("0000:00:14.0", class_code="0c0330", driver="xhci_hcd")
    keyboard(tree, usb / "usb1/1-1", 0)
    keyboard(tree, usb / "usb1/1-2", 1)
    other = tree.function("0000:00:1a.0", class_code="0c0330", driver="xhci_hcd")
    keyboard(tree, other / "usb2/2-1", 2, "1f0000 0 0 0 0")
    keyboard(tree, tree.sys / "devices/LNXSYSTM:00/LNXPWRBN:00", 3, BUTTONS)
    keyboard(tree, tree.sys / "devices/virtual", 4)
    chain = ("keyboard", "0000:00:14.0", mock.ANY)
    assert found(tree) == {"0000:00:14.0": [chain]}


@pytest.mark.parametrize("second", ["pci0000:00/0000:00:1a.0/usb2/2-1", "platform/i8042/serio0"])
def test_of_two_keyboards_in_two_places_neither_is_needed(tree: SysTree, second: str) -> None:
    keyboard(tree, tree.function("0000:00:14.0") / "usb1/1-1", 0)
    keyboard(tree, tree.sys / "devices" / second, 1)
    assert found(tree) == {}


@pytest.mark.parametrize("keys", ["", "0", "xyz", BUTTONS, "fffffffffdfffffe"])
def test_what_has_not_all_letters_is_no_keyboard(tree: SysTree, keys: str) -> None:
    keyboard(tree, tree.function("0000:00:14.0") / "usb1/1-1", 0, keys)
    keyboard(tree, tree.sys / "devices/platform/i8042/serio0", 1, keys)
    assert found(tree) == {}


@pytest.mark.parametrize("call", ["os.open", "os.read", "os.listdir", "os.stat", "os.readlink"])
def test_what_goes_while_it_is_read_raises_nothing(
    tree: SysTree, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    disk = virtio_disk(tree)
    tree.mount("/", hold(tree.disk("dm-0"), disk))
    card(tree, "enp1s0")
    tree.route("enp1s0")
    keyboard(tree, tree.function("0000:00:14.0") / "usb1/1-1", 0)
    write(tree.proc / "net/tcp", f"{TCP}\n{established(HERE)}")
    write(tree.proc / "286/comm", "sshd")
    (tree.proc / "286/fd").mkdir()
    (tree.proc / "286/fd/3").symlink_to("socket:[806]")

    asked: list[object] = []

    def gone(*args: object, **_named: object) -> None:
        asked.append(args)
        raise FileNotFoundError(2, "No such file or directory")

    guests = {"disks": {"db": ["/dev/vda"]}, "interfaces": {"db": ["enp1s0"]}}
    whole = found(tree, addresses=ADDRESSES, **guests)
    with monkeypatch.context() as patched:
        patched.setattr(call, gone)  # between two calls of the adapter
        if call in {"os.open", "os.read"}:
            with raises(PermanentError, "mounts-unknown"):
                found(tree, addresses=ADDRESSES, **guests)
        else:
            left = found(tree, addresses=ADDRESSES, **guests)
            assert left.keys() <= whole.keys()
    assert asked


def test_links_that_lead_round_in_a_circle_or_nowhere_are_nothing(tree: SysTree) -> None:
    for folder in ("class/block", "class/input", "fs/btrfs/x/devices"):
        (tree.sys / folder).mkdir(parents=True, exist_ok=True)
        (tree.sys / folder / "input0").symlink_to("input0")
        (tree.sys / folder / "input1").symlink_to("gone")
    assert found(tree, disks={"db": ["/dev/input0"]}) == {}


def test_one_device_can_be_needed_for_several_reasons(tree: SysTree) -> None:
    disk = virtio_disk(tree)
    tree.mount("/", tree.partition(disk, "vda1"))
    tree.partition(disk, "vda2")
    tree.swap("vda2")
    assert [chain[0] for chain in found(tree)["0000:00:03.0"]] == ["filesystem", "swap"]
    (use, _) = uses_of(tree)[Address(0, 0, 3, 0)]
    assert [name for name in ("0000:00:03.0", "vda1", "/") if name not in str(use)] == []


def _no_tcp(tree: SysTree) -> None:
    (tree.proc / "net/tcp").unlink()


def _unreadable_udp(tree: SysTree) -> None:
    (tree.proc / "net/udp").mkdir()


def _unreadable_namespace(tree: SysTree) -> None:
    tree.process(500, "app", net="2")
    write(tree.proc / "500/cmdline", "app")


@pytest.mark.parametrize("spoil", [_no_tcp, _unreadable_udp, _unreadable_namespace])
def test_a_table_of_connections_that_cant_be_read_is_an_error_and_never_none(
    tree: SysTree, spoil: Callable[[SysTree], None]
) -> None:
    spoil(tree)
    with raises(PermanentError, "connections-unknown"):
        found(tree)


def test_threads_of_the_kernel_are_passed_by_and_programs_that_it_starts_are_not(
    tree: SysTree,
) -> None:
    disk = tree.function("0000:00:03.0", class_code="010601", driver="ahci")
    node = tree.node(tree.disk("sda", disk / "ata1"))
    for number, name in ((2, "kthreadd"), (30, "kworker/0:1"), (31, "helper")):
        tree.process(
            number, name, node
        )  # no thread of the kernel has a file; this shows who was looked at
    write(tree.proc / "2/task/2/children", "30 31")
    (tree.proc / "31/exe").symlink_to(__file__)
    opened = look_through(tree.proc, tree.nodes).open_devices
    assert {found.process for found in opened} == {"kthreadd", "helper"}
    (tree.proc / "2/comm").write_text("bash\n")  # in a namespace of its own
    opened = look_through(tree.proc, tree.nodes).open_devices
    assert {found.process for found in opened} == {"bash", "kworker/0:1", "helper"}
