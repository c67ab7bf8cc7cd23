"""`cede devices`: every PCI device with what helps to choose one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.linux.pci_ids import PciIds
from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.commands import output
from cede.commands.answer import Answer
from cede.commands.device_tree import device_tree
from cede.commands.exit_status import Exit
from cede.commands.requests import DevicesRequest
from cede.commands.screen import echo, echo_json, echo_lines
from cede.commands.session import Session
from cede.errors import PolicyError, UsageError
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device, Reset
from cede.model.policy import Policy
from cede.model.serialization import dumps
from cede.planner.fitness import FitKind
from cede.planner.resets import groups
from cede.policy.policy_files import host_policy_if_any
from cede.services.describe_devices import DevicesOutput, describe_device, vanished_devices
from cede.services.observe import observe_host, save_inventory
from cede.services.one_off import no_such_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cede.planner.fitness import Fitness
    from cede.services.describe_devices import DescribedDevice, VanishedDevice


_WIDTH = 100
_WIDEST = {"DRIVER": 12, "WITH": 12, "FIT": 20, "HAS": 14}
_HEAD = ("ADDRESS", "DRIVER", "WITH", "FIT", "HAS", "WHAT")
_TREE_HEAD = ("BUS AND DEVICE", "GROUP", "WITH", "FIT", "WHAT")
_LEAST = 24
_RESETS = {
    Reset.FLR: "of the function (FLR)",
    Reset.PM: "of the function, by power management",
    Reset.BUS: "of its bus, with all that is on it",
    Reset.NONE: "none that libvirt can do",
    None: "can't be told",
}
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
        echo(
            "`cede devices DEVICE` shows everything about one device; `cede devices --long` about all."
        )


def tree(rows: Sequence[DescribedDevice], gone: Sequence[VanishedDevice]) -> None:
    """Print the devices below their bridges, and which go together; then the devices that have vanished."""
    by_address = {row.address: row for row in rows}
    numbers = {
        group: str(n)
        for n, group in enumerate(dict.fromkeys(row.group for row in rows if row.group), 1)
    }
    lines: list[tuple[str, ...]] = []
    for drawn, address in device_tree(rows):
        row = by_address.get(address) if address else None
        if row is None:
            lines.append((drawn, "", "", "", ""))
            continue
        whole = row.fitness.fit is FitKind.TOGETHER
        fit = "with its group" if whole else _cut(str(row.fitness), _WIDEST["FIT"])
        fit = "-" if row.is_bridge else fit
        holder = "-" if row.is_bridge else _cut(row.holder, _WIDEST["WITH"])
        place = "removable, " if row.removable and not row.is_bridge else ""
        lines.append(
            (drawn, numbers.get(row.group, _no_group(row)), holder, fit, f"{place}{_what(row)}")
        )
    left = _WIDTH - sum(
        max(len(name), *(len(line[n]) for line in lines)) + 2 if lines else 0
        for n, name in enumerate(_TREE_HEAD[:-1])
    )
    short = [(*line[:-1], _cut(line[-1], max(left, _LEAST))) for line in lines]
    lost = [(str(v.address), "-", ", ".join(v.domains), "no", _VANISHED) for v in gone]
    output.table(_TREE_HEAD, [*short, *lost])
    if numbers:
        echo("Of one GROUP: a reset of one resets the others, or an IOMMU can't tell them apart.")


def _no_group(row: DescribedDevice) -> str:
    """Return the mark of what is in no group; of a device with siblings its reset alone tells that."""
    untold = row.reset is None and not row.is_bridge and row.siblings
    return "?" if untold else "-"


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


def details(rows: Sequence[DescribedDevice], gone: Sequence[VanishedDevice]) -> None:
    """Print everything about each device, a paragraph for each."""
    for number, row in enumerate(rows):
        if number:
            echo()
        kind = row.names.kind or f"class {row.identity.class_code[:4]}"
        called = f" {row.names}" if str(row.names) else ""
        echo(f"{row.address}  {kind}:{called} [{row.identity}]")
        for name, said in _lines(row):
            if said:
                echo(f"  {name:<9} {said}")
    for vanished in gone:
        echo_lines(("", f"{vanished.address}  in {', '.join(vanished.domains)}: {_VANISHED}"))


def _lines(device: DescribedDevice) -> Iterator[tuple[str, str]]:
    driver = f"driver {device.driver}" if device.driver else "no driver"
    yield "with", f"{device.holder}, {driver}"
    yield "fit", str(device.fitness)
    yield "why", device.fitness.reason
    yield "remedy", device.fitness.remedy
    for node in device.nodes:
        yield "has", str(node)
    if not device.is_bridge:
        yield "reset", _RESETS[device.reset]
    yield "siblings", ", ".join(map(str, device.siblings))
    yield "MAC", device.mac or ""
    yield "serial", device.serial or ""
    yield "path", device.path
    yield "place", "outside of the host's case, so it may be unplugged" if device.removable else ""
    if device.virtual_functions is not None:
        has = device.virtual_functions
        yield "SR-IOV", f"{has.count} of {has.total} virtual functions"
        for index, settings in enumerate(has.settings):
            yield f"VF {index}", str(settings)
    if device.physical_function is not None:
        yield "SR-IOV", f"virtual function {device.function_index} of {device.physical_function}"


def perform(request: DevicesRequest, session: Session) -> Answer:
    """Print the devices: as a table or a tree, at length where they are named, or as JSON."""
    if request.tree and request.long:
        raise UsageError("a tree has no room for all of --long", name="conflicting-options")
    runtime = session.runtime
    # of a recorded host what can be told is told
    access = LibvirtAccess.OFFLINE if runtime.recorded else LibvirtAccess.REQUIRED
    with runtime.adapters(access) as adapters:
        inventory = observe_host(adapters)
    if request.save:
        save_inventory(inventory, Path(request.save))
    chosen = [named_device(text, inventory) for text in request.devices] or inventory.devices
    policy, ids, together = _policy(runtime), PciIds(runtime.paths.pci_ids), groups(inventory)
    if request.tree:
        chosen = _branches(chosen, inventory, together)
    rows = tuple(
        describe_device(
            device,
            inventory,
            policy,
            ids.names(device.identity),
            together.get(device.address, ()),
        )
        for device in chosen
    )
    gone = () if request.devices else vanished_devices(inventory)
    if session.as_json:
        echo_json(dumps(DevicesOutput(devices=rows, vanished=gone)))
    elif request.tree:
        tree(rows, gone)
    elif request.long or request.devices:
        details(rows, gone)
    else:
        table(rows, gone)
    return Answer(exit=Exit.OK)


def named_device(text: str, inventory: Inventory) -> Device:
    """Return the device at an address in any spelling; raises UsageError if it is none, or there is none."""
    try:
        device = inventory.device(Address.parse(text))
    except ValueError as error:
        raise UsageError(str(error), name="no-address") from error
    if device is None:
        raise no_such_device(text)
    return device


def _branches(
    chosen: Sequence[Device], inventory: Inventory, together: Mapping[Address, tuple[Address, ...]]
) -> tuple[Device, ...]:
    """Return the devices with those that go with them, and all bridges above, in the order of their addresses."""
    found: dict[Address, Device] = {}
    left = [device.address for device in chosen]
    left += [address for device in chosen for address in together.get(device.address, ())]
    while left:
        device = inventory.device(left.pop())
        if device is not None and device.address not in found:
            found[device.address] = device
            left += [device.parent] if device.parent is not None else []
    return tuple(found[address] for address in sorted(found))


def _policy(runtime: Runtime) -> Policy:
    """Read the host's policy, for what it protects; warn and return an empty one where it can't be read."""
    try:
        return host_policy_if_any(None, runtime)
    except PolicyError as error:
        echo(f"cede: the policy is wrong, so its `protect` is left out: {error.message}", err=True)
        return Policy()
