"""What the kernel is to be told so that pciback has the policy's devices before any other driver does.

Earlier than `cede boot` only the initramfs can be. What it hides it hides by address, whatever card stands there by
then, and it asks no guard: so only devices that may go are proposed.
Sources: drivers/xen/xen-pciback/pci_stub.c, modprobe.d(5), modules-load.d(5), initramfs-tools(7), dracut.conf(5),
dracut.cmdline(7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.model.pci import PCIBACK, Address
from cede.model.plan import Refused
from cede.planner.boot_plan import held_back
from cede.planner.hide_mistakes import BootConfiguration, Mistake, mistakes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cede.model.inventory import Inventory
    from cede.model.pci import Device
    from cede.model.policy import Policy

_HEAD = "# For cede, which tells it anew with `cede boot --print`."
_REBUILD = {"initramfs-tools": "update-initramfs -u -k all", "dracut": "dracut -f --regenerate-all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to write, or a line to add to one.

    `path` is where it is; `lines` are what is to stand in it; `why` is what the lines do; `then` is the command that
    makes it count, empty if none is needed.
    """

    path: str
    lines: tuple[str, ...]
    why: str
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyBoot:
    """How devices are held back from the very start, and what is wrong with how they are today.

    `devices` are the addresses that may be held back, in order; `files` are to be written or added to; `left_out` are
    the devices of the policy that are not held back, and why; `mistakes` are what is wrong with what the host is told.
    """

    devices: tuple[Address, ...]
    files: tuple[File, ...]
    left_out: tuple[Refused, ...]
    mistakes: tuple[Mistake, ...]


def early_boot(policy: Policy, inventory: Inventory, configuration: BootConfiguration) -> EarlyBoot:
    """What to write for this policy on this host."""
    devices, planned = held_back(policy, inventory)
    addresses = tuple(sorted(device.address for device in devices))
    return EarlyBoot(
        devices=addresses,
        files=tuple(_files(devices, configuration)) if devices else (),
        left_out=planned.refusals,
        mistakes=tuple(mistakes(addresses, policy, inventory, configuration)),
    )


def _files(devices: Iterable[Device], configuration: BootConfiguration) -> Iterator[File]:
    hide = "".join(f"({address})" for address in sorted(d.address for d in devices))
    drivers = sorted({driver for device in devices if (driver := _own_driver(device))})
    parameter = f"xen-pciback.hide={hide}"
    if "dracut" in configuration.makers and not configuration.built_in:
        parameter = f"rd.driver.pre=xen-pciback {parameter}"
    if not configuration.built_in:
        yield File(
            path="/etc/modules-load.d/cede.conf",
            lines=(_HEAD, "xen-pciback"),
            why="loads xen-pciback at every boot, before `cede boot` needs it; too late to be there before the drivers",
        )
        yield File(
            path="/etc/modprobe.d/cede.conf",
            lines=(
                _HEAD,
                f"options xen-pciback hide={hide}",
                *(f"softdep {driver} pre: xen-pciback" for driver in drivers),
            ),
            why="has xen-pciback take these addresses when it is loaded, and loads it before "
            + (" and ".join(drivers) or "any driver of theirs"),
        )
        yield from _initramfs(configuration)
    yield File(
        path="/etc/default/grub.d/cede.cfg",
        lines=(_HEAD, f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {parameter}"'),
        why="the same on the kernel's command line, which "
        + (
            "a xen-pciback that is built in reads before any driver is there"
            if configuration.built_in
            else "overrules modprobe.d; one of the two is enough"
        ),
        then="update-grub (elsewhere: the line in /etc/default/grub, and grub2-mkconfig -o /boot/grub2/grub.cfg)",
    )


def _initramfs(configuration: BootConfiguration) -> Iterator[File]:
    makers = configuration.makers or tuple(_REBUILD)
    if "initramfs-tools" in makers:
        yield File(
            path="/etc/initramfs-tools/modules",
            lines=("xen-pciback",),
            why="a line to add: puts xen-pciback into the initramfs and loads it there, before udev loads drivers; "
            "modprobe.d goes along",
            then=_REBUILD["initramfs-tools"],
        )
    if "dracut" in makers:
        yield File(
            path="/etc/dracut.conf.d/cede.conf",
            lines=(
                _HEAD,
                'force_drivers+=" xen-pciback "',
                'install_items+=" /etc/modprobe.d/cede.conf "',
            ),
            why="puts xen-pciback and its options into the initramfs and loads it there before udev loads drivers, as "
            "rd.driver.pre=xen-pciback on the kernel's command line does",
            then=_REBUILD["dracut"],
        )


def _own_driver(device: Device) -> str | None:
    """The driver that dom0 would have it with."""
    if device.driver not in {None, PCIBACK}:
        return device.driver
    return device.original_state.driver if device.original_state else None
