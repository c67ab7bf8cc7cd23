"""Rules about devices of different guests that may reach each other past the IOMMU, for want of ACS on their way.

Sources: PCI Express Base Specification 3.0, 6.12 (access control services); Linux, drivers/pci/pci.c (pci_acs_enabled)
and drivers/iommu/iommu.c (pci_device_group). Xen itself and its dom0 switch ACS on where a device has it
(xen/drivers/passthrough/pci.c, pci_enable_acs; arch/x86/xen/enlighten_pv.c).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from cede.doctor.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cede.doctor.finding import Facts
    from cede.model.pci import Address, Device

_SHOWN = 4


class _Pair(NamedTuple):
    """Two devices of different guests, each with its guests."""

    one: Device
    of_one: frozenset[str]
    other: Device
    of_other: frozenset[str]

    def __str__(self) -> str:
        guests = [", ".join(sorted(names)) for names in (self.of_one, self.of_other)]
        return f"{self.one.address} of {guests[0]} and {self.other.address} of {guests[1]}"


def between_guests(facts: Facts) -> frozenset[Address]:
    """Return the functions of which it matters whether they keep devices of different guests apart."""
    return frozenset(at.address for _, ways in _shared(facts) for at in ways)


def no_acs(facts: Facts) -> Iterator[Finding]:
    """Find functions, ports of switches and bridges that don't keep devices of different guests apart."""
    if not facts.is_root:
        return  # who can't read what they do
    lacking: dict[Address, list[_Pair]] = {}
    untold: dict[Address, list[_Pair]] = {}
    for pair, ways in _shared(facts):
        for way in _decisive(ways, facts):
            isolation = facts.isolation.get(way.address)
            if isolation is None:
                untold.setdefault(way.address, []).append(pair)
            elif not isolation.redirects:
                lacking.setdefault(way.address, []).append(pair)
    for address, pairs in sorted(lacking.items()):
        yield Finding(
            name="no-acs",
            severity=Severity.WARNING,
            subject=str(address),
            address=address,
            what=f"{address} doesn't keep {_all(pairs)} apart (no ACS)",
            why="what one sends to the address of the other may go there past the IOMMU, so that either guest can harm "
            "the other; some makers keep functions apart without saying so (drivers/pci/quirks.c)",
            remedy="give them to one guest, or to guests that trust each other; another slot of the board, or ACS "
            "switched on in the firmware's setup, may keep them apart",
            source="Linux, drivers/pci/pci.c (pci_acs_enabled)",
        )
    for address, pairs in sorted(untold.items()):
        yield Finding(
            name="acs-unknown",
            severity=Severity.NOTE,
            subject=str(address),
            address=address,
            what=f"whether {address} keeps {_all(pairs)} apart can't be told",
            why="its extended configuration space can't be read, or it sleeps and reading would wake it",
            remedy=f"`lspci -vvs {address}` wakes the device and shows ACSCap and ACSCtl",
            source="Linux, drivers/pci/pci.c (pci_acs_enabled)",
        )


def _shared(facts: Facts) -> list[tuple[_Pair, tuple[Device, ...]]]:
    """Return each pair of devices of different guests that meet below the root, with the functions that may part them.

    Where a device and a guest are asked about, only the pairs of that device.
    """
    inventory, about = facts.inventory, facts.pair
    owned = [(device, _guests(device.address, facts)) for device in inventory.devices]
    owned = [(device, guests) for device, guests in owned if guests and device.path]
    by_path = {device.path: device for device in inventory.devices if device.path}
    found = []
    for (one, of_one), (other, of_other) in combinations(owned, 2):
        if about is not None and about[0] not in {one.address, other.address}:
            continue
        ways = _parting(one, other, by_path) if of_one != of_other else ()
        if ways:
            found.append((_Pair(one, of_one, other, of_other), ways))
    return found


def _parting(one: Device, other: Device, by_path: Mapping[str, Device]) -> tuple[Device, ...]:
    """Return the functions where the ways of both part: those of one slot, else with the bridge above them at the end.

    Empty behind different slots of the root bus: there the root complex, and with it the IOMMU, stands between.
    """
    ways = [device.path.split("/") for device in (one, other)]
    depth = next((n for n, parts in enumerate(zip(*ways, strict=False)) if len(set(parts)) > 1), 0)
    at = [by_path.get("/".join(way[: depth + 1])) for way in ways]
    found = [device for device in at if device is not None]
    virtual = any(device.physical_function is not None for device in found)
    if depth and _slot(ways[0][depth]) == _slot(ways[1][depth]) and not virtual:
        return tuple(found)
    above = by_path.get("/".join(ways[0][:depth]))
    return () if above is None else (*(bridge for bridge in found if bridge.is_bridge), above)


def _decisive(ways: tuple[Device, ...], facts: Facts) -> tuple[Device, ...]:
    """Return those of `_parting` that have to keep both apart.

    Below a switch's upper port its lower ones do; below any other port or bridge that one itself does.
    """
    above = ways[-1]
    if len({_slot(way.path) for way in ways}) == 1:
        return ways  # functions of one device
    isolation = facts.isolation.get(above.address)
    ports = ways[:-1]
    return ports if ports and isolation is not None and isolation.is_upstream_port else (above,)


def _guests(address: Address, facts: Facts) -> frozenset[str]:
    """Return the names of the guests that have the device, have it in their XML, or are asked about with it."""
    if facts.pair is not None and facts.pair[0] == address:
        return frozenset({facts.pair[1]})
    inventory = facts.inventory
    given = inventory.given(address)
    running = None if given is None else inventory.domain_by_id(given.domid)
    names = {domain.name for domain in inventory.wanting(address)}
    if given is not None:
        names.add(running.name if running else f"domain {given.domid}")
    return frozenset(names)


def _slot(path: str) -> str:
    return path.rpartition(".")[0]


def _all(pairs: list[_Pair]) -> str:
    shown = "; ".join(str(pair) for pair in pairs[:_SHOWN])
    more = len(pairs) - _SHOWN
    return f"{shown}; and {more} pairs more" if more > 0 else shown


RULES = (no_acs,)
