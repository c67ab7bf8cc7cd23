"""What the kernel shows below /sys and /proc, built of folders, files and links as the kernel makes them."""

from __future__ import annotations

from shutil import rmtree
from typing import TYPE_CHECKING

from cede.util.kernel_files import listing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


class SysTree:
    """Builds what the kernel shows below /sys and /proc, the links as the kernel makes them."""

    def __init__(self, root: Path) -> None:
        self.root, self.sys, self.proc = root, root / "sys", root / "proc"
        for folder in ("bus/pci/devices", "bus/pci/drivers", "class/net", "dev/block"):
            (self.sys / folder).mkdir(parents=True)
        self._mounts: list[str] = []

    def function(
        self,
        address: str,
        *,
        under: Path | None = None,
        identity: str = "8086:10d3",
        subsystem: str = "8086:0000",
        class_code: str = "020000",
        driver: str | None = None,
        reset: str = "pm bus",
        net: Mapping[str, str] | None = None,
    ) -> Path:
        """One PCI function, behind the bridge `under` if there is one; `net` maps interfaces to MACs."""
        path = (under or self.sys / "devices/pci0000:00") / address
        path.mkdir(parents=True)
        link(self.sys / "bus/pci/devices" / address, path)
        event = (
            f"PCI_CLASS={class_code.lstrip('0')}\nPCI_ID={identity}\nPCI_SUBSYS_ID={subsystem}\n"
            f"PCI_SLOT_NAME={address}"
        )
        write(path / "uevent", event.upper())
        write(path / "driver_override", "(null)")
        write(path / "reset_method", reset)
        self.bind(address, driver)
        for name, mac in (net or {}).items():
            self.interface(name, path, mac=mac)
        return path

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

    def route(self, *lines: str) -> None:
        head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
        write(self.proc / "net/route", "\n".join([head, *lines]))

    def route6(self, *lines: str) -> None:
        write(self.proc / "net/ipv6_route", "\n".join(lines))
