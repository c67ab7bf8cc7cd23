"""Output of `cede devices`: a table to choose from, and everything about each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cede.cli import output
from cede.planner.fitness import FitKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.planner.fitness import Fitness
    from cede.services.describe_devices import DescribedDevice, VanishedDevice

_WIDTH = 100
_WIDEST = {"DRIVER": 12, "WITH": 12, "FIT": 20, "HAS": 14}
_HEAD = ("ADDRESS", "DRIVER", "WITH", "FIT", "HAS", "WHAT")
_LEAST = 24
_VANISHED = "vanished; `cede release` removes it from the XML"


def table(rows: Sequence[DescribedDevice], gone: Sequence[VanishedDevice]) -> None:
    """Print one line for each device, at most 100 columns wide; then the devices that have vanished."""
    cells = [
        (
            str(row.address),
            _cut(row.driver or "-", _WIDEST["DRIVER"]),
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
    lost = [(str(v.address), "-", ", ".join(v.domains), "no", "-", _VANISHED) for v in gone]
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


def _what(row: DescribedDevice) -> str:
    identity = row.identity
    called = row.names.device or row.names.kind or f"class {identity.class_code[:4]}"
    return f"{identity} {called}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def at_length(rows: Sequence[DescribedDevice], gone: Sequence[VanishedDevice]) -> None:
    """Print everything about each device, a paragraph for each."""
    for number, row in enumerate(rows):
        if number:
            click.echo()
        kind = row.names.kind or f"class {row.identity.class_code[:4]}"
        called = f" {row.names}" if str(row.names) else ""
        click.echo(f"{row.address}  {kind}:{called} [{row.identity}]")
        for name, said in _lines(row):
            if said:
                click.echo(f"  {name:<9} {said}")
    for vanished in gone:
        click.echo(f"\n{vanished.address}  in {', '.join(vanished.domains)}: {_VANISHED}")


def _lines(device: DescribedDevice) -> Iterator[tuple[str, str]]:
    driver = f"driver {device.driver}" if device.driver else "no driver"
    yield "with", f"{device.holder}, {driver}"
    yield "fit", str(device.fitness)
    yield "why", device.fitness.reason
    yield "remedy", device.fitness.remedy
    for node in device.nodes:
        yield "has", str(node)
    if not device.is_bridge:
        yield "reset", ", ".join(device.reset_methods) or "none of its own"
    yield "siblings", ", ".join(map(str, device.siblings))
    yield "MAC", device.mac or ""
    yield "serial", device.serial or ""
    yield "path", device.path
    if device.physical_function is not None:
        yield "SR-IOV", f"virtual function {device.function_index} of {device.physical_function}"
