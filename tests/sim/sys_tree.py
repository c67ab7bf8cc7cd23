"""What the kernel shows below /sys and /proc, built of folders, files and links as the kernel makes them."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.nodes import DeviceNumber, Nodes
from cede.model.network import Interface, Network, Redirect, Route
from cede.util.kernel_files import listing, readlink, text
from sim.config_spaces import E1000E

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def write(path: Path, said: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said + "\n", encoding="utf-8")


class TreeNodes(Nodes):
    """The device nodes of a tree: files that say `block 8:1`; the kernel holds those that say `block 8:1 held`."""

    def number(self, path: str) -> DeviceNumber | None:
        said = text(path).split()
        return DeviceNumber(said[0] == "block", said[1]) if said[:1] in KINDS else None

    def held(self, path: str, number: str) -> bool:
        return text(path).split() == ["block", number, "held"]

    def filesystem(self, path: str) -> str | None:
        return text(path) or None


KINDS = (["block"], ["char"])


class SysTree:
    """Builds what the kernel shows below /sys and /proc, the links as the kernel makes them."""

    def __init__(self, root: Path) -> None:
        self.root, self.sys, self.proc = root, root / "sys", root / "proc"
        for folder in ("bus/pci/devices", "bus/pci/drivers", "class/net", "dev/block"):
            (self.sys / folder).mkdir(parents=True)
        self._mounts = ["22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw"]
        write(self.proc / "self/mountinfo", self._mounts[0])
        write(self.proc / "net/tcp", "  sl  local_address rem_address   st")
        self.nodes = TreeNodes()
        self.known: list[Interface] = []
        self.routes: list[Route] = []
        self.reached: dict[str, str] = {}
        self.ipsec: list[tuple[str, str]] = []
        self.l2tp: list[tuple[str, str]] = []
        self.redirected: list[Redirect] = []

    def function(
        self,
        address: str,
        *,
        under: Path | None = None,
        identity: str = "8086:10d3",
        subsystem: str = "8086:0000",
        class_code: str = "020000",
        driver: str | None = None,
        config: bytes | None = E1000E,
        net: Mapping[str, str] | None = None,
    ) -> Path:
        """One PCI function, behind the bridge `under` or a port of its bus; `net` maps interfaces to MACs.

        `config` is its configuration space, by which it resets; None if that can't be read.
        """
        path = (under or self._above(address)) / address
        path.mkdir(parents=True)
        link(self.sys / "bus/pci/devices" / address, path)
        event = (
            f"PCI_CLASS={class_code.lstrip('0')}\nPCI_ID={identity}\nPCI_SUBSYS_ID={subsystem}\n"
            f"PCI_SLOT_NAME={address}"
        )
        write(path / "uevent", event.upper())
        write(path / "driver_override", "(null)")
        if config is not None:
            (path / "config").write_bytes(config)
        self.bind(address, driver)
        for name, mac in (net or {}).items():
            self.interface(name, path, mac=mac)
        return path

    def _above(self, address: str) -> Path:
        """The folder of the root bus, or of a root port that isn't listed itself, for fewer devices to count."""
        segment, bus, _ = address.split(":")
        root = self.sys / f"devices/pci{segment}:00"
        if bus == "00":
            return root
        port = root / f"{segment}:00:1c.0"
        write(port / "uevent", "PCI_CLASS=60400")
        return port

    def sriov(self, address: str, total: int) -> None:
        """The function can have so many virtual ones."""
        path = self.sys / "bus/pci/devices" / address
        for name, said in (("totalvfs", total), ("numvfs", 0), ("drivers_autoprobe", 1)):
            write(path / f"sriov_{name}", str(said))

    def virtual_of(self, address: str) -> list[str]:
        path = self.sys / "bus/pci/devices" / address
        return [
            readlink(path / name).rpartition("/")[2]
            for name in listing(path)
            if name.startswith("virtfn")
        ]

    def make_virtual(self, address: str, count: int, *, driver: str | None) -> None:
        """Its driver makes so many, which dom0's `driver` takes; all others go first."""
        path = (self.sys / "bus/pci/devices" / address).resolve()
        write(path / "sriov_drivers_autoprobe", str(int(driver is not None)))
        there = self.virtual_of(address)
        if len(there) == count:
            return
        for index, name in enumerate(there):
            (path / f"virtfn{index}").unlink()
            (self.sys / "bus/pci/devices" / name).unlink()
            rmtree(path.parent / name)
        for index in range(count):
            name = f"{address[:-4]}{0x10 + index // 4:02x}.{index % 4 * 2}"
            virtual = self.function(name, under=path.parent, identity="8086:10ca", driver=driver)
            link(virtual / "physfn", path)
            link(path / f"virtfn{index}", virtual)
        write(path / "sriov_numvfs", str(count))

    def bind(self, address: str, driver: str | None) -> None:
        link = self.sys / "bus/pci/devices" / address / "driver"
        link.unlink(missing_ok=True)
        if driver is not None:
            folder = self.sys / "bus/pci/drivers" / driver
            folder.mkdir(exist_ok=True)
            link.symlink_to(folder)

    def override(self, address: str, driver: str | None) -> None:
        write(self.sys / "bus/pci/devices" / address / "driver_override", driver or "(null)")

    def slots(self, *addresses: str) -> Path:
        """Load pciback with these slots; returns its folder."""
        folder = self.sys / "bus/pci/drivers/pciback"
        write(folder / "slots.new", "\n".join(addresses))
        (folder / "slots.new").replace(folder / "slots")  # nobody reads half of it
        write(folder / "remove_slot", "")
        return folder

    def interface(
        self, name: str, below: Path | None = None, *, mac: str = "", lowers: Sequence[str] = ()
    ) -> None:
        path = (below or self.sys / "devices/virtual") / "net" / name
        write(path / "address", mac)
        link(self.sys / "class/net" / name, path)
        for lower in lowers:
            link(path / f"lower_{lower}", self.sys / "class/net" / lower)

    def remove_interfaces(self, below: Path) -> None:
        """As a driver does that lets go of its card."""
        for name in listing(below / "net"):
            (self.sys / "class/net" / name).unlink()
        rmtree(below / "net", ignore_errors=True)

    def disk(self, name: str, below: Path | None = None, *, slaves: Sequence[str] = ()) -> Path:
        path = (below or self.sys / "devices/virtual") / "block" / name
        return self.block(path, slaves)

    def block(self, path: Path, slaves: Sequence[str] = ()) -> Path:
        number = f"254:{len(list((self.sys / 'dev/block').iterdir()))}"
        write(path / "dev", number)
        link(self.sys / "dev/block" / number, path)
        link(self.sys / "class/block" / path.name, path)
        for slave in slaves:
            link(path / "slaves" / slave, self.sys / "class/block" / slave)
        return path

    def partition(self, disk: Path, name: str) -> Path:
        path = self.block(disk / name)
        write(path / "partition", "1")
        return path

    def mount(self, where: str, block: Path | None = None, *, source: str = "none") -> None:
        number = (block / "dev").read_text().strip() if block else "0:42"
        self._mounts.append(f"29 1 {number} / {where} rw,relatime shared:1 - ext4 {source} rw")
        write(self.proc / "self/mountinfo", "\n".join(self._mounts))

    def swap(self, *names: str) -> None:
        lines = [f"/dev/{name} partition 1048572 0 -2" for name in names]
        write(self.proc / "swaps", "\n".join(["Filename Type Size Used Priority", *lines]))

    def process(self, number: int, name: str, *opens: Path | str, **namespaces: str) -> Path:
        """A process with these files open, in the namespaces `mnt` and `net` of those names."""
        folder = self.proc / str(number)
        write(folder / "comm", name)
        for descriptor, path in enumerate(opens, 3):
            link(folder / "fd" / str(descriptor), Path(path))
        for kind, space in namespaces.items():
            link(folder / "ns" / kind, Path(f"{kind}:[{space}]"))
        return folder

    def node(self, device: Path, *, held: bool = False) -> Path:
        """The node of a block device, or of any other that has a number."""
        number = text(device / "dev")
        kind = "block" if (self.sys / "dev/block" / number).exists() else "char"
        node = self.root / "dev" / device.name.replace("!", "/")
        write(node, f"{kind} {number}{' held' if held else ''}")
        return node

    def character(self, path: Path, number: str) -> Path:
        """A character device at a path in sysfs; returns its node."""
        write(path / "dev", number)
        link(self.sys / "dev/char" / number, path)
        return self.node(path)

    # -- what `ip` tells

    def route(self, interface: str, destination: str = "0.0.0.0/0", **about: object) -> None:
        self.routes.append(
            Route(destination=destination, interface=interface, **{"via": True, **about})  # type: ignore[arg-type]
        )

    def network(self) -> Network:
        return Network(interfaces=tuple(self.known), routes=tuple(self.routes))

    def ways(self, peers: Sequence[str]) -> dict[str, str]:
        return {peer: self.reached[peer] for peer in peers if peer in self.reached}

    def l2tp_ends(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.l2tp)

    def ipsec_ends(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.ipsec)

    def redirects(self) -> tuple[Redirect, ...]:
        return tuple(self.redirected)
