"""The adapter to dom0's sysfs: the PCI functions, their drivers, and pciback's own files.

Sources: Documentation/ABI/testing/sysfs-bus-pci, Documentation/ABI/testing/sysfs-driver-pciback (Linux).
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from cede.adapters.linux.config_files import Resets, Serials, asleep, read_config, serial
from cede.adapters.linux.config_space import isolation, switched_on
from cede.adapters.linux.device_faults import aer_errors, off_the_bus
from cede.adapters.linux.device_nodes import device_nodes
from cede.adapters.linux.requesters import Requesters
from cede.adapters.linux.sysfs_paths import functions, is_function, is_root_bus
from cede.errors import IndeterminateError, PermanentError
from cede.model.pci import PCIBACK, Address, Device, Identity, Isolation, Node, SwitchedOn
from cede.model.virtual_functions import VirtualFunctions
from cede.util import process
from cede.util.kernel_files import (
    beginning,
    existing_link_name,
    existing_text,
    link_name,
    listing,
    readlink,
    text,
)
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NET_ADDR_RANDOM = "1"  # include/uapi/linux/netdevice.h
_NET_ADDR_GIVEN = {"2", "3"}  # stolen from another interface, set by the administrator or a bond
_NAMES = 4096  # of functions, parsed once
_CHOSEN = re.compile(r"\[([a-z]{1,32})\]")
_CLASS_DIGITS = 6  # of which the kernel leaves out the leading zeros
_REMOVABLE = {"removable": True, "fixed": False}


def _readable(path: str) -> str:
    """Return a file's text, empty if there is none. Raises IndeterminateError if there is one that can't be read."""
    try:
        return existing_text(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> IndeterminateError:
    return IndeterminateError(
        f"{path} can't be read: {error.strerror}; what can't be told of a device is not taken for no",
        name="sysfs-unreadable",
        remedy="is sysfs mounted, and does cede run as root? See dom0's kernel log (dmesg)",
    )


def _event(path: str) -> dict[str, str]:
    """Return the function's `uevent` as a mapping: one file instead of five (drivers/pci/pci-driver.c)."""
    lines = (line.partition("=") for line in _readable(f"{path}/uevent").lower().splitlines())
    return {name: value for name, _, value in lines}


@lru_cache(maxsize=_NAMES)
def _address(name: str) -> Address | None:
    """Parse an address; None if it is none."""
    try:
        return Address.parse(name)
    except ValueError:
        return None


@lru_cache(maxsize=_NAMES)
def _way(path: str) -> str:
    """`.../pci0000:00/0000:00:08.0/0000:01:00.0` as `pci0000:00/08.0/00.0`, without the buses that shift."""
    links: list[str] = []
    for part in path.split("/"):
        if is_root_bus(part):
            links.append(part)
        elif is_function(part) and links:
            links.append(part.rpartition(":")[2])
    return "/".join(links)


def _parent(way: str) -> Address | None:
    above = functions(way)[-2:-1]
    return Address.parse(above[0]) if above else None


class _VirtualFunctions:
    """Finds the physical function of each virtual one, reading each `virtfnN` folder once."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, int]] = {}

    def of(self, path: str, name: str) -> tuple[Address | None, int | None]:
        """Return the physical function of `name`, and the index there; None and None if not virtual."""
        physical = link_name(f"{path}/physfn")
        if physical is None:
            return None, None
        if physical not in self._seen:
            self._seen[physical] = self._indexes(f"{path}/physfn")
        return _address(physical), self._seen[physical].get(name)

    @staticmethod
    def _indexes(physical: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for link in listing(physical):
            index = number(link.removeprefix("virtfn")) if link.startswith("virtfn") else None
            virtual = None if index is None else link_name(f"{physical}/{link}")
            if virtual is not None and index is not None:
                found[virtual] = index
        return found


class Sysfs:
    """Reads and writes below `root` (normally `/sys`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices = f"{root}/bus/pci/devices"
        self._pciback = f"{root}/bus/pci/drivers/{PCIBACK}"
        self._serials, self._resets = Serials(), Resets()

    @property
    def pciback_loaded(self) -> bool:
        """Whether the driver directory of xen-pciback exists."""
        try:
            os.stat(self._pciback)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _unreadable(self._pciback, error) from error
        return True

    def pciback_slots(self) -> frozenset[Address]:
        """Return the addresses that pciback binds at the next probe (`slots`); empty if not loaded."""
        return self._listed("slots")

    def _listed(self, file: str) -> frozenset[Address]:
        addresses = (_address(line) for line in _readable(f"{self._pciback}/{file}").split())
        return frozenset(address for address in addresses if address is not None)

    def remove_pciback_slot(self, address: Address) -> None:
        """Remove the address from pciback's slots, so that the next probe leaves the device to its own driver.

        Raises PermanentError if the kernel refuses, HungError if the write does not return.
        """
        # in a process of its own: a write to sysfs can hang for ever, and would hang this process
        try:
            process.run("tee", f"{self._pciback}/remove_slot", stdin=str(address))
        except PermanentError as error:
            raise PermanentError(
                f"pciback does not drop the slot of {address}: {error.message}",
                name="slot-kept",
                remedy=f"echo {address} > {self._pciback}/remove_slot",
            ) from error

    def virtual_functions(self, address: Address) -> VirtualFunctions | None:
        """Return how many virtual functions the function has and can have; None if it is none that can have any.

        Raises IndeterminateError if that can't be told.
        """
        path = f"{self._devices}/{address}"
        return _virtual_functions(path, listing(path))

    def set_virtual_functions(self, address: Address, count: int, *, probed: bool) -> None:
        """Have the driver make so many virtual functions, of which dom0's drivers take none unless `probed`.

        The kernel goes from one number to another by way of none (drivers/pci/pci-sysfs.c, sriov_numvfs_store). Raises
        PermanentError if the kernel refuses, HungError if a write does not return.
        """
        path = f"{self._devices}/{address}"
        found = self.virtual_functions(address)
        if found is None or found.probed != probed:
            self._write(f"{path}/sriov_drivers_autoprobe", str(int(probed)))
        if found is None or found.count != count:
            if found is None or found.count:
                self._write(f"{path}/sriov_numvfs", "0")
            if count:
                self._write(f"{path}/sriov_numvfs", str(count))

    @staticmethod
    def _write(path: str, said: str) -> None:
        # in a process of its own: a write to sysfs can hang for ever, and would hang this process
        try:
            process.run("tee", path, stdin=said)
        except PermanentError as error:
            raise PermanentError(
                f"the kernel does not take {said} for {path}: {error.message}",
                name="virtual-functions-kept",
                remedy="see the end of dom0's kernel log (dmesg)",
            ) from error

    def driver(self, address: Address) -> str | None:
        """Return the name of the driver bound now, or None. Raises IndeterminateError if that can't be told."""
        path = f"{self._devices}/{address}/driver"
        try:
            return existing_link_name(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def driver_override(self, address: Address) -> str | None:
        """Return the only driver that may bind the device; None if any may."""
        override = _readable(f"{self._devices}/{address}/driver_override")
        return None if override in {"", "(null)"} else override

    def serial(self, address: Address) -> str | None:
        """Return the PCIe device serial number, for which the device is woken; None if the device has none."""
        return serial(f"{self._devices}/{address}")

    def switched_on(self, address: Address) -> SwitchedOn | None:
        """Return what is switched on in the device itself; None if unreadable."""
        return read_config(f"{self._devices}/{address}", lambda _, read: switched_on(read))

    def isolation(self, address: Address) -> Isolation | None:
        """Return what the function does to keep its peers apart; None if unreadable, or if reading would wake it."""
        path = f"{self._devices}/{address}"
        if asleep(path):
            return None
        return read_config(path, lambda _, read: isolation(read))

    def permissive(self) -> frozenset[Address]:
        """Return the addresses that pciback treats as permissive."""
        return self._listed("permissive")

    def lockdown(self) -> str | None:
        """Return the kernel's lockdown: `none`, `integrity` or `confidentiality`; None if that can't be told.

        Everybody may read it (security/lockdown/lockdown.c: mode 0644), where securityfs is mounted.
        """
        chosen = _CHOSEN.search(text(f"{self.root}/kernel/security/lockdown"))
        return chosen[1] if chosen else None

    def modalias(self, address: Address) -> str:
        """Return the alias by which modprobe finds the device's driver; empty if unreadable."""
        return text(f"{self._devices}/{address}/modalias")

    def interfaces(self, address: Address) -> tuple[str, ...]:
        """Return the network interfaces of the device, including virtio's one level down."""
        here = f"{self._devices}/{address}"
        return tuple(name for name, _ in _net(here, listing(here)))

    def random_macs(self, address: Address) -> frozenset[str]:
        """Return those of the device's network interfaces whose driver made their MAC up."""
        here = f"{self._devices}/{address}"
        entries = listing(here)
        return frozenset(
            name
            for name, folder in _net(here, entries)
            if _is_made_up(text(f"{folder}/addr_assign_type"), entries)
        )

    def nodes(self) -> dict[Address, tuple[Node, ...]]:
        """Return by address what dom0 has through each function, in the order of names."""
        return device_nodes(self.root)

    def devices(self) -> tuple[Device, ...]:
        """Return every PCI function in address order, without dom0's uses of it.

        Raises IndeterminateError if they can't be listed or read: a device that isn't returned counts as vanished.
        """
        slots, looks = self.pciback_slots(), (_VirtualFunctions(), Requesters(self._devices))
        try:
            names = sorted(os.listdir(self._devices))
        except OSError as error:
            raise _unreadable(self._devices, error) from error
        found = (self._device(name, slots, *looks) for name in names)
        return tuple(sorted((d for d in found if d is not None), key=lambda d: d.address))

    def device(self, address: Address) -> Device | None:
        """Return the PCI function at `address`, without dom0's uses of it; None if there is none."""
        looks = (_VirtualFunctions(), Requesters(self._devices))
        return self._device(str(address), self.pciback_slots(), *looks)

    def power(self, address: Address) -> str:
        """Return the device's power state (`D0`, `D3hot`, `D3cold`, `unknown`); empty if unreadable."""
        return text(f"{self._devices}/{address}/power_state")

    def identity(self, address: Address) -> Identity | None:
        """Return the identity of the function at `address`; None if there is none, or it is vanishing."""
        event = _event(f"{self._devices}/{address}")
        vendor, _, device = event.get("pci_id", "").partition(":")
        if not vendor or not device:
            return None
        return Identity(
            vendor=vendor,
            device=device,
            subsystem=event.get("pci_subsys_id", ""),
            class_code=event.get("pci_class", "").zfill(_CLASS_DIGITS),
        )

    def instance(self, address: Address) -> int | None:
        """Return the number that the kernel gave to the function when it came; None if there is none.

        Each folder of sysfs has another inode than all before it (fs/kernfs/dir.c, __kernfs_new_node), so the number
        tells a card from one that was at the address before, as no number of the card's own always does.
        """
        try:
            return os.stat(f"{self._devices}/{address}").st_ino
        except OSError:
            return None

    def _device(
        self,
        name: str,
        slots: frozenset[Address],
        virtual: _VirtualFunctions,
        requesters: Requesters,
    ) -> Device | None:
        address = _address(name)
        identity = self.identity(address) if address else None
        if address is None or identity is None:
            return None  # it vanished while it was read
        path = f"{self._devices}/{name}"
        entries, way = listing(path), readlink(path)
        physical_function, function_index = virtual.of(path, name)
        net, sleeps, instance = _net(path, entries), asleep(path), self.instance(address)
        mac, mac_set = _mac(net[0][1], entries) if net else (None, False)
        resets = self._resets.of(path, way, instance, entries, is_bridge=identity.is_bridge)
        return Device(
            address=address,
            identity=identity,
            driver=self.driver(address),
            driver_override=self.driver_override(address),
            reset=resets.reset,
            on_root_bus=resets.on_root_bus,
            interfaces=tuple(found for found, _ in net),
            mac=mac,
            mac_set=mac_set,
            serial=self._serials.of(path, instance, asleep=sleeps),
            asleep=sleeps,
            path=_way(way),
            ari="ari_enabled" in entries and text(f"{path}/ari_enabled") == "1",
            parent=_parent(way),
            removable=_REMOVABLE.get(text(f"{path}/removable")),
            physical_function=physical_function,
            function_index=function_index,
            virtual_functions=_virtual_functions(path, entries),
            requester=requesters.of(way, entries),
            in_pciback_slots=address in slots,
            off_the_bus=not (sleeps or identity.is_bridge) and off_the_bus(path),
            aer_errors=() if identity.is_bridge else aer_errors(path, entries),
            instance=instance,
        )


def _virtual_functions(path: str, entries: Sequence[str]) -> VirtualFunctions | None:
    """Read the SR-IOV files of the function with the folder `entries`; what can't be read is not taken for none."""
    if "sriov_totalvfs" not in entries:
        return None
    names = ("sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe")
    total, count, probed = (number(_readable(f"{path}/{name}")) for name in names)
    if total is None or count is None:
        return None  # the function vanished while it was read
    return VirtualFunctions(total=total, count=count, probed=bool(probed) or probed is None)


def _mac(interface: str, entries: Sequence[str]) -> tuple[str | None, bool]:
    """Return an interface's MAC, None for one that the driver made up, and whether it was given to the interface.

    What the driver made up is another one at the next probe.
    """
    assigned = text(f"{interface}/addr_assign_type")
    mac = None if _is_made_up(assigned, entries) else text(f"{interface}/address") or None
    return mac, assigned in _NET_ADDR_GIVEN


def _is_made_up(assigned: str, entries: Sequence[str]) -> bool:
    """Whether the driver of the function with the folder `entries` made the MAC up, which was so `assigned`.

    udev gives a virtual function a lasting one instead (systemd.link(5), MACAddressPolicy=persistent), and the kernel
    then tells of that one: below it is the one that was made up.
    """
    return assigned == _NET_ADDR_RANDOM or ("physfn" in entries and assigned in _NET_ADDR_GIVEN)


def _net(path: str, entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return the network interfaces below a function with the folder `entries`, each with its folder; virtio's too.

    `entries` are sorted.
    """
    folders = [f"{path}/net"] if "net" in entries else []
    folders += [f"{path}/{entry}/net" for entry in beginning(entries, "virtio")]
    return sorted((name, f"{folder}/{name}") for folder in folders for name in listing(folder))
