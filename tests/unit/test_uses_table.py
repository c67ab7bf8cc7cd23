"""The table of uses: each way in which a host can use a device, what the kernel then shows, and the guard that speaks.

A line without a guard is no use: the device may go.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cede.model.network import Interface, Redirect
from cede.model.pci import GUARDS
from sim.sys_tree import link, write
from unit.test_host_uses import uses_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cede.model.pci import Address, HostUse
    from sim.sys_tree import SysTree

DISK, NIC, NIC2, GPU = "0000:00:03.0", "0000:01:00.0", "0000:02:00.0", "0000:04:00.0"
USB = "0000:06:00.0"
PEER, HERE = "192.0.2.1", "192.0.2.9"
HEX_HERE, HEX_PEER, HEX_FAR = "090200C0", "010200C0", "017100CB"  # and 203.0.113.1


class Line(NamedTuple):
    """A use by its name, the guard that must speak and for which device, and how the tree comes to show it."""

    name: str
    guard: str
    address: str
    steps: tuple[Callable[[Made], object], ...]


def use(name: str, guard: str, address: str, *steps: Callable[[Made], object]) -> Line:
    return Line(name, guard, address, steps)


def no_use(name: str, *steps: Callable[[Made], object]) -> Line:
    return Line(name, "", "", steps)


class Made:
    """The host of each line: a disk sda with sda1 and sda2, two cards eth1 and eth2, a display; nothing in use."""

    def __init__(self, tree: SysTree) -> None:
        self.tree = tree
        disk = tree.function(DISK, class_code="010601", driver="ahci")
        self.disk = tree.disk("sda", disk / "ata1/host0/target0:0:0/0:0:0:0")
        write(self.disk / "size", "2048")
        self.part, self.second = (tree.partition(self.disk, f"sda{n}") for n in (1, 2))
        for block in (self.disk, self.part, self.second):
            tree.node(block)
            link(tree.sys / "block" / block.name, block)
        for number, address in ((1, NIC), (2, NIC2)):
            tree.function(address, driver="e1000e", net={f"eth{number}": "52:54:00:ce:de:01"})
        self.gpu = tree.function(GPU, class_code="038000", driver="amdgpu")
        tree.interface("lo")
        self.knows("lo", addresses=("127.0.0.1",))
        tree.process(1, "systemd", "/dev/null", "socket:[7]", mnt="1", net="1")
        for kind in ("mnt", "net"):
            link(tree.proc / "self/ns" / kind, Path(f"{kind}:[1]"))
        self.disks: dict[str, list[str]] = {}
        self.interfaces: dict[str, list[str]] = {}
        self.devices: dict[str, list[str]] = {}
        self.pools: dict[str, list[str]] = {}

    def knows(self, name: str, **about: object) -> None:
        self.tree.known.append(Interface(name=name, **about))  # type: ignore[arg-type]

    def virtual(self, name: str, *lowers: str, **about: object) -> None:
        """An interface that lies on others, as sysfs and `ip` show it."""
        self.tree.interface(name, lowers=lowers)
        self.knows(name, **about)

    def addressed(self, name: str = "eth1", address: str = HERE) -> None:
        self.knows(name, addresses=(address,), subnets=("192.0.2.0/24",))
        self.tree.route(name, "192.0.2.0/24", via=False, protocol="kernel")
        self.tree.route(name, "fe80::/64", via=False, protocol="kernel")

    def talks(
        self,
        state: str = "01",
        *,
        local: str = HEX_HERE,
        peer: str = HEX_PEER,
        at: str = "net",
        table: str = "tcp",
    ) -> None:
        row = f"0: {local}:C001 {peer}:0CBC {state} 0:0 00:0 0 0 0 9 1"
        write(self.tree.proc / at / table, f"sl local rem st\n{row}")

    def associates(self, state: str = "3", here: str = f"10.0.0.9 *{HERE}") -> None:
        """An SCTP association, of which both ends have two addresses (net/sctp/proc.c)."""
        row = f"ffff8 ffff9 2   1   {state}  0       1        0        0       0 4711 36412 36412  {here} <-> "
        row += f"*{PEER} 10.0.1.2 \t    7500    10    10   10    0    0        0        1        0   212992   212992"
        write(self.tree.proc / "net/sctp/assocs", f" ASSOC     SOCK   STY SST ST HBKT\n{row}")

    def mounts(self, *lines: str) -> None:
        path = self.tree.proc / "self/mountinfo"
        write(path, "\n".join([path.read_text().strip(), *lines]))

    def remote(self, source: str, kind: str, options: str) -> None:
        self.mounts(f"40 22 0:50 / /data rw shared:2 - {kind} {source} {options}")

    def number(self, block: Path | None = None) -> str:
        return ((block or self.part) / "dev").read_text().strip()

    def remote_disk(self, path: str) -> None:
        disk = self.tree.block(self.tree.sys / "devices" / path)
        self.mounts(f"40 22 {self.number(disk)} / /data rw - ext4 /dev/{disk.name} rw")

    def put(self, path: str, said: str) -> Path:
        write(self.tree.root / path, said)
        return self.tree.root / path

    def opens(self, process: str, path: Path | str) -> None:
        self.tree.process(300, process, path)

    def char(self, below: Path, name: str, number: str = "226:1") -> Path:
        return self.tree.character(below / name, number)

    def frame_buffers(
        self, *devices: Path, bound: str = "1", name: str = "(M) frame buffer device"
    ) -> None:
        for number, device in enumerate(devices):
            path = device / f"graphics/fb{number}"
            path.mkdir(parents=True)
            link(self.tree.sys / f"class/graphics/fb{number}", path)
        write(self.tree.sys / "class/vtconsole/vtcon1/name", name)
        write(self.tree.sys / "class/vtconsole/vtcon1/bind", bound)

    def uses(self) -> Mapping[Address, Sequence[HostUse]]:
        """What the adapter finds."""
        served = {"disks": self.disks, "interfaces": self.interfaces}
        return uses_of(self.tree, devices=self.devices, pools=self.pools, **served)


def found_in(made: Made) -> dict[str, list[str]]:
    """The guards that speak, by the device's address."""
    return {str(address): [use.guard for use in of] for address, of in made.uses().items()}


def _in_namespace(made: Made) -> None:
    made.tree.process(400, "nginx", mnt="2")
    made.put("proc/400/mountinfo", f"50 1 {made.number()} / /srv rw - ext4 /dev/sda1 rw")


def _held(made: Made) -> None:
    made.tree.node(made.disk, held=True)


def _iscsi(made: Made) -> None:
    made.put("sys/class/iscsi_connection/connection1:0/address", PEER)
    made.tree.reached[PEER] = "eth1"
    made.remote_disk("platform/host3/session1/target3:0:0/3:0:0:0/block/sdb")


def _iscsi_idle(made: Made) -> None:
    made.put("sys/class/iscsi_connection/connection1:0/persistent_address", PEER)
    made.tree.reached[PEER] = "eth1"


def _nvme_tcp(made: Made) -> None:
    controller = made.tree.sys / "devices/virtual/nvme-fabrics/ctl/nvme0"
    write(controller / "address", f"traddr={PEER},trsvcid=4420,src_addr={HERE}")
    write(controller / "transport", "tcp")
    link(made.tree.sys / "class/nvme/nvme0", controller)
    made.tree.reached[PEER] = "eth1"
    made.remote_disk("virtual/nvme-fabrics/ctl/nvme0/nvme0n1")


def _fcoe(made: Made) -> None:
    made.virtual("eth1.9", "eth1")
    made.remote_disk("virtual/net/eth1.9/ctlr_0/host7/rport-7:0-1/target7:0:0/7:0:0:1/block/sdb")


def _aoe(made: Made) -> None:
    disk = made.tree.disk("etherd!e0.1")
    write(disk / "netif", "eth1,eth2")
    made.mounts(f"40 22 {made.number(disk)} / /data rw - ext4 x rw")


def _nfs(made: Made) -> None:
    made.tree.reached[PEER] = "eth1"
    made.remote(f"{PEER}:/srv", "nfs4", f"rw,vers=4.2,clientaddr={HERE},addr={PEER}")


def _nfs_back(made: Made) -> None:
    made.addressed()
    made.remote("store:/srv", "nfs", f"rw,clientaddr={HERE},addr=203.0.113.1")


def _ceph(made: Made) -> None:
    made.tree.reached[PEER] = "eth1"
    made.remote(f"10.0.0.1:6789,{PEER}:6789:/", "ceph", "rw,name=admin")


def _ovs(made: Made) -> None:
    made.virtual("ovs-system", kind="openvswitch")
    made.knows("eth1", master="ovs-system")
    made.virtual("ovsbr0", kind="openvswitch")
    made.tree.route("ovsbr0")


def _veth(made: Made) -> None:
    made.virtual("veth0", kind="veth", link="veth1")
    made.virtual("veth1", kind="veth", link="veth0", master="br0")
    made.virtual("br0", "eth1", "veth1", kind="bridge")
    made.tree.route("veth0")


def _wireguard(made: Made) -> None:
    made.addressed()
    made.virtual("wg0", kind="wireguard")
    made.tree.route("wg0", "10.0.0.0/8", via=False)


def _tunnel(kind: str, **about: object) -> Callable[[Made], None]:
    def make(made: Made) -> None:
        made.addressed()
        made.tree.reached["203.0.113.1"] = "eth1"
        made.virtual("tun9", kind=kind, **about)
        made.tree.route("tun9", "10.0.0.0/8")

    return make


def _passed_through(host: str) -> Callable[[Made], object]:
    said = f"SCSI Device Bus Location: Channel ID: 0 Target ID: 3 LUN: 0 Host ID: {host}"
    return lambda made: made.put("sys/kernel/config/target/core/pscsi_0/one/info", said)


def _l2tp(made: Made) -> None:
    made.put("sys/module/l2tp_netlink/refcnt", "1")
    made.tree.l2tp.append(("203.0.113.9", "203.0.113.1"))
    made.tree.reached["203.0.113.1"] = "eth1"


def _ipsec(made: Made) -> None:
    made.put("sys/module/xfrm_user/initstate", "live")
    made.tree.ipsec.append(("203.0.113.9", "203.0.113.1"))
    made.tree.reached["203.0.113.1"] = "eth1"


def _vif(made: Made) -> None:
    made.virtual("vif7.0", master="xenbr0")
    made.virtual("xenbr0", "eth1", "vif7.0", kind="bridge")


def _container(made: Made) -> None:
    made.virtual("vethab", kind="veth", master="br0")
    made.virtual("br0", "eth1", "vethab", kind="bridge")


def _container_connection(made: Made) -> None:
    made.tree.process(500, "app", net="2")
    made.talks(local="0200000A", peer=HEX_FAR, at="500/net")
    made.tree.reached["203.0.113.1"] = "eth1"


def _container_datagrams(made: Made) -> None:
    """Its first process has ended and isn't waited for: the kernel shows nothing of its network."""
    _container_connection(made)
    made.tree.process(499, "zombie", net="2")
    made.talks("0A", peer="00000000", at="500/net")
    made.talks(local="0200000A", peer=HEX_FAR, at="500/net", table="udp")


def _datagrams6(made: Made) -> None:
    made.knows("eth1", addresses=("2001:db8::9",), subnets=("2001:db8::/64",))
    local, peer = (f"B80D0120{'0' * 16}0{n}000000" for n in (9, 1))
    made.talks(local=local, peer=peer, table="udp6")


def _container_macvlan(made: Made) -> None:
    _container_interface(made, "app", "net/dev")


def _service_without_network(made: Made) -> None:
    """It sees the host's sysfs, whose interfaces it has not."""
    _container_interface(made, "service", "net/nothing")


def _container_interface(made: Made, name: str, table: str) -> None:
    made.tree.process(500, name, net="2")
    made.put("sys/class/net/eth1/ifindex", "4")
    made.put(f"proc/500/{table}", "Inter-| Receive\n  lo: 0 0\neth0: 7 7")
    for interface, (index, below) in {"lo": ("1", "1"), "eth0": ("9", "4")}.items():
        made.put(f"proc/500/root/sys/class/net/{interface}/ifindex", index)
        made.put(f"proc/500/root/sys/class/net/{interface}/iflink", below)


def _virtual_function(made: Made) -> None:
    virtual = made.tree.function("0000:01:10.0", net={"eth1v0": "52:54:00:ce:de:03"})
    link(virtual / "physfn", made.tree.sys / "bus/pci/devices" / NIC)
    made.tree.route("eth1v0", "10.0.0.0/8")


def _guest_tap(made: Made) -> None:
    """A bridge that dom0 uses without any card, and a card with an address: no way from one to the other."""
    made.addressed()
    made.virtual("tap7", kind="tun", master="br9")
    made.virtual("br9", "tap7", kind="bridge")
    made.tree.route("br9", "10.0.0.0/8")


def _multipath(made: Made) -> None:
    made.tree.disk("dm-0", slaves=["sda"])
    link(made.disk / "holders/dm-0", made.tree.sys / "class/block/dm-0")


def _packets(*programs: str, index: str = "2", on: str = "eth1") -> Callable[[Made], None]:
    """A packet socket that these programs have, bound to the interface of that number."""

    def make(made: Made) -> None:
        write(made.tree.sys / "class/net" / on / "ifindex", "2")
        row = f"00000000ecc2125f 3      3    0003   {index}     1 0      0      4711"
        made.put(
            "proc/net/packet",
            f"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n{row}",
        )
        for number, program in enumerate(programs, 600):
            made.tree.process(number, program, "socket:[4711]")

    return make


def _xdp(*, program: str = "", sockets: int = 1) -> Callable[[Made], None]:
    """Sockets of AF_XDP, and the interface on which an XDP program runs; both interfaces are up."""

    def make(made: Made) -> None:
        row = f"XDP       1088      {sockets}      -1   NI       0   no   kernel      n  n"
        made.put(
            "proc/net/protocols", f"protocol  size sockets  memory press maxhdr  slab module\n{row}"
        )
        for name in ("eth1", "eth2"):
            made.knows(name, up=name == "eth1", xdp=name == program)

    return make


def _redirect(source: str, target: str, *, copies: bool = False) -> Callable[[Made], None]:
    def make(made: Made) -> None:
        made.put("sys/module/act_mirred/initstate", "live")
        made.tree.redirected.append(Redirect(source=source, target=target, copies=copies))

    return make


def _usb_stick(made: Made) -> None:
    """A USB device with a disk, third of port 2 on bus 1."""
    stick = made.tree.function(USB) / "usb1/1-2/1-2.3"
    for file, said in {
        "busnum": "1",
        "devnum": "7",
        "idVendor": "046d",
        "idProduct": "c52b",
    }.items():
        write(stick / file, said)
    link(made.tree.sys / "bus/usb/devices/1-2.3", stick)
    made.tree.disk("sdc", stick / "1-2.3:1.0/host9/target9:0:0/9:0:0:0")


def _stick(made: Made) -> Path:
    return (made.tree.sys / "bus/pci/devices" / USB).resolve() / "usb1/1-2/1-2.3"


def _guest_has(*names: str) -> Callable[[Made], None]:
    return lambda made: made.devices.update(web=[*names])


def _pool_of(*names: str) -> Callable[[Made], None]:
    return lambda made: made.pools.update(images=[*names])


def _scsi(made: Made) -> None:
    """The disk's host adapter, a Fibre Channel one, and the disk as a SCSI device."""
    device = made.disk.parent.parent
    link(made.tree.sys / "bus/scsi/devices/0:0:0:0", device)
    for kind, files in {"scsi_host": {}, "fc_host": {"port_name": "0x10000090fa1b2c3d"}}.items():
        host = device.parent.parent / kind / "host0"
        host.mkdir(parents=True)
        link(made.tree.sys / f"class/{kind}/host0", host)
        for file, said in files.items():
            write(host / file, said)


def _serial_port(made: Made) -> None:
    made.tree.character(made.tree.function(USB) / "tty/ttyS4", "4:68")


def _keyboard(made: Made) -> None:
    usb = made.tree.function("0000:00:14.0") / "usb1/input/input3"
    write(usb / "capabilities/key", "402000002 3803078f800d001 feffffdfffefffff fffffffffffffffe")
    link(made.tree.sys / "class/input/input3", usb)


USES = (
    # -- file systems and swap
    use("the root file system", "filesystem", DISK, lambda m: m.tree.mount("/", m.part)),
    use("a mount in another namespace", "filesystem", DISK, _in_namespace),
    use(
        "an external journal of ext4",
        "filesystem",
        DISK,
        lambda m: m.put("proc/fs/jbd2/sda2/info", ""),
    ),
    use(
        "an external log of XFS",
        "filesystem",
        DISK,
        lambda m: m.mounts("40 22 0:50 / /d rw - xfs x rw,logdev=/dev/sda2"),
    ),
    use("a partition with swap", "swap", DISK, lambda m: m.tree.swap("sda2")),
    use(
        "a loop device over a partition",
        "backing",
        DISK,
        lambda m: m.put("sys/block/loop0/loop/backing_file", "/dev/sda1"),
    ),
    use(
        "a loop device over a node that is gone",
        "backing",
        DISK,
        lambda m: m.put("sys/block/loop0/loop/backing_file", "/dev/sda1 (deleted)"),
    ),
    use(
        "compressed memory that is written out",
        "backing",
        DISK,
        lambda m: m.put("sys/block/zram0/backing_dev", "/dev/sda2"),
    ),
    use(
        "a SCSI target by its numbers",
        "backing",
        DISK,
        lambda m: m.put(
            "sys/kernel/config/target/core/iblock_0/one/info",
            "iBlock device: sda  UDEV PATH: /dev/x\n"
            f"Major: {m.number(m.disk).replace(':', ' Minor: ')}  CLAIMED: IBLOCK",
        ),
    ),
    use(
        "a SCSI target by its path",
        "backing",
        DISK,
        lambda m: m.put("sys/kernel/config/target/core/pscsi_0/one/udev_path", "/dev/sda"),
    ),
    *(
        use(
            f"a SCSI target that passes a tape through, {how}",
            "backing",
            DISK,
            lambda m: link(m.tree.sys / "bus/scsi/devices/0:0:3:0", m.disk.parent.parent),
            _passed_through(host),
        )
        for how, host in (("by its host", "0"), ("of a host that it doesn't name", "PHBA Mode"))
    ),
    use(
        "a SCSI target whose file is a disk",
        "backing",
        DISK,
        lambda m: m.put(
            "sys/kernel/config/target/core/fileio_0/one/info",
            "TCM FILEIO ID: 0 File: /dev/sda Size: 9",
        ),
    ),
    use(
        "an NVMe target",
        "backing",
        DISK,
        lambda m: m.put(
            "sys/kernel/config/nvmet/subsystems/nqn/namespaces/1/device_path", "/dev/sda"
        ),
    ),
    use("a device-mapper table over it", "member", DISK, _multipath),
    use("a hold that nothing tells of", "held", DISK, _held),
    use(
        "a disk that a program has open",
        "open",
        DISK,
        lambda m: m.opens("tgtd", m.tree.root / "dev/sda"),
    ),
    use(
        "a node elsewhere that a program has open",
        "open",
        DISK,
        lambda m: m.opens("qemu-nbd", m.put("srv/jail/x", f"block {m.number()}")),
    ),
    use(
        "a USB device that a program drives itself",
        "open",
        USB,
        _usb_stick,
        lambda m: m.opens("usbhid-ups", m.char(_stick(m), "bus/usb/001/007", "189:6")),
    ),
    use(
        "a mounted SD card",
        "filesystem",
        USB,
        lambda m: m.tree.mount(
            "/srv",
            m.tree.partition(
                m.tree.disk("mmcblk0", m.tree.function(USB) / "mmc_host/mmc0/mmc0:aaaa"),
                "mmcblk0p1",
            ),
        ),
    ),
    # -- disks of guests
    use("a guest's partition", "guest-disk", DISK, lambda m: m.disks.update(db=["/dev/sda1"])),
    use(
        "a guest's disk by its number",
        "guest-disk",
        DISK,
        lambda m: m.disks.update(db=[m.number(m.disk)]),
    ),
    use(
        "a guest's file that is a disk",
        "guest-disk",
        DISK,
        lambda m: m.disks.update(db=[str(m.put("srv/disk", f"block {m.number()}"))]),
    ),
    use(
        "a guest's file on a disk",
        "guest-disk",
        DISK,
        lambda m: m.disks.update(db=[str(m.put("srv/disk.img", m.number()))]),
    ),
    # -- other devices of guests, and storage pools
    *(
        use(f"a guest's USB device by {how}", "guest-device", USB, _usb_stick, _guest_has(name))
        for how, name in (
            ("its port", "usb:1-2.3"),
            ("bus and number", "usb:1.7"),
            ("vendor and product", "usb:046d:c52b"),
        )
    ),
    use("a guest's SCSI device", "guest-device", DISK, _scsi, _guest_has("scsi:0:0:0:0")),
    use("a guest's SCSI device by its node", "guest-device", DISK, _guest_has("/dev/sda")),
    use(
        "a guest's serial port on a card",
        "guest-device",
        USB,
        _serial_port,
        _guest_has("/dev/ttyS4"),
    ),
    use(
        "a device that a guest's backend has by its address",
        "guest-device",
        GPU,
        _guest_has(f"pci:{GPU}"),
    ),
    use("a storage pool on a partition", "guest-disk", DISK, _pool_of("/dev/sda1")),
    use("a storage pool on a USB disk", "guest-disk", USB, _usb_stick, _pool_of("/dev/sdc")),
    use("a storage pool of a SCSI adapter", "guest-disk", DISK, _scsi, _pool_of("scsi_host:0")),
    use(
        "a storage pool of a Fibre Channel port",
        "guest-disk",
        DISK,
        _scsi,
        _pool_of("fc:10000090fa1b2c3d"),
    ),
    use("a storage pool of an adapter by its address", "guest-disk", DISK, _pool_of(f"pci:{DISK}")),
    # -- storage over a network
    use("a file system on iSCSI", "filesystem", NIC, _iscsi),
    use("an iSCSI session with nothing on it", "connection", NIC, _iscsi_idle),
    use("a file system on NVMe over TCP", "filesystem", NIC, _nvme_tcp),
    use("a file system on Fibre Channel over Ethernet", "filesystem", NIC, _fcoe),
    use("a file system on ATA over Ethernet", "filesystem", NIC2, _aoe),
    use("NFS by the way to its server", "filesystem", NIC, _nfs),
    use("NFS by the address that it is called back at", "filesystem", NIC, _nfs_back),
    use("Ceph by one of its monitors", "filesystem", NIC, _ceph),
    # -- connections
    use(
        "a connection by its local address",
        "connection",
        NIC,
        lambda m: m.addressed(),
        lambda m: m.talks(),
    ),
    use(
        "a connection by the way to its peer",
        "connection",
        NIC2,
        lambda m: m.addressed(),
        lambda m: m.tree.reached.update({"203.0.113.1": "eth2"}),
        lambda m: m.talks(peer=HEX_FAR),
    ),
    use(
        "a connection that is being made again",
        "connection",
        NIC,
        lambda m: m.addressed(),
        lambda m: m.talks("02"),
    ),
    use("a container's connection", "connection", NIC, _container_connection),
    *(
        use(
            f"a connected socket of {table}",
            "connection",
            NIC,
            lambda m: m.addressed(),
            lambda m, table=table: m.talks(table=table),  # type: ignore[misc]
        )
        for table in ("udp", "udplite", "raw", "icmp")
    ),
    use("a connected socket of UDP over IPv6", "connection", NIC, _datagrams6),
    use(
        "a container's connected socket of UDP, whose first process is a zombie",
        "connection",
        NIC,
        _container_datagrams,
    ),
    use(
        "an SCTP association by any of its addresses",
        "connection",
        NIC,
        lambda m: m.addressed(),
        lambda m: m.associates(),
    ),
    use("an IPsec tunnel", "connection", NIC, _ipsec),
    use("an L2TP tunnel", "connection", NIC, _l2tp),
    # -- routes, and what they lie on
    use("the default route", "default-route", NIC, lambda m: m.tree.route("eth1")),
    use("the default route of IPv6", "default-route", NIC, lambda m: m.tree.route("eth1", "::/0")),
    use(
        "the second next hop",
        "default-route",
        NIC2,
        lambda m: m.tree.route("eth1"),
        lambda m: m.tree.route("eth2"),
    ),
    use("a route by a gateway", "route", NIC, lambda m: m.tree.route("eth1", "10.0.0.0/8")),
    use(
        "a route without a gateway that somebody made",
        "route",
        NIC,
        lambda m: m.addressed(),
        lambda m: m.tree.route("eth1", "10.0.0.0/8", via=False, protocol="static"),
    ),
    use(
        "a route over a bridge",
        "default-route",
        NIC,
        lambda m: m.virtual("br0", "eth1", kind="bridge"),
        lambda m: m.tree.route("br0"),
    ),
    use(
        "a route over a bond",
        "default-route",
        NIC2,
        lambda m: m.virtual("bond0", "eth1", "eth2", kind="bond"),
        lambda m: m.tree.route("bond0"),
    ),
    use(
        "a route over a team",
        "default-route",
        NIC,
        lambda m: m.virtual("team0", "eth1", kind="team"),
        lambda m: m.tree.route("team0"),
    ),
    use(
        "a route over a VLAN that only `ip` tells of",
        "default-route",
        NIC,
        lambda m: m.virtual("eth1.7", kind="vlan", link="eth1"),
        lambda m: m.tree.route("eth1.7"),
    ),
    use(
        "a route over a macvlan",
        "default-route",
        NIC,
        lambda m: m.virtual("mac0", "eth1", kind="macvlan", link="eth1"),
        lambda m: m.tree.route("mac0"),
    ),
    use(
        "a route over an ipvlan",
        "default-route",
        NIC,
        lambda m: m.virtual("ipv0", "eth1", kind="ipvlan", link="eth1"),
        lambda m: m.tree.route("ipv0"),
    ),
    use(
        "a route over a VRF",
        "default-route",
        NIC,
        lambda m: m.virtual("vrf0", "eth1", kind="vrf"),
        lambda m: m.tree.route("vrf0"),
    ),
    use("a route over an Open vSwitch bridge", "default-route", NIC, _ovs),
    use("a route over a veth into a bridge", "default-route", NIC, _veth),
    use("a VXLAN by its peer", "route", NIC, _tunnel("vxlan", ends=("203.0.113.1",))),
    use("a GRE tunnel by its own end", "route", NIC, _tunnel("gre", ends=(HERE, "203.0.113.7"))),
    use("a VXLAN by its link", "route", NIC, _tunnel("vxlan", ends=("239.1.1.1",), link="eth1")),
    use("WireGuard, whose way can't be told", "route", NIC, _wireguard),
    use("a route over a virtual function, for the physical one", "route", NIC, _virtual_function),
    use("a container's macvlan on it", "namespace", NIC, _container_macvlan),
    use(
        "an interface in another namespace",
        "namespace",
        "0000:05:00.0",
        lambda m: (m.tree.function("0000:05:00.0") / "net").mkdir(),
    ),
    # -- networks of guests
    use(
        "a guest's bridge",
        "guest-network",
        NIC,
        lambda m: m.virtual("xenbr0", "eth1"),
        lambda m: m.interfaces.update(web=["xenbr0"]),
    ),
    use(
        "a guest's own card (macvtap)",
        "guest-network",
        NIC,
        lambda m: m.interfaces.update(web=["eth1"]),
    ),
    use("a vif on a bridge, whoever made it", "guest-network", NIC, _vif),
    use("a container on a bridge", "guest-network", NIC, _container),
    # -- the seat and the machine
    use(
        "the boot display",
        "boot-vga",
        GPU,
        lambda m: m.put(f"sys/bus/pci/devices/{GPU}/boot_vga", "1"),
    ),
    use(
        "the boot display as newer kernels say it",
        "boot-vga",
        GPU,
        lambda m: write(m.gpu / "drm/card1/boot_display", "1"),
        lambda m: link(m.tree.sys / "class/drm/card1", m.gpu / "drm/card1"),
    ),
    use(
        "the firmware's frame buffer",
        "boot-vga",
        GPU,
        lambda m: m.put(
            "proc/iomem",
            f"c0000000-dfffffff : PCI Bus 0000:04\n  c0000000-cfffffff : {GPU}\n    c0000000-c02fffff : BOOTFB",
        ),
    ),
    use(
        "the text console on a display without VGA",
        "console",
        GPU,
        lambda m: m.frame_buffers(m.gpu),
    ),
    use(
        "a serial console on a card",
        "console",
        "0000:05:00.0",
        lambda m: m.tree.character(m.tree.function("0000:05:00.0") / "tty/ttyS4", "4:68"),
        lambda m: m.put("proc/consoles", "ttyS4  -W- (EC   p  )    4:68"),
    ),
    use(
        "messages over the network",
        "console",
        NIC,
        lambda m: m.put("sys/kernel/config/netconsole/one/enabled", "1"),
        lambda m: m.put("sys/kernel/config/netconsole/one/dev_name", "eth1"),
    ),
    use(
        "messages over the network, by the module's parameter",
        "console",
        NIC,
        lambda m: m.put("proc/consoles", "netcon0   -W- (E   p  )"),
        lambda m: m.put("sys/class/net/eth1/flags", "0x1003"),
        lambda m: m.put("sys/class/net/eth2/flags", "0x1002"),
    ),
    use("the only keyboard", "keyboard", "0000:00:14.0", _keyboard),
    use(
        "an armed watchdog",
        "watchdog",
        GPU,
        lambda m: write(m.gpu / "watchdog/watchdog0/state", "active"),
        lambda m: link(m.tree.sys / "class/watchdog/watchdog0", m.gpu / "watchdog/watchdog0"),
    ),
    use(
        "a watchdog that a program strokes",
        "open",
        GPU,
        lambda m: m.opens("systemd", m.char(m.gpu / "watchdog", "watchdog0", "249:0")),
    ),
    use(
        "a display that a program draws on",
        "open",
        GPU,
        lambda m: m.opens("Xorg", m.char(m.gpu / "drm", "card1")),
    ),
    use(
        "a tape that a program writes",
        "open",
        DISK,
        lambda m: m.opens("bacula-sd", m.char(m.disk.parent / "scsi_tape", "nst0", "9:128")),
    ),
    use(
        "a sound card that plays",
        "open",
        GPU,
        lambda m: m.opens("pipewire", m.char(m.gpu / "sound/card1", "pcmC1D0p", "116:4")),
    ),
    use(
        "a card's memory in a program",
        "open",
        NIC,
        lambda m: m.put(f"sys/bus/pci/devices/{NIC}/resource0", ""),
        lambda m: m.opens("testpmd", f"/sys/bus/pci/devices/{NIC}/resource0"),
    ),
    use(
        "a guest's macvtap that a program has open",
        "open",
        NIC,
        lambda m: m.virtual("macvtap0", "eth1"),
        lambda m: m.opens(
            "qemu", m.char(m.tree.sys / "devices/virtual/net/macvtap0/macvtap", "tap9", "240:1")
        ),
    ),
    use("a capture of packets", "open", NIC, _packets("tcpdump")),
    use(
        "a DHCP server's packet socket, which a client has too",
        "open",
        NIC,
        _packets("dhclient", "dhcpd"),
    ),
    use("a packet socket of a program that isn't told", "open", NIC, _packets()),
    use(
        "a packet socket on a bridge",
        "open",
        NIC,
        lambda m: m.virtual("br0", "eth1", kind="bridge"),
        _packets("hostapd", on="br0"),
    ),
    use(
        "a PPPoE session",
        "open",
        NIC,
        lambda m: m.put(
            "proc/net/pppoe",
            "Id       Address              Device\n00000001 52:54:00:ce:de:09     eth1",
        ),
    ),
    use(
        "a CAN socket",
        "open",
        NIC,
        lambda m: m.put(
            "proc/net/can/rcvlist_all",
            "receive list 'rx_all':\n  (any: no entry)\n"
            "  device   can_id   can_mask  function  userdata   matches  ident\n"
            "   eth1     000    00000000  0000000000000000  0000000000000000         0  raw",
        ),
    ),
    use("an AF_XDP socket, where an XDP program runs", "open", NIC2, _xdp(program="eth2")),
    use("an AF_XDP socket that only sends, over whatever is up", "open", NIC, _xdp()),
    use("traffic that tc hands on to it", "route", NIC, _redirect("vif7.0", "eth1")),
    use("traffic that tc mirrors to it", "route", NIC, _redirect("vif7.0", "eth1", copies=True)),
    use("traffic that tc hands on from it", "route", NIC, _redirect("eth1", "vif7.0")),
    # -- what is no use
    no_use("nothing at all"),
    no_use(
        "a guest's device that is unplugged",
        _usb_stick,
        _guest_has(
            "usb:1-2.4", "usb:2.7", "usb:046d:c52c", "scsi:9:9:9:9", "/dev/ttyS9", "usb:../x", ""
        ),
    ),
    no_use("a storage pool that is a folder", _pool_of("/srv/images")),
    no_use("a DHCP client's packet socket", _packets("dhclient")),
    no_use("what announces the interface to its switch", _packets("lldpd")),
    no_use("a packet socket that is bound to no interface", _packets("tcpdump", index="0")),
    no_use("an XDP program without a socket", _xdp(program="eth1", sockets=0)),
    no_use(
        "an interface of which tc mirrors the traffic elsewhere",
        _redirect("eth1", "vif7.0", copies=True),
    ),
    no_use(
        "an interface whose incoming traffic is shaped by an ifb",
        lambda m: m.virtual("ifb0", kind="ifb"),
        _redirect("eth1", "ifb0"),
    ),
    no_use(
        "a card's memory in its guest's device model",
        lambda m: m.put(f"sys/bus/pci/devices/{NIC}/resource0", ""),
        lambda m: m.tree.bind(NIC, "pciback"),
        lambda m: m.opens("qemu-system-i38", f"/sys/bus/pci/devices/{NIC}/resource0"),
    ),
    no_use("a service without a network", _service_without_network),
    no_use("an address and its own subnet", lambda m: m.addressed()),
    no_use(
        "the subnet as a DHCP client writes it",
        lambda m: m.addressed(),
        lambda m: m.tree.route("eth1", "192.0.2.0/24", via=False, protocol="dhcp"),
    ),
    no_use(
        "the subnet that a router announces",
        lambda m: m.tree.route("eth1", "2001:db8::/64", via=False, protocol="ra"),
    ),
    no_use(
        "a bridge with a card and nothing else", lambda m: m.virtual("br0", "eth1", kind="bridge")
    ),
    no_use("a guest's tap on a bridge without a card", _guest_tap),
    no_use("a connection that has ended", lambda m: m.addressed(), lambda m: m.talks("06")),
    no_use(
        "a connection that the peer has closed", lambda m: m.addressed(), lambda m: m.talks("08")
    ),
    no_use(
        "a service that listens", lambda m: m.addressed(), lambda m: m.talks("0A", peer="00000000")
    ),
    no_use(
        "a connection to dom0 itself", lambda m: m.addressed(), lambda m: m.talks(peer=HEX_HERE)
    ),
    no_use(
        "a socket of UDP that anybody may send to",
        lambda m: m.addressed(),
        lambda m: m.talks("07", peer="00000000", table="udp"),
    ),
    no_use(
        "an SCTP association that has ended",
        lambda m: m.addressed(),
        lambda m: m.associates("0"),
    ),
    no_use(
        "an SCTP association of dom0 with itself",
        lambda m: m.addressed(),
        lambda m: m.associates(here="*127.0.0.1"),
    ),
    no_use("a route into nothing", lambda m: m.tree.route("lo", "10.9.0.0/16")),
    no_use("an internal journal", lambda m: m.put("proc/fs/jbd2/sdz1-8/info", "")),
    no_use(
        "a swap file's namesake", lambda m: m.put("proc/swaps", "Filename\n/srv/sda1 file 1 0 -2")
    ),
    no_use("smartd", lambda m: m.opens("smartd", m.tree.root / "dev/sda")),
    no_use("udisksd", lambda m: m.opens("udisksd", m.tree.root / "dev/sda")),
    no_use("multipathd without a map", lambda m: m.opens("multipathd", m.tree.root / "dev/sda")),
    no_use("a worker of udev", lambda m: m.opens("(udev-worker)", m.tree.root / "dev/sda1")),
    no_use(
        "a program that waits for keys",
        lambda m: m.opens("acpid", m.char(m.gpu / "input/input9", "event9", "13:73")),
    ),
    no_use(
        "a sound server that plays nothing",
        lambda m: m.opens("pipewire", m.char(m.gpu / "sound/card1", "controlC1", "116:2")),
    ),
    no_use(
        "a file on a server that nobody must touch",
        lambda m: m.disks.update(db=["/data/disk.img"]),
        lambda m: m.remote("store:/srv", "nfs", "rw"),
    ),
    no_use(
        "a SCSI target over a file",
        lambda m: m.put(
            "sys/kernel/config/target/core/fileio_0/one/info", "File: /srv/x.img Size: 9"
        ),
    ),
    no_use(
        "an NVMe target that is switched off",
        lambda m: m.put(
            "sys/kernel/config/nvmet/subsystems/nqn/namespaces/1/device_path", "/dev/sda"
        ),
        lambda m: m.put("sys/kernel/config/nvmet/subsystems/nqn/namespaces/1/enable", "0"),
    ),
    no_use(
        "a loop device over a file",
        lambda m: m.put("sys/block/loop0/loop/backing_file", "/srv/x.img"),
    ),
    no_use("a card reader without a card", _held, lambda m: write(m.disk / "size", "0")),
    no_use(
        "a second display's frame buffer",
        lambda m: m.frame_buffers(m.tree.sys / "devices/platform/x", m.gpu),
    ),
    no_use("a frame buffer without text on it", lambda m: m.frame_buffers(m.gpu, bound="0")),
    no_use(
        "text without a frame buffer", lambda m: m.frame_buffers(m.gpu, name="(S) dummy device")
    ),
    no_use(
        "a console without a device",
        lambda m: m.put("proc/consoles", "pstore0 -W- (E     )\nttyS0 -W- (EC   p  )    4:64"),
    ),
    no_use(
        "a watchdog that sleeps",
        lambda m: write(m.gpu / "watchdog/watchdog0/state", "inactive"),
        lambda m: link(m.tree.sys / "class/watchdog/watchdog0", m.gpu / "watchdog/watchdog0"),
    ),
    no_use(
        "a guest's bridge without a card",
        lambda m: m.virtual("virbr0"),
        lambda m: m.interfaces.update(web=["virbr0"]),
    ),
)


@pytest.mark.parametrize("line", USES, ids=lambda line: line.name)
def test_each_use_of_a_device_is_found_and_what_is_none_is_not(tree: SysTree, line: Line) -> None:
    made = Made(tree)
    for step in line.steps:
        step(made)
    found = found_in(made)
    if line.guard:
        assert line.guard in found.get(line.address, [])
    else:
        assert found == {}
    assert {use.chain[0] for of in made.uses().values() for use in of} <= {*found, NIC}


def test_the_table_has_a_line_for_each_of_seventy_uses_and_more() -> None:
    uses = {line.name for line in USES if line.guard}
    assert len(uses) >= 70
    assert len({line.name for line in USES}) == len(USES)


def test_the_table_has_every_guard_that_the_adapter_can_speak() -> None:
    of_others = {
        "ssh",
        "protect",
        "sibling",
        "virtual-function",
    }  # asked in test_host_uses.py and of the planner
    assert {line.guard for line in USES if line.guard} | of_others == set(GUARDS)


def test_the_guards_have_the_same_names_in_code_schema_and_documentation() -> None:
    root = Path(__file__).parents[2]
    schema = json.loads((root / "schemas/policy.schema.json").read_text())
    guard = schema["$defs"]["guard"]
    assert tuple(guard["enum"]) == GUARDS
    assert [name for name in GUARDS if f"`{name}`" not in guard["description"]] == []
    documented = (root / "contrib/docs/policy.md").read_text()
    assert [name for name in GUARDS if f"`{name}`" not in documented] == []
