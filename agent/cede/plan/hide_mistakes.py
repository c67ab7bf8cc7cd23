"""What is wrong with what xen-pciback is told to hide at boot: the kernel itself says next to nothing of it.

One wrong bracket and the module doesn't load; a right one in the wrong place, and the host loses what it lives on.
Source: drivers/xen/xen-pciback/pci_stub.c (pcistub_init), modprobe.d(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import Exit
from cede.model import PCIBACK
from cede.pciback_options import hidden, in_modprobe, named_for_initramfs, on_command_line
from cede.plan.guards import guards

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cede.address import Address
    from cede.model import Inventory
    from cede.policy import Policy

COMMAND_LINE = "the kernel's command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the host is told at boot today.

    `command_line` is that of the running kernel; `modprobe` and `initramfs` are the texts of the files that set
    module options and name modules for the initramfs, by path; `makers` make the initramfs; `built_in` says that
    xen-pciback is part of the kernel.
    """

    command_line: str = ""
    modprobe: tuple[tuple[str, str], ...] = ()
    initramfs: tuple[tuple[str, str], ...] = ()
    makers: tuple[str, ...] = ()
    built_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something wrong with what the host is told: `name` for scripts, where it stands, what it is, what to do."""

    name: str
    place: str
    what: str
    remedy: str
    exit: Exit = Exit.OUT_OF_STEP


def mistakes(
    wanted: tuple[Address, ...], policy: Policy, inventory: Inventory, told: Told
) -> Iterator[Mistake]:
    """All that is wrong where `wanted` are the addresses that may be hidden."""
    present = [device.address for device in inventory.devices]
    places: dict[str, tuple[Address, ...]] = {}
    for place, value, odd in _settings(told):
        for said in odd:
            yield Mistake(
                name="odd",
                place=place,
                what=said,
                remedy=f"say it once, as xen-pciback, in {place}",
            )
        if value is None:
            continue
        addresses, complaints = hidden(value, present)
        for said in complaints:
            yield Mistake(
                name="malformed",
                place=place,
                what=f"{said}; the kernel then refuses the whole module",
                remedy=f"correct hide= in {place}",
                exit=Exit.FAILED,
            )
        places[place] = addresses
        for address in _twice(value, addresses, present):
            yield Mistake(
                name="twice",
                place=place,
                what=f"{address} stands there more than once",
                remedy="one is enough",
            )
        for address in addresses:
            yield from _misdirected(address, place, wanted, policy, inventory)
    yield from _without_effect(places, wanted, inventory, told)


def _settings(told: Told) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    """Each place that may set `hide=`, its value if it does, and what is odd about it."""
    yield COMMAND_LINE, *on_command_line(told.command_line)
    for path, text in told.modprobe:
        yield path, *in_modprobe(text)


def _twice(value: str, addresses: Iterable[Address], present: Iterable[Address]) -> list[Address]:
    """Those that more than one of the brackets names."""
    entries = [f"{entry})" for entry in value.split(")") if entry.strip()]
    named = [a for entry in entries for a in hidden(entry, present)[0]]
    return [address for address in addresses if named.count(address) > 1]


def _misdirected(
    address: Address, place: str, wanted: tuple[Address, ...], policy: Policy, inventory: Inventory
) -> Iterator[Mistake]:
    device = inventory.device(address)
    if device is None:
        yield Mistake(
            name="no-device",
            place=place,
            what=f"this host has no device at {address}: an address is a place, and cards move",
            remedy=f"`cede devices` lists what there is; take ({address}) out",
        )
        return
    kept = guards(device, policy.protect)
    if kept and address not in wanted:
        yield Mistake(
            name="guarded",
            place=place,
            what=f"{address} is hidden from the host, which needs it: {'; '.join(map(str, kept))}",
            remedy=f"take ({address}) out before the next boot",
            exit=Exit.UNSAFE,
        )
    elif address not in wanted:
        yield Mistake(
            name="not-assigned",
            place=place,
            what=f"{address} is hidden from dom0, and the policy gives it to nobody",
            remedy=f"take ({address}) out, or assign it",
        )


def _without_effect(
    places: dict[str, tuple[Address, ...]],
    wanted: tuple[Address, ...],
    inventory: Inventory,
    told: Told,
) -> Iterator[Mistake]:
    if len(places) > 1:
        yield Mistake(
            name="overruled",
            place=", ".join(place for place in places if place != _ruling(places)),
            what=f"hide= stands in {len(places)} places, of which {_ruling(places)} counts",
            remedy="keep one of them",
        )
    ruling = places.get(_ruling(places), ())
    early_enough = told.built_in or any(named_for_initramfs(text) for _, text in told.initramfs)
    if ruling and not early_enough:
        yield Mistake(
            name="late",
            place=_ruling(places),
            what="xen-pciback is neither built in nor named for the initramfs, so other drivers may be there before it",
            remedy="name it for the initramfs (`cede boot --print` tells how), or leave it to `cede boot`",
        )
    for address in ruling:
        device = inventory.device(address)
        if device is None or address not in wanted or device.driver in {None, PCIBACK}:
            continue
        yield Mistake(
            name="ineffective",
            place=_ruling(places),
            what=f"{device.address} is to be hidden, and has its driver {device.driver} all the same",
            remedy="rebuild the initramfs and restart the host; see dom0's kernel log (dmesg) for xen_pciback",
        )
    missing = [address for address in wanted if places and address not in ruling]
    if missing:
        yield Mistake(
            name="missing",
            place=_ruling(places),
            what=f"{', '.join(map(str, missing))} is assigned, but not hidden",
            remedy="add it, or leave it to `cede boot`",
        )


def _ruling(places: Iterable[str]) -> str:
    """The command line overrules modprobe.d, where the last file read counts."""
    named = list(places)
    return COMMAND_LINE if COMMAND_LINE in named else (named or [""])[-1]
