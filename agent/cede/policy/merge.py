"""The parts of all files -> one Policy, with the checks across files: duplicate and unknown devices, two owners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from uuid import UUID

from cede.model.policy import Assignment, DevicePolicy, Functions, Match, Place, Policy
from cede.policy.build import Parts
from cede.policy.diagnostics import Diagnostics, Path, quoted
from cede.policy.virtual_functions import (
    each_trait,
    refuse_assigned,
    refuse_beyond,
    refuse_clashes,
)


def policy_of(
    files: Sequence[Parts], source: str, diagnostics: Diagnostics, *, all_read: bool
) -> Policy:
    """Merge the files; the result is the whole policy if there are no diagnostics.

    Unless `all_read`, the rest of the policy is unknown, so nothing is reported as missing.
    """
    _refuse_twins(files, diagnostics)
    _refuse_parts(files, diagnostics)
    names = [file.names for file in files if file.names is not None]
    all_read = all_read and len(names) == len(files)
    if all_read:
        _refuse_strangers(files, frozenset().union(*names), diagnostics)
    _refuse_virtual(files, diagnostics, all_read=all_read)
    damaged = any(diagnostics.touch(file, ("alternatives",)) for file in diagnostics.files)
    _refuse_two_owners(files, diagnostics, groups_known=all_read and not damaged)
    _refuse_two_windows(files, diagnostics)
    return Policy(
        window=next((file.window for file in files if file.window is not None), None),
        devices=tuple(chain.from_iterable(file.devices.values() for file in files)),
        assignments=tuple(chain.from_iterable(file.assignments.values() for file in files)),
        protect=tuple(chain.from_iterable(file.protect.values() for file in files)),
        alternatives=tuple(chain.from_iterable(file.alternatives.values() for file in files)),
        source=source,
    )


def _refuse_two_windows(files: Sequence[Parts], diagnostics: Diagnostics) -> None:
    windows = [file.window for file in files if file.window is not None]
    for window in windows[1:]:
        text = f"the window is already at {windows[0].place}"
        diagnostics.add(window.place, "repeated-key", text, ("window",))


def _refuse_twins(files: Sequence[Parts], diagnostics: Diagnostics) -> None:
    """Refuse one name for two devices, and two names for one device, which could then go to two domains unnoticed."""
    names: dict[str, DevicePolicy] = {}
    seen: dict[object, DevicePolicy] = {}
    for file in files:
        for path, device in file.devices.items():
            first = names.setdefault(device.name, device)
            if first is not device:
                text = f"the device {quoted(device.name)} is already at {first.place}"
                diagnostics.add(device.place, "repeated-key", text, path)
                continue
            for at, value, words in _unique_traits(device.match, (*path, "match")):
                first = seen.setdefault(value, device)
                if first is not device:
                    text = f"{words} is already the device {quoted(first.name)} at {first.place}"
                    diagnostics.add(file.tree.places[at], "device-named-twice", text, at)
                    break


def _refuse_parts(files: Sequence[Parts], diagnostics: Diagnostics) -> None:
    """Refuse a second name for one function of a card that is a device as a whole."""
    devices = [(file, path, device) for file in files for path, device in file.devices.items()]
    cards = {
        device.match.address.slot_address: device
        for _, _, device in devices
        if device.functions is Functions.ALL and device.match.address is not None
    }
    for file, path, device in devices:
        address = device.match.address
        card = cards.get(address.slot_address) if address is not None else None
        if card is None or address == card.match.address:
            continue
        at = (*path, "match", "address")
        text = f"{address} is already part of the device {quoted(card.name)} at {card.place}"
        diagnostics.add(file.tree.places[at], "device-named-twice", text, at)


def _unique_traits(match: Match, path: Path) -> Iterator[tuple[Path, object, str]]:
    """Yield what of a match only one device can have: the path of the key, the value, and the value in words."""
    if match.address is not None:
        yield (*path, "address"), match.address, str(match.address)
    if match.path is not None:
        yield (*path, "path"), match.path, match.path
    if match.mac is not None:
        yield (*path, "mac"), match.mac, match.mac
    for pair, words in each_trait(match):
        yield (*path, "function"), pair, words
    if not match.any_one:
        yield path, match, "what this matches"


def _refuse_strangers(
    files: Sequence[Parts], known: frozenset[str], diagnostics: Diagnostics
) -> None:
    for file, path, assignment in _all_assignments(files):
        if assignment.device not in known:
            near = diagnostics.suggest(assignment.device, known)
            text = f"found {quoted(assignment.device)}, expected one of the devices{near}"
            diagnostics.add(_device_place(file, path), "unknown-device", text, (*path, "device"))


def _refuse_virtual(files: Sequence[Parts], diagnostics: Diagnostics, *, all_read: bool) -> None:
    devices = [(f.tree, path, device) for f in files for path, device in f.devices.items()]
    refuse_clashes(devices, diagnostics)
    refuse_beyond(devices, diagnostics, all_read=all_read)
    assigned = [
        (_device_place(file, path), (*path, "device"), assignment)
        for file, path, assignment in _all_assignments(files)
    ]
    refuse_assigned(devices, assigned, diagnostics)


def _refuse_two_owners(
    files: Sequence[Parts], diagnostics: Diagnostics, *, groups_known: bool
) -> None:
    groups = [frozenset(map(_domain, g)) for file in files for g in file.alternatives.values()]
    owners: dict[str, dict[str, Assignment]] = {}
    for file, path, assignment in _all_assignments(files):
        had = owners.setdefault(assignment.device, {})
        domain = _domain(assignment.domain)
        together = {domain, *had}
        if domain in had:
            first, why = had[domain], ""
        elif not had or not groups_known or any(together <= group for group in groups):
            had[domain] = assignment
            continue
        else:
            first = _stranger_to(domain, had, groups)
            why = "; only domains that are together in one group of `alternatives` may share it"
        text = (
            f"the device {quoted(assignment.device)} is already assigned,"
            f" to {quoted(first.domain)} at {first.place}{why}"
        )
        diagnostics.add(_device_place(file, path), "assigned-twice", text, (*path, "device"))


def _stranger_to(
    domain: str, had: dict[str, Assignment], groups: list[frozenset[str]]
) -> Assignment:
    """Return an owner that shares no group with `domain`; the first owner if each shares one, but not the same."""
    apart = (a for owner, a in had.items() if not any({domain, owner} <= g for g in groups))
    return next(apart, next(iter(had.values())))


def _all_assignments(files: Sequence[Parts]) -> Iterator[tuple[Parts, Path, Assignment]]:
    for file in files:
        for path, assignment in file.assignments.items():
            yield file, path, assignment


def _device_place(file: Parts, path: Path) -> Place:
    return file.tree.places[*path, "device"]


def _domain(said: str) -> str:
    """Return a domain's name, or its UUID in canonical spelling."""
    try:
        return str(UUID(said)) if said.count("-") == 4 else said  # noqa: PLR2004  # 8-4-4-4-12
    except ValueError:
        return said
