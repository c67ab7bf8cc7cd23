"""What a policy says of virtual functions: each device's own, and what must hold between devices and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cede.model.policy import Functions, WantedFunctions
from cede.model.virtual_functions import FunctionSettings, LinkState, counted_up, is_station
from cede.policy.diagnostics import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.policy import Assignment, DevicePolicy, Match, Place
    from cede.policy.diagnostics import Diagnostics, Path
    from cede.policy.parse import Tree

Devices = list[tuple["Tree", "Path", "DevicePolicy"]]


def wanted_functions(
    said: dict[str, Any] | None, path: Path, tree: Tree, diagnostics: Diagnostics
) -> WantedFunctions | None:
    """Build what is said at `path`; a MAC that can't be, or too few of them, get a diagnostic."""
    if said is None:
        return None
    link_state = said.get("link_state")
    return WantedFunctions(
        count=said["count"],
        macs=_macs(said, (*path, "mac"), tree, diagnostics),
        settings=FunctionSettings(
            vlan=said.get("vlan"),
            spoof_check=said.get("spoof_check"),
            trust=said.get("trust"),
            rate=said.get("rate"),
            link_state=None if link_state is None else LinkState(link_state),
        ),
        place=tree.key_or_value(path),
    )


def _macs(
    said: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> tuple[str, ...]:
    if "mac" not in said:
        return ()
    count, listed = said["count"], isinstance(said["mac"], list)
    given = [_plain(mac) for mac in (said["mac"] if listed else [said["mac"]])]
    for number, mac in enumerate(given):
        at = (*path, number) if listed else path
        if not is_station(mac):
            text = f"found {quoted(mac)}, expected the MAC of one interface, which is no group's and not all zeros"
            diagnostics.add(tree.places[at], "no-station-mac", text, at)
    if listed and len(given) != count:
        text = f"found {len(given)} MACs for {count} virtual functions, expected one for each"
        diagnostics.add(tree.key_or_value(path), "mac-count", text, path)
    if listed:
        return tuple(given)
    counted = [counted_up(given[0], index) for index in range(count)]
    if None in counted:
        text = f"found {quoted(given[0])}, expected one from which {count} can be counted up in the last three bytes"
        diagnostics.add(tree.places[path], "mac-count", text, path)
    return tuple(mac for mac in counted if mac is not None)


def _plain(mac: str) -> str:
    return mac.lower().replace("-", ":")


def refuse_half_pair(
    said: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> None:
    """Refuse a physical function of which it isn't told which virtual function is meant, or that any will do."""
    if "physical_function" in said and "function" not in said and not said.get("any"):
        at = (*path, "physical_function")
        text = "found 'physical_function' without 'function', expected both, or `any: true`"
        diagnostics.add(tree.keys[at], "half-pair", text, at)


def refuse_clashes(devices: Devices, diagnostics: Diagnostics) -> None:
    """Refuse a MAC for two virtual functions, and a device of which any will do that is to have such functions."""
    seen: dict[str, DevicePolicy] = {}
    for tree, path, device in devices:
        wanted, here = device.virtual_functions, (*path, "virtual_functions")
        if wanted is None:
            continue
        if device.functions is Functions.ALL:
            text = f"{quoted(device.name)} has virtual functions, and so must be one function: expected its address"
            diagnostics.add(tree.places[*path, "match"], "any-physical-function", text, path)
        if device.match.any_one:
            text = f"{quoted(device.name)} has virtual functions, and so must be one device: expected no `any: true`"
            diagnostics.add(tree.places[*path, "match"], "any-physical-function", text, path)
        for number, mac in enumerate(wanted.macs):
            first = seen.setdefault(mac, device)
            if first is not device or mac in wanted.macs[:number]:
                text = (
                    f"the MAC {mac} is already that of a virtual function of {quoted(first.name)}"
                )
                each = (*here, "mac", number)
                diagnostics.add(
                    tree.places.get(each) or tree.places[*here, "mac"], "mac-twice", text, here
                )


def refuse_beyond(devices: Devices, diagnostics: Diagnostics, *, all_read: bool) -> None:
    """Refuse a physical function that no device is, and a virtual function beyond those that it is to have."""
    named = {device.name: device for _, _, device in devices}
    placed = {d.match.address: d for d in named.values() if d.match.address is not None}
    for tree, path, device in devices:
        match, at = device.match, (*path, "match")
        if match.physical_name is not None and match.physical_name not in named:
            if all_read and not _mentioned(match.physical_name, diagnostics):
                near = diagnostics.suggest(match.physical_name, named)
                text = f"found {quoted(match.physical_name)}, expected one of the devices or an address{near}"
                place = tree.places[*at, "physical_function"]
                diagnostics.add(place, "unknown-device", text, (*at, "physical_function"))
            continue
        physical = _physical(match, named, placed)
        wanted = physical.virtual_functions if physical is not None else None
        if physical is device:
            text = f"{quoted(device.name)} can't be its own physical function"
            place = tree.places[*at, "physical_function"]
            diagnostics.add(place, "own-function", text, (*at, "physical_function"))
        elif wanted is not None and (match.function_index or 0) >= wanted.count:
            key = "physical_function" if match.function_index is None else "function"
            text = f"{wanted.place} says that there are {wanted.count} virtual functions, counted from 0"
            diagnostics.add(tree.places[*at, key], "no-such-function", text, (*at, key))


def _mentioned(name: str, diagnostics: Diagnostics) -> bool:
    """Whether the device is there, and has a mistake of its own."""
    return any(diagnostics.touch(file, ("devices", name)) for file in diagnostics.files)


def _physical(
    match: Match, named: dict[str, DevicePolicy], placed: dict[Any, DevicePolicy]
) -> DevicePolicy | None:
    if match.physical_name is not None:
        return named.get(match.physical_name)
    return placed.get(match.physical_function)


def refuse_assigned(
    devices: Devices,
    assignments: Sequence[tuple[Place, Path, Assignment]],
    diagnostics: Diagnostics,
) -> None:
    """Refuse to give away what is to have virtual functions, which end when dom0's driver lets go of it."""
    having = {d.name: d for _, _, d in devices if d.virtual_functions and d.virtual_functions.count}
    for place, path, assignment in assignments:
        if assignment.device in having:
            text = (
                f"the device {quoted(assignment.device)} is to have virtual functions, at "
                f"{having[assignment.device].place}, and so stays with dom0; expected one of those"
            )
            diagnostics.add(place, "physical-and-virtual", text, path)


def each_trait(match: Match) -> Iterator[tuple[object, str]]:
    """Yield which virtual function is meant, as a value and in words; nothing where any will do."""
    physical = match.physical_name or match.physical_function
    if physical is not None and match.function_index is not None:
        yield (physical, match.function_index), f"function {match.function_index} of {physical}"
