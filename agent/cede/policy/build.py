"""A validated tree -> the values of its parts, each by its path in the tree.

Parts that already have a diagnostic are left out, so that one mistake brings one diagnostic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cede.model.pci import Address
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Functions,
    Match,
    OnDrift,
    Place,
    Protect,
    Restart,
    Verification,
    When,
    Window,
)
from cede.policy.diagnostics import Diagnostics, Path
from cede.policy.parse import Tree
from cede.policy.virtual_functions import refuse_half_pair, wanted_functions

_NAME = re.compile(r"(?!pci_[0-9a-f]{4}_[0-9a-f]{2}_[0-9a-f]{2}_[0-7]\Z)[a-z0-9_-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The values of the valid parts of one file.

    `names` are the names of all its devices, valid or not; None if unknown.
    """

    tree: Tree
    names: frozenset[str] | None
    devices: dict[Path, DevicePolicy]
    assignments: dict[Path, Assignment]
    protect: dict[Path, Protect]
    alternatives: dict[Path, tuple[str, ...]]
    window: Window | None


def parts_of(tree: Tree, diagnostics: Diagnostics) -> Parts:
    """Build the values of the valid parts of one file's tree."""
    named = tree.data.get("devices", {}) if isinstance(tree.data, dict) else None
    return Parts(
        tree=tree,
        names=frozenset(named) if isinstance(named, dict) else None,
        devices=_devices(tree, diagnostics),
        assignments=_assignments(tree, diagnostics),
        protect=_protect(tree, diagnostics),
        alternatives={
            path: tuple(group) for path, group, _ in _sound(tree, "alternatives", diagnostics)
        },
        window=_window(tree, diagnostics),
    )


def _window(tree: Tree, diagnostics: Diagnostics) -> Window | None:
    """Build the window, if there is a sound one that opens at all."""
    path: Path = ("window",)
    said = tree.data.get("window") if isinstance(tree.data, dict) else None
    if not isinstance(said, dict) or diagnostics.touch(tree.places[path].file, path):
        return None
    begin, end = _minutes(said["from"]), _minutes(said["to"])
    if begin in {end, _DAY}:
        text = (
            f"found a window from {said['from']} to {said['to']}, which never opens, expected a later time in `to`, or"
            " one of the next day; leave `window` out for any time"
        )
        diagnostics.add(tree.keys[path], "window-never-opens", text, path)
        return None
    length = (end - begin) % _DAY or _DAY
    if length < _SHORTEST:
        text = f"found a window of {length} min, expected {_SHORTEST} or more: the agent looks every 5 min"
        diagnostics.add(tree.keys[path], "window-too-short", text, path)
        return None
    days = said.get("days", _DAYS)
    return Window(
        begin=begin,
        end=end,
        days=tuple(n for n, day in enumerate(_DAYS) if day in days),
        place=tree.keys[path],
    )


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_SHORTEST = 10


def _minutes(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes)


def _sound(tree: Tree, top: str, diagnostics: Diagnostics) -> Iterator[tuple[Path, Any, Place]]:
    """Yield path, content and place of each part below the key `top` that has no diagnostic."""
    parts = tree.data.get(top) if isinstance(tree.data, dict) else None
    # A mapping where a list belongs, or the other way round, already has a diagnostic.
    match top, parts:
        case "devices", dict():
            pairs = list(parts.items())
        case "assignments" | "protect" | "alternatives", list():
            pairs = list(enumerate(parts))
        case _:
            pairs = []
    for key, part in pairs:
        place = tree.key_or_value((top, key))
        if not diagnostics.touch(place.file, (top, key)):
            yield (top, key), part, place


def _devices(tree: Tree, diagnostics: Diagnostics) -> dict[Path, DevicePolicy]:
    devices: dict[Path, DevicePolicy] = {}
    for path, said, place in _sound(tree, "devices", diagnostics):
        match = _match(said["match"], (*path, "match"), tree, diagnostics)
        functions = _functions(said, path, tree, diagnostics)
        refuse_half_pair(said["match"], (*path, "match"), tree, diagnostics)
        virtual = wanted_functions(
            said.get("virtual_functions"), (*path, "virtual_functions"), tree, diagnostics
        )
        if diagnostics.touch(place.file, path):
            continue
        expect = said.get("expect", {})
        devices[path] = DevicePolicy(
            name=str(path[-1]),
            match=match,
            expect=Expect(
                vendor=_lower(expect.get("vendor")),
                device=_lower(expect.get("device")),
                subsystem=_lower(expect.get("subsystem")),
                class_code=_lower(expect.get("class")),
                mac=_mac(expect.get("mac")),
                serial=_lower(expect.get("serial")),
            ),
            functions=functions,
            override=tuple(said.get("override", ())),
            virtual_functions=virtual,
            place=place,
        )
    return devices


def _functions(said: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics) -> Functions:
    """All functions are meant where it says so, or where the address names none."""
    functions = Functions(said.get("functions", Functions.ONE))
    if not _is_slot(said["match"].get("address", "")):
        return functions
    if "functions" in said and functions is Functions.ONE:
        text = "found 'one' with the address of a whole slot, expected an address with a function, or 'all'"
        diagnostics.add(tree.places[*path, "functions"], "half-pair", text, (*path, "functions"))
    return Functions.ALL


def _is_slot(address: str) -> bool:
    try:
        Address.parse_slot(address)
    except ValueError:
        return False
    return True


def _protect(tree: Tree, diagnostics: Diagnostics) -> dict[Path, Protect]:
    return {
        path: Protect(
            match=_match(said, path, tree, diagnostics), reason=said["reason"], place=place
        )
        for path, said, place in _sound(tree, "protect", diagnostics)
    }


def _assignments(tree: Tree, diagnostics: Diagnostics) -> dict[Path, Assignment]:
    return {
        path: Assignment(
            device=said["device"],
            domain=said["domain"],
            verification=_verification(said.get("verify", {})),
            restart=Restart(said.get("restart", Restart.NEVER)),
            on_drift=OnDrift(said.get("on_drift", OnDrift.RESTORE)),
            when=When(said.get("when", When.NOW)),
            permissive=said.get("permissive", False),
            adopt=said.get("adopt", False),
            optional=said.get("optional", False),
            place=place,
        )
        for path, said, place in _sound(tree, "assignments", diagnostics)
    }


def _verification(said: dict[str, Any]) -> Verification:
    return Verification(**{**said, "guest": Channel(said.get("guest", Channel.CONSOLE))})


def _match(said: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics) -> Match:
    """Build the match at `path`; an address that can't be parsed gets a diagnostic, and is None."""
    physical = said.get("physical_function")
    named = "physical_function" if _is_name(physical) else ""

    def address(key: str) -> Address | None:
        try:
            if key not in said or key == named:
                return None
            # only where the schema allows a slot is one here
            read = Address.parse_slot if _is_slot(said[key]) else Address.parse
            return read(said[key])
        except ValueError as error:
            at = (*path, key)
            diagnostics.add(tree.places[at], "no-address", str(error), at)
            return None

    return Match(
        address=address("address"),
        path=_lower(said.get("path")),
        vendor=_lower(said.get("vendor")),
        device=_lower(said.get("device")),
        subsystem=_lower(said.get("subsystem")),
        class_code=_lower(said.get("class")),
        mac=_mac(said.get("mac")),
        serial=_lower(said.get("serial")),
        physical_function=address("physical_function"),
        physical_name=physical if named else None,
        function_index=said.get("function"),
        any_one=said.get("any", False),
    )


def _is_name(physical: str | None) -> bool:
    """Whether it is the name of a device: an address has colons, but in libvirt's spelling."""
    return physical is not None and _NAME.fullmatch(physical) is not None


def _lower(text: str | None) -> str | None:
    return text and text.lower()


def _mac(text: str | None) -> str | None:
    return text and text.lower().replace("-", ":")
