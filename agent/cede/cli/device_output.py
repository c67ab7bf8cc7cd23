"""Output of `cede devices`: a table to choose from, and everything about each device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cede.cli import output
from cede.planner.fitness import FitKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cede.adapters.linux.device_nodes import Node
    from cede.adapters.linux.pci_ids import Names
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device, HostUse
    from cede.planner.fitness import Fitness

_WIDTH = 100
_WIDEST = {"DRIVER": 12, "WITH": 12, "FIT": 20, "HAS": 14}
_HEAD = ("ADDRESS", "DRIVER", "WITH", "FIT", "HAS", "WHAT")
_LEAST = 24
_VANISHED = "vanished; `cede release` removes it from the XML"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A device with all that helps to choose: its names, what hangs on it, and whether a guest can have it.

    `kept` is why the host keeps the device, `siblings` are reset with its bus.
    """

    device: Device
    holder: str
    names: Names
    nodes: tuple[Node, ...]
    siblings: tuple[Address, ...]
    kept: tuple[HostUse, ...]
    fitness: Fitness


def table(rows: Sequence[Described], gone: Mapping[Address, Sequence[str]]) -> None:
    """Print one line for each device, at most 100 columns wide; then the devices that have vanished."""
    cells = [
        (
            str(row.device.address),
            _cut(row.device.driver or "-", _WIDEST["DRIVER"]),
            _cut(row.holder, _WIDEST["WITH"]),
            _cut(_in_short(row.fitness), _WIDEST["FIT"]),
            _cut(", ".join(node.name for node in row.nodes) or "-", _WIDEST["HAS"]),
            _what(row),
        )
        for row in rows
    ]
    left = _WIDTH - sum(
        max(len(name), *(len(line[n]) for line in cells)) + 2 if cells else 0
        for n, name in enumerate(_HEAD[:-1])
    )
    short = [(*line[:-1], _cut(line[-1], max(left, _LEAST))) for line in cells]
    lost = [(str(a), "-", ", ".join(names), "no", "-", _VANISHED) for a, names in gone.items()]
    output.table(_HEAD, [*short, *lost])
    if rows:
        click.echo(
            "`cede devices DEVICE` shows everything about one device; `cede devices --long` about all."
        )


def _in_short(fit: Fitness) -> str:
    """Return the fitness without segment 0000, with which most addresses begin."""
    if fit.fit is not FitKind.TOGETHER:
        return str(fit)
    return f"with {', '.join(str(address).removeprefix('0000:') for address in fit.together)}"


def _what(row: Described) -> str:
    identity = row.device.identity
    called = row.names.device or row.names.kind or f"class {identity.class_code[:4]}"
    return f"{identity} {called}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def at_length(rows: Sequence[Described], gone: Mapping[Address, Sequence[str]]) -> None:
    """Print everything about each device, a paragraph for each."""
    for number, row in enumerate(rows):
        if number:
            click.echo()
        kind = row.names.kind or f"class {row.device.identity.class_code[:4]}"
        called = f" {row.names}" if str(row.names) else ""
        click.echo(f"{row.device.address}  {kind}:{called} [{row.device.identity}]")
        for name, said in _lines(row):
            if said:
                click.echo(f"  {name:<9} {said}")
    for address, names in gone.items():
        click.echo(f"\n{address}  in {', '.join(names)}: {_VANISHED}")


def _lines(row: Described) -> Iterator[tuple[str, str]]:
    device = row.device
    yield "with", f"{row.holder}, {f'driver {device.driver}' if device.driver else 'no driver'}"
    yield "fit", str(row.fitness)
    yield "why", row.fitness.reason
    yield "remedy", row.fitness.remedy
    for node in row.nodes:
        yield "has", str(node)
    if not device.is_bridge:
        yield "reset", ", ".join(device.reset_methods) or "none of its own"
    yield "siblings", ", ".join(map(str, row.siblings))
    yield "MAC", device.mac or ""
    yield "serial", device.serial or ""
    yield "path", device.path
    if device.physical_function is not None:
        yield "SR-IOV", f"virtual function {device.function_index} of {device.physical_function}"


def vanished(inventory: Inventory) -> dict[Address, list[str]]:
    """Return the addresses that domains list and this host no longer has, with the names of those domains."""
    found: dict[Address, list[str]] = {}
    for domain in inventory.domains:
        for address in dict.fromkeys(h.address for h in (*domain.live, *domain.config)):
            if inventory.device(address) is None:
                found.setdefault(address, []).append(domain.name)
    return dict(sorted(found.items()))


def holder(device: Device, inventory: Inventory) -> str:
    """Return who has the device now: a domain's name, `assignable` (on pciback, in no domain), or dom0."""
    given = inventory.given(device.address)
    if given is None:
        return "assignable" if device.on_pciback else "dom0"
    domain = inventory.domain_by_id(given.domid)
    return domain.name if domain else f"domain {given.domid}"
