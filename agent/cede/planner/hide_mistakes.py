"""What is wrong with what xen-pciback is told to hide at boot: the kernel itself says next to nothing of it.

One wrong bracket and the module doesn't load; a right one in the wrong place, and the host loses what it lives on.
Source: drivers/xen/xen-pciback/pci_stub.c (pcistub_init), modprobe.d(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cede.errors import FailureKind
from cede.model.pci import PCIBACK
from cede.model.pciback_options import SPELLING, Hide
from cede.planner.guards import guards
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.model.policy import Policy

_EARLY = (
    "/etc/initramfs-tools/",
    "/usr/share/initramfs-tools/",
    "/etc/dracut.conf",
    "rd.driver.pre=",
)
_MAX_QUOTE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfiguration:
    """What the host is told at boot today.

    `settings` are all that set `hide=`, in the order in which the last one counts; `loaders` what has xen-pciback
    loaded, files and words of the kernel's command line; `makers` make the initramfs; `built_in` says that the module
    is part of the kernel, None that neither that nor what is in the initramfs is told.
    """

    settings: tuple[Hide, ...] = ()
    loaders: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    built_in: bool | None = False

    @property
    def early(self) -> bool:
        """Whether xen-pciback can be there before udev loads drivers."""
        return bool(self.built_in) or any(loader.startswith(_EARLY) for loader in self.loaders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something wrong with what the host is told at boot.

    `name` is its kind, for scripts; `place` is the file, or the kernel's command line; `what` says what is wrong;
    `remedy` is what the administrator can do.
    """

    name: Literal[
        "ignored", "malformed", "twice", "no-device", "guarded", "not-assigned", "overruled", "late", "ineffective",
        "missing",
    ]  # fmt: skip
    place: str
    what: str
    remedy: str
    kind: FailureKind = FailureKind.OUT_OF_SYNC


def mistakes(
    wanted: tuple[Address, ...],
    policy: Policy,
    inventory: Inventory,
    configuration: BootConfiguration,
) -> Iterator[Mistake]:
    """Return all that is wrong where `expected` are the addresses that may be hidden."""
    heeded = [setting for setting in configuration.settings if not setting.ignored]
    for setting in configuration.settings:
        if setting.ignored:
            yield Mistake(
                name="ignored",
                place=one_line(setting.place),
                what="no effect: the module is called xen-pciback since Linux 3.1",
                remedy="use xen-pciback.hide= instead",
            )
    for setting in heeded:
        yield from _unreadable(setting)
        yield from _twice(setting, inventory)
        for address in _addresses(setting, inventory):
            yield from _misdirected(address, setting, wanted, policy, inventory)
    if heeded:
        yield from _without_effect(heeded, wanted, inventory, configuration)


def _addresses(setting: Hide, inventory: Inventory) -> tuple[Address, ...]:
    return setting.addresses([device.address for device in inventory.devices])


def _unreadable(setting: Hide) -> Iterator[Mistake]:
    if setting.bad:
        yield Mistake(
            name="malformed",
            place=one_line(setting.place),
            what=f"the kernel can't parse hide= from {_short(setting.bad)!a} on, and refuses the whole module",
            remedy=f"correct hide=: no commas, and {SPELLING}",
            kind=FailureKind.FAILED,
        )


def _twice(setting: Hide, inventory: Inventory) -> Iterator[Mistake]:
    for address in _addresses(setting, inventory):
        if sum(entry.covers(address) for entry in setting.hidden) > 1:
            yield Mistake(
                name="twice",
                place=one_line(setting.place),
                what=f"{address} occurs more than once",
                remedy="keep one entry",
            )


def _misdirected(
    address: Address,
    setting: Hide,
    wanted: tuple[Address, ...],
    policy: Policy,
    inventory: Inventory,
) -> Iterator[Mistake]:
    device, place = inventory.device(address), one_line(setting.place)
    if device is None:
        yield Mistake(
            name="no-device",
            place=place,
            what=f"this host has no device at {address}: an address is a place, and cards move",
            remedy=f"`cede devices` lists the devices; remove ({address})",
        )
        return
    if address in wanted:
        return
    uses = guards(device, policy.protect)
    if uses:
        yield Mistake(
            name="guarded",
            place=place,
            what=f"{address} is hidden from the host, which uses the device: {'; '.join(map(str, uses))}",
            remedy=f"remove ({address}) before the next boot",
            kind=FailureKind.UNSAFE,
        )
    else:
        yield Mistake(
            name="not-assigned",
            place=place,
            what=f"{address} is hidden from dom0, and the policy does not assign it",
            remedy=f"remove ({address}), or assign the device",
        )


def _without_effect(
    heeded: Sequence[Hide],
    wanted: tuple[Address, ...],
    inventory: Inventory,
    configuration: BootConfiguration,
) -> Iterator[Mistake]:
    ruling = _ruling(heeded)
    place, hidden = one_line(ruling.place), _addresses(ruling, inventory)
    if len(heeded) > 1:
        yield Mistake(
            name="overruled",
            place=", ".join(
                dict.fromkeys(one_line(hide.place) for hide in heeded if hide is not ruling)
            ),
            what=f"hide= is set {len(heeded)} times, of which the last counts: {place}",
            remedy="keep one setting",
        )
    if hidden and not configuration.early and configuration.built_in is not None:
        yield Mistake(
            name="late",
            place=place,
            what="xen-pciback is neither built in nor named for the initramfs, so other drivers may bind first",
            remedy="add xen-pciback to the initramfs (`cede boot --print` says how), or leave that to `cede boot`",
        )
    for address in hidden:
        device = inventory.device(address)
        if device is None or address not in wanted or device.driver in {None, PCIBACK}:
            continue
        yield Mistake(
            name="ineffective",
            place=place,
            what=f"{device.address} is set to be hidden, but is bound to {device.driver}",
            remedy="rebuild the initramfs and restart the host; see dom0's kernel log (dmesg) for xen_pciback",
        )
    missing = [address for address in wanted if address not in hidden]
    if missing and not ruling.bad:
        yield Mistake(
            name="missing",
            place=place,
            what=f"{', '.join(map(str, missing))} is assigned, but not hidden",
            remedy="add the device to hide=, or leave that to `cede boot`",
        )


def _ruling(heeded: Sequence[Hide]) -> Hide:
    """The kernel's command line overrules modprobe.d; of each, the last one counts."""
    given = [setting for setting in heeded if setting.on_command_line]
    return (given or heeded)[-1]


def _short(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else text[: _MAX_QUOTE - 3] + "..."
