"""The files of this host that cede reads, for a report: bounded, the links as they are, and none of anybody's secrets.

Sources: Documentation/ABI/testing/sysfs-bus-pci, sysfs-class-net (Linux); modprobe.d(5), modules-load.d(5).
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.linux.config_space import SIZE, serial_number
from cede.model.host_answers import ReportFile
from cede.util.kernel_files import link_name, listing, matching, realpath, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_FUNCTION = (
    "uevent", "vendor", "device", "class", "subsystem_vendor", "subsystem_device", "driver_override",
    "max_link_speed", "enable", "power_state", "power/runtime_status", "modalias", "boot_vga", "resource", "revision",
    "config", "sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe",
)  # fmt: skip
_CLASSES = {
    "sys/class/net": ("address", "addr_assign_type"),
    "sys/class/block": ("size", "partition", "dev", "device/vendor", "device/model"),
    "sys/class/sound": (),
    "sys/class/drm": (),
    "sys/bus/usb/devices": ("bDeviceClass", "manufacturer", "product"),
}
_OF_HOST = (
    "sys/hypervisor/type", "sys/hypervisor/properties/features", "sys/hypervisor/version/*",
    "sys/bus/pci/drivers/pciback/slots", "sys/bus/pci/drivers/pciback/permissive",
    "sys/kernel/security/lockdown", "etc/inittab",
    "proc/cmdline", "proc/modules", "proc/version", "proc/sys/kernel/osrelease", "proc/sys/kernel/random/boot_id",
    "etc/modules", "etc/initramfs-tools/modules", "etc/initramfs-tools/modules.d/*", "etc/dracut.conf",
    "usr/share/initramfs-tools/modules.d/*", "etc/dracut.conf.d/*.conf", "etc/default/grub", "etc/default/grub.d/*.cfg",
    *(f"{root}/{kind}/*.conf" for root in ("etc", "run", "usr/local/lib", "usr/lib")
      for kind in ("modprobe.d", "modules-load.d")),
    "etc/cede/policy.yaml", "etc/cede/policy.d/*.yaml", "etc/libvirt/libxl/*.xml", "etc/xen/*.cfg",
    "var/log/libvirt/libxl/*.log",
)  # fmt: skip
# that there are such folders tells something
_FOLDERS = (
    "sys/module/xen_pciback",
    "usr/lib/dracut/modules.d/90qubes-pciback",
    "run/systemd/system",
)
_MAX_FILE, _MAX_FILES = 1 << 20, 20000
_ASLEEP = {"suspended", "suspending"}


def report_files(root: Path) -> Iterator[ReportFile]:
    """Yield each file that can be read, of a larger one the last MiB; at most 20,000 of them."""
    yield from islice(_all(root), _MAX_FILES)


def _all(root: Path) -> Iterator[ReportFile]:
    yield ReportFile(path="etc/modprobe.d/")
    for pattern in _OF_HOST:
        for path in matching(root, pattern):
            yield from _file(root, path)
    for driver in listing(root / "sys/bus/pci/drivers"):
        yield ReportFile(path=f"sys/bus/pci/drivers/{driver}/", link="")
    for folder in _FOLDERS:
        if (root / folder).is_dir():
            yield ReportFile(path=f"{folder}/")
    devices = "sys/bus/pci/devices"
    for name in listing(root / devices):
        place = _place(root, f"{devices}/{name}")
        if place:
            yield _link(f"{devices}/{name}", place)
            yield from _function(root, place)
    yield from _nodes(root)


def _nodes(root: Path) -> Iterator[ReportFile]:
    """What hangs on functions, by its class."""
    for folder, files in _CLASSES.items():
        yield ReportFile(path=f"{folder}/")
        for name in listing(root / folder):
            place = _place(root, f"{folder}/{name}")
            if place:
                yield _link(f"{folder}/{name}", place)
                yield ReportFile(path=f"{place}/")
                for file in files:
                    yield from _file(root, f"{place}/{file}")


def _function(root: Path, place: str) -> Iterator[ReportFile]:
    asleep = (
        text(root / place / "power/runtime_status") in _ASLEEP
        or text(root / place / "power_state") == "D3cold"
    )
    for file in _OF_FUNCTION:
        if not (file == "config" and asleep):  # reading would wake it
            yield from _file(root, f"{place}/{file}")
    driver = link_name(root / place / "driver")
    if driver is not None:
        yield _link(f"{place}/driver", f"sys/bus/pci/drivers/{driver}")
    for name in listing(root / place):
        if name == "physfn" or name.startswith("virtfn"):
            target = _place(root, f"{place}/{name}")
            if target:
                yield _link(f"{place}/{name}", target)


def _place(root: Path, path: str) -> str:
    """Where a link of sysfs leads to, below the root; empty if not below it."""
    found, base = realpath(root / path), realpath(root)
    if found is None or base is None or not found.startswith(f"{base.rstrip('/')}/sys/"):
        return ""
    return found.removeprefix(base.rstrip("/")).lstrip("/")


def _link(path: str, target: str) -> ReportFile:
    return ReportFile(path=path, link=os.path.relpath(f"/{target}", f"/{Path(path).parent}"))


def _file(root: Path, path: str) -> Iterator[ReportFile]:
    try:
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            size = os.fstat(descriptor).st_size
            if path.startswith("var/log/") and size > _MAX_FILE:
                file.seek(-_MAX_FILE, os.SEEK_END)
            said = _upto(descriptor, SIZE if path.endswith("/config") else _MAX_FILE)
        except OSError:
            return
    serial = None
    if path.endswith("/config") and path.startswith("sys/"):
        serial = serial_number(lambda offset, length: said[offset : offset + length])
    yield ReportFile(path=path, content=said, serial=serial)


def _upto(descriptor: int, most: int) -> bytes:
    said = b""
    while len(said) < most and (chunk := os.read(descriptor, most - len(said))):
        said += chunk
    return said
