"""Which device a policy means, and whether it is still the one that was meant.

An address is a place, not an identity: a card that moves leaves its address to another. So the device found is held
against `expect` before anything is planned for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.pci import TRAITS
from cede.model.plan import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cede.model.inventory import Inventory
    from cede.model.pci import Device, OriginalState
    from cede.model.policy import DevicePolicy, Expect, Match


def fits(match: Match, device: Device) -> bool:
    """Return whether every field of `match` holds for `device`; no device fits while a name in it isn't resolved."""
    identity = device.identity
    return (
        match.physical_name is None
        and all(
            described is None or described == found
            for described, found in (
                (match.address, device.address),
                (match.path, device.path),
                (match.vendor, identity.vendor),
                (match.device, identity.device),
                (match.subsystem, identity.subsystem),
                (match.mac, device.mac),
                (match.serial, device.serial),
                (match.physical_function, device.physical_function),
                (match.function_index, device.function_index),
            )
        )
        and (match.class_code is None or identity.class_code.startswith(match.class_code))
    )


def differences(expect: Expect, device: Device) -> tuple[str, ...]:
    """Return each field of `expect` that differs from `device`, as a phrase.

    A device on pciback has no interface, so its MAC is unknown there and can't speak against it.
    """
    identity = device.identity
    pairs = (
        ("vendor", expect.vendor, identity.vendor),
        ("device", expect.device, identity.device),
        ("subsystem", expect.subsystem, identity.subsystem),
        ("class", expect.class_code, identity.class_code[: len(expect.class_code or "")]),
        ("MAC", expect.mac, expect.mac if device.on_pciback else device.mac),
        ("serial", expect.serial, device.serial),
    )
    return tuple(
        f"{name} is {found or 'unknown'}, not {described}"
        for name, described, found in pairs
        if described is not None and found != described
    )


def resolve_device(
    described: DevicePolicy,
    inventory: Inventory,
    subject: str,
    domain: str = "",
    *,
    source: str | None = None,
    choose: Callable[[list[Device], list[Device]], Device | Refused] | None = None,
) -> Device | Refused:
    """Return the one device that the policy means, or the refusal if there is not exactly one.

    With `any` it is what `choose` chooses, of all that match, and of those that cede gave under this name before, in
    `domain` first of all (planner.pools); without it the first of the latter, else of the former. `source` is the
    policy whose notes count beside those in `domain` itself; None for all.
    """
    devices = candidates(described.match, inventory)
    owned = _owned(described.name, inventory, domain, source)
    if not devices and described.match.mac is not None:
        devices = _hidden(described.match, owned)
    elif devices and described.match.any_one:
        before = [d for group in owned for d in group if _still_its(described.name, d, inventory)]
        chosen = (
            choose(devices, before)
            if choose
            else next((device for device in before if device in devices), devices[0])
        )
        if isinstance(chosen, Refused):
            return chosen
        devices = [chosen]
    if not devices:
        return _refuse_asleep(
            described, _candidates_by_serial(described.match, inventory), subject
        ) or _missing(described, inventory, subject)
    if len(devices) > 1:
        names = ", ".join(str(address) for address in sorted(d.address for d in devices))
        return Refused(
            subject=subject,
            reason=f"{described.name} ({described.place}) matches {len(devices)} devices: {names}",
            remedy="add an address, a path or a serial to the match, so that one device matches, or set `any: true`",
            kind=FailureKind.USAGE,
            rule="matches-several",
        )
    wrong = differences(described.expect, devices[0])
    if wrong and not differences(replace(described.expect, serial=None), devices[0]):
        asleep = _refuse_asleep(described, devices, subject)
        if asleep is not None:
            return asleep
    if wrong:
        return Refused(
            subject=subject,
            reason=f"{devices[0].address} is another device than {described.name} expects: {'; '.join(wrong)}",
            remedy=f"see what is in that slot now, then correct {described.place}",
            kind=FailureKind.UNSAFE,
            rule="another-device",
        )
    return _refuse_swapped(described, devices[0], inventory, subject) or devices[0]


def _candidates_by_serial(match: Match, inventory: Inventory) -> list[Device]:
    """Return the devices of which only the serial number tells whether they match."""
    if match.serial is None:
        return []
    return candidates(replace(match, serial=None), inventory)


def _refuse_asleep(
    described: DevicePolicy, devices: Iterable[Device], subject: str
) -> Refused | None:
    """Refuse where a device that sleeps may be the one: its serial number is not read, since that would wake it."""
    device = next((d for d in devices if d.asleep and d.serial is None), None)
    if device is None:
        return None
    return Refused(
        subject=subject,
        reason=f"whether {device.address} has the serial number that {described.name} ({described.place}) names can't "
        "be told while the device sleeps",
        remedy=f"keep it awake: echo on > /sys/bus/pci/devices/{device.address}/power/control",
        kind=FailureKind.TRY_LATER,
        rule="asleep",
    )


def asleep_candidates(described: DevicePolicy, inventory: Inventory) -> list[Device]:
    """Return the devices that may be the one, but sleep, so that their serial numbers can't be told."""
    found = _candidates_by_serial(described.match, inventory)
    return [device for device in found if device.asleep and device.serial is None]


def _refuse_swapped(
    described: DevicePolicy, device: Device, inventory: Inventory, subject: str
) -> Refused | None:
    """Refuse a card that isn't the one that cede took at this address, where the policy names no MAC and no serial.

    Bus numbers shift when a card is added or removed: then a card of the same model may stand where the other stood.
    """
    match, expect = described.match, described.expect
    if any((match.mac, match.serial, expect.mac, expect.serial, match.any_one)):
        return None
    if device.physical_function is not None:
        return None  # its MAC is given to it, and its serial is its card's
    state = inventory.origin(device.address)
    if state is None or device.identity != state.identity:
        return None  # another model, which is for `expect` to judge
    wrong = _swapped(device, state, inventory)
    if wrong is None:
        return None
    return Refused(
        subject=subject,
        reason=f"{device.address} is not the card that cede gave away from there before: {wrong}",
        remedy=f"if this card is meant, add its MAC or serial to `expect` at {described.place}; else correct the match",
        kind=FailureKind.UNSAFE,
        rule="another-card",
    )


def _swapped(device: Device, state: OriginalState, inventory: Inventory) -> str | None:
    """Return what tells the device from the card of that state, None if nothing does."""
    if device.serial is not None and device.serial != state.serial:
        return f"its serial is {device.serial}, not {state.serial or 'none'}"
    if state.serial is not None:
        there = next((o for o in inventory.having("serial", state.serial) if o is not device), None)
        if there is not None:
            return f"that one, by its serial, is at {there.address} now"
    shown = None if device.on_pciback or device.mac_set else device.mac
    if state.macs and shown is not None and shown not in state.macs:
        return f"its MAC is {shown}, not {state.macs[0]}"
    same = (other for mac in state.macs for other in inventory.having("mac", mac))
    moved = (o for o in same if o is not device and not (o.on_pciback or o.mac_set))
    there = next(moved, None)
    return None if there is None else f"that one, by its MAC, is at {there.address} now"


def candidates(match: Match, inventory: Inventory) -> list[Device]:
    """Return all devices that match, in listed order, searched among the fewest that share a trait."""
    said = ((trait, getattr(match, trait)) for trait in TRAITS)
    pools = [inventory.having(trait, value) for trait, value in said if value is not None]
    return [
        device for device in min(pools, key=len, default=inventory.devices) if fits(match, device)
    ]


def _hidden(match: Match, owned: Iterable[list[Device]]) -> list[Device]:
    """Find a NIC on pciback, which has no interface and so no MAC, by cede's ownership metadata.

    Where notes contradict each other, `any` of them will not do: only one can be the card with that MAC.
    """
    rest = replace(match, mac=None)
    fitting = ([d for d in group if d.on_pciback and fits(rest, d)] for group in owned)
    return next((group for group in fitting if group), [])


def _owned(
    name: str, inventory: Inventory, domain: str, source: str | None
) -> tuple[list[Device], ...]:
    """Return the devices that cede gave under `name`: for this policy in `domain`, elsewhere, for another policy."""
    own_here: list[Device] = []
    own: list[Device] = []
    here: list[Device] = []
    for holding, ownership in inventory.owned_as(name):
        device = inventory.device(ownership.address)
        in_domain = domain in {holding.name, holding.uuid}
        if device is not None and source in {None, ownership.policy}:
            (own_here if in_domain else own).append(device)
        elif device is not None and in_domain:
            here.append(device)
    return own_here, own, here


def _still_its(name: str, device: Device, inventory: Inventory) -> bool:
    """Whether no hostdev speaks against the note that gave the device that name: a note can outlive its hostdev."""
    having = inventory.wanting(device.address)
    named = (d for d, note in inventory.owned_as(name) if note.address == device.address)
    return not having or any(domain in having for domain in named)


def _missing(described: DevicePolicy, inventory: Inventory, subject: str) -> Refused:
    address = described.match.address
    at = None if address is None else inventory.device(address)
    if at is not None:
        said = f"{at.address} is {at.identity}, which is not what {described.name} matches"
        return Refused(
            subject=subject,
            reason=f"{said} ({described.place})",
            remedy="see what is in that slot now, then correct the policy",
            kind=FailureKind.UNSAFE,
            rule="another-device",
        )
    holders = () if address is None else inventory.wanting(address)
    listed = f"; it is still in the XML of {', '.join(d.name for d in holders)}" if holders else ""
    return Refused(
        subject=subject,
        reason=f"no device of this host matches {described.name} ({described.place}){listed}",
        remedy=f"`cede release {address}` removes the hostdev that is left"
        if holders
        else "it goes on once the device is there; should the match be wrong, `cede devices` lists what there is",
        kind=FailureKind.TRY_LATER,
        rule="no-device",
    )
