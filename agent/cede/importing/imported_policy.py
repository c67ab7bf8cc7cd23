"""The assignments of all sources, compared with the host and its policy, and proposed as the YAML of a policy.

Each device is proposed once, for one domain. Every value of the YAML that is not plain is quoted, and text from other
files goes into comments only as printable lines.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Annotated

import yaml

from cede.importing.sources import DesiredDevice, SourceContent
from cede.model.domain import DomainName
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device, Identity
from cede.model.plan import Refused, Sentence
from cede.model.policy import DevicePolicy, Policy, When
from cede.planner.resolve import resolve_targets
from cede.util.json_keywords import Keywords
from cede.util.text import is_plain, one_line

# The most telling name for a class, by the beginning of its code (PCI Code and ID Assignment Specification).
_KINDS = {
    "0106": "sata", "0107": "sas", "0108": "nvme", "01": "storage", "0200": "nic", "0280": "wifi", "02": "net",
    "03": "gpu", "0401": "audio", "0403": "audio", "04": "media", "0c03": "usb", "12": "accel",
}  # fmt: skip


DeviceName = Annotated[
    str,
    Keywords(
        name="device_name",
        description="the name of a device in the policy",
        pattern="^[A-Za-z0-9_-]{1,64}$",
    ),
]
Origins = Annotated[tuple[str, ...], Keywords(min_items=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedDevice:
    """A device for the policy.

    `identity` is None where this host lacks it; `origins` are where it was found; `notes` are what could not be carried
    over.
    """

    name: DeviceName
    address: Address
    identity: Identity | None = None
    origins: Origins = ()
    notes: tuple[Sentence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAssignment:
    """An assignment for the policy.

    With `permissive` the guest may write all of the configuration space; with `adopt` a hostdev is there that cede is
    to take over; `when` tells whether a running domain has it now or gets it at its next start; `origins` are where it
    was found.
    """

    device: DeviceName
    domain: DomainName
    permissive: bool = False
    adopt: bool = False
    when: When = When.NOW
    origins: Origins = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedPolicy:
    """The content of the proposed policy.

    `devices` and `assignments` are in the order of addresses; `notes` are what is left out, and why.
    """

    devices: tuple[ImportedDevice, ...] = ()
    assignments: tuple[ImportedAssignment, ...] = ()
    notes: tuple[Sentence, ...] = ()


def import_policy(
    found: Iterable[SourceContent], inventory: Inventory, existing: Policy
) -> ImportedPolicy:
    """Propose one policy for all contents, in the order of addresses.

    What the `existing` policy already names is left out and noted: both may be used together. So is a bridge, which no
    policy overrides. If several domains are to have one device, the first gets it.
    """
    contents = tuple(found)
    notes = [note for content in contents for note in content.notes]
    by_address: dict[Address, list[DesiredDevice]] = {}
    for wanted in (wanted for content in contents for wanted in content.wanted):
        by_address.setdefault(wanted.address, []).append(wanted)
    known = _known(existing, inventory)
    taken = {device.name for device in existing.devices}
    devices: list[ImportedDevice] = []
    assignments: list[ImportedAssignment] = []
    for address, several in sorted(by_address.items()):
        device = inventory.device(address)
        if device is not None and device.is_bridge:
            notes += _bridge(several)
            continue
        if address in known:
            notes += _already(known[address], existing, several, inventory)
            continue
        name = _name(address, device, taken)
        taken.add(name)
        chosen = _assignment(name, several, inventory)
        devices.append(
            ImportedDevice(
                name=name,
                address=address,
                identity=device.identity if device else None,
                origins=tuple(dict.fromkeys(w.origin for w in several)),
                notes=tuple(dict.fromkeys(_device_notes(several, device, chosen, inventory))),
            )
        )
        if chosen is not None:
            assignments.append(chosen)
    return ImportedPolicy(
        devices=tuple(devices), assignments=tuple(assignments), notes=tuple(notes)
    )


def _known(existing: Policy, inventory: Inventory) -> dict[Address, DevicePolicy]:
    """Return the existing policy's devices by the addresses that they resolve to, or name."""
    known: dict[Address, DevicePolicy] = {}
    targets = resolve_targets(existing, inventory)
    for described in existing.devices:
        found = targets.functions(described, described.name)
        addresses = (
            (described.match.address,)
            if isinstance(found, Refused)
            else tuple(device.address for device in found)
        )
        for address in addresses:
            if address is not None:
                known.setdefault(address, described)
    return known


def _already(
    described: DevicePolicy, existing: Policy, several: list[DesiredDevice], inventory: Inventory
) -> Iterable[str]:
    there = [assignment.domain for assignment in existing.assignments_of(described.name)]
    for wanted in several:
        what = (
            f"{wanted.address} ({wanted.origin}) is {described.name} at {described.place} already"
        )
        if wanted.domain is None or any(_same(wanted.domain, d, inventory) for d in there):
            yield f"{what}; left out"
        else:
            where = f"assigned to {', '.join(there)}" if there else "not assigned"
            yield f"{what}, {where} there; left out for {wanted.domain}"


def _bridge(several: list[DesiredDevice]) -> Iterable[str]:
    for wanted in several:
        yield (
            f"{wanted.address} ({wanted.origin}) is a bridge, which no guest is given; assign the devices behind it; "
            f"left out{f' for {wanted.domain}' if wanted.domain else ''}"
        )


def _same(one: str, other: str, inventory: Inventory) -> bool:
    """Whether two names or UUIDs mean one domain."""
    first, second = inventory.domain(one), inventory.domain(other)
    return one == other or (first is not None and first is second)


def _in_a_policy(name: str, inventory: Inventory) -> str:
    """Return the domain's name, or its UUID if a policy refuses the name for what isn't seen of it."""
    domain = None if is_plain(name) else inventory.domain(name)
    return name if domain is None else domain.uuid


def _assignment(
    name: str, several: list[DesiredDevice], inventory: Inventory
) -> ImportedAssignment | None:
    """Return the first domain's assignment, merged from all its sources; `when: now` if any source says so."""
    domain = next((w.domain for w in several if w.domain is not None), None)
    if domain is None:
        return None
    same = [w for w in several if w.domain is not None and _same(w.domain, domain, inventory)]
    chosen = ImportedAssignment(
        device=name,
        domain=_in_a_policy(domain, inventory),
        permissive=any(w.permissive for w in same),
        adopt=any(w.adopt for w in same),
        when=When.NOW if any(w.when is When.NOW for w in same) else When.NEXT_START,
        origins=tuple(dict.fromkeys(w.origin for w in same)),
    )
    adopted = [w for w in same if w.adopt]
    if adopted:  # an adopted hostdev keeps its settings
        return replace(chosen, when=adopted[0].when, permissive=adopted[0].permissive)
    return chosen


def _device_notes(
    several: list[DesiredDevice],
    device: Device | None,
    chosen: ImportedAssignment | None,
    inventory: Inventory,
) -> Iterable[str]:
    if device is None:
        yield "this host has no device at this address: correct the match, or remove the device"
    for wanted in several:
        yield from wanted.notes
        if wanted.domain and chosen and not _same(wanted.domain, chosen.domain, inventory):
            yield (
                f"left out for {wanted.domain} ({wanted.origin}); if both take turns, assign the device to both "
                f"and list both under `alternatives`"
            )
    if chosen is None:
        yield "assigned to no domain, since the source names none"


def _name(address: Address, device: Device | None, taken: Container[str]) -> str:
    """Return a stable, unused name from class and address, such as `nic-01-00-0`."""
    code = device.identity.class_code if device else ""
    kind = next((kind for prefix, kind in _KINDS.items() if code.startswith(prefix)), "pci")
    segment = f"{address.segment:04x}-" if address.segment else ""
    name = f"{kind}-{segment}{address.bus:02x}-{address.slot:02x}-{address.function}"
    numbered = (f"{name}-{number}" for number in count(2))
    return next(unique for unique in chain((name,), numbered) if unique not in taken)


_WIDTH = 100
_MAX_COMMENT = 600
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def policy_text(imported: ImportedPolicy, sources: Iterable[str], names: dict[str, str]) -> str:
    """Return the policy as YAML with a final newline. `names` has the card's name for each device's name."""
    lines = [
        *_comment(f"Made by `cede import` from {', '.join(sources)}."),
        "# Nothing was changed. Review and edit this file, then run `cede plan -f` with it.",
    ]
    if imported.notes:
        lines += ["#", "# Left out:"]
        lines += [line for note in imported.notes for line in _comment(note, mark="# - ")]
    lines += ["version: 1", "devices:" if imported.devices else "devices: {}"]
    for device in imported.devices:
        lines += _device(device, names.get(device.name, ""))
    lines.append("assignments:" if imported.assignments else "assignments: []")
    for assignment in imported.assignments:
        lines += _yaml_assignment(assignment)
    return "\n".join(lines) + "\n"


def _device(device: ImportedDevice, called: str) -> Iterator[str]:
    yield f"  {device.name}:"
    if called:
        yield from _comment(called, mark="    # ")
    yield from _comment(f"from {', '.join(device.origins)}", mark="    # ")
    for note in device.notes:
        yield from _comment(note, mark="    # - ")
    yield f'    match: {{address: "{device.address}"}}'
    if device.identity is not None:
        identity = device.identity
        yield f'    expect: {{vendor: "{identity.vendor}", device: "{identity.device}"}}'


def _yaml_assignment(assignment: ImportedAssignment) -> Iterator[str]:
    yield f"  - device: {assignment.device}"
    yield f"    domain: {_scalar(assignment.domain)}"
    if assignment.permissive:
        yield "    permissive: true"
    if assignment.adopt:
        yield "    adopt: true"
    if assignment.when is not When.NOW:
        yield f"    when: {assignment.when}"


def _scalar(text: str) -> str:
    """Return `text` as YAML that reads back as the same string."""
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=float("inf")).rstrip("\n")
    return quoted


def _comment(text: str, mark: str = "# ") -> list[str]:
    """Return `text` as comment lines; the first begins with `mark`, the others are indented below."""
    clean = one_line(text, _MAX_COMMENT)
    further = mark[: mark.index("#") + 1].ljust(len(mark))
    return textwrap.wrap(
        clean, width=_WIDTH, initial_indent=mark, subsequent_indent=further, break_long_words=False,
        break_on_hyphens=False,
    ) or [mark.rstrip()]  # fmt: skip
