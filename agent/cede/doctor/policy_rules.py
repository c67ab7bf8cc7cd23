"""Rules about the policy: that it can be read, and that what it says still means the same device tomorrow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted
from cede.model.policy import Expect, Match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts
    from cede.model.pci import Address, Device
    from cede.model.policy import DevicePolicy


def unreadable(facts: Facts) -> Iterator[Finding]:
    """Find a policy that can't be read, which then nothing is said of. Source: contrib/docs/policy.md."""
    if facts.no_policy is not None and facts.is_root:
        yield Finding(
            name="policy-unreadable",
            severity=Severity.WARNING,
            subject=HOST,
            what="the policy can't be read, so nothing can be told of it",
            why=quoted(facts.no_policy.message),
            remedy=facts.no_policy.remedy
            or "`cede plan` shows every mistake in it, with line and column",
            source="cede, contrib/docs/policy.md",
        )


def bare_address(facts: Facts) -> Iterator[Finding]:
    """Find a device of the policy that is told by its bus number alone, which a card more or less shifts.

    The number of a root bus is the firmware's, so a device directly on one keeps its address.
    Source: Linux, drivers/pci/probe.c (pci_scan_bridge_extend).
    """
    for named in facts.policy.devices:
        address = named.match.address or named.match.physical_function
        if address is None or not _numbers_alone(named):
            continue
        device = facts.inventory.device(address)
        if _on_root_bus(address, device):
            continue
        yield Finding(
            name="bare-address",
            severity=Severity.WARNING,
            subject=named.name,
            address=address,
            what=f"the policy knows {named.name} by its address {address} alone",
            why="a card that is added or removed shifts the bus numbers, and then another device has that address",
            remedy=_remedy(device if named.match.address else None),
            source="Linux, drivers/pci/probe.c (pci_scan_bridge_extend)",
        )


def _numbers_alone(named: DevicePolicy) -> bool:
    beside = replace(
        named.match, address=None, physical_function=None, function_index=None, any_one=False
    )
    return beside == Match() and named.expect == Expect()


def _on_root_bus(address: Address, device: Device | None) -> bool:
    if device is None or not device.path:
        return address.bus == 0
    return device.path.rpartition("/")[0] == f"pci{address.segment:04x}:{address.bus:02x}"


def _remedy(device: Device | None) -> str:
    if device is None:
        return "add `expect` with vendor and device, or match by `path`, `mac` or `serial`; see `cede devices DEVICE`"
    expect = f"expect: {{vendor: '{device.identity.vendor}', device: '{device.identity.device}'}}"
    path = f", or match by `path: {device.path}`" if device.path else ""
    mac = f", or by `mac: '{device.mac}'`" if device.mac else ""
    return f"add `{expect}`{path}{mac}"


RULES = (unreadable, bare_address)
