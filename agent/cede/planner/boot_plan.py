"""The early binder's plan: the policy's devices to pciback, before there is a libvirt, a guest or a network.

While dom0 comes up little tells what it will live on: no route is set, no guest runs, a late mount is still to come. So
nothing is taken then but what cede had taken before, when all that was known. The rest is left to `cede apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.pci import Device
from cede.model.plan import (
    Action,
    BindToPciback,
    Change,
    Decision,
    LoadPciback,
    Plan,
    Purpose,
    Refused,
    Satisfied,
    Why,
)
from cede.planner.guards import refuse_guarded
from cede.planner.match import fits, refuse_twice
from cede.planner.pauses import left_alone, pause_of
from cede.planner.recovery import refuse_held
from cede.planner.resets import refuse_reset
from cede.planner.resolve import resolve_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.model.policy import DevicePolicy, Policy

_DEFAULT_ROUTE = "default-route"


def plan_boot(policy: Policy, inventory: Inventory) -> Plan:
    """What to do so that each assigned device is on pciback; one decision per device, whatever domains may have it."""
    return Plan(decisions=tuple(decision for _, _, decision in _decisions(policy, inventory)))


def held_back(policy: Policy, inventory: Inventory) -> tuple[tuple[Device, ...], Plan]:
    """The devices that pciback may hold back from dom0's drivers right from the start, and the plan they are from."""
    devices = []
    decisions = list(_decisions(policy, inventory))
    for named, device, decision in decisions:
        if device is None or isinstance(decision, Refused):
            continue
        if refuse_guarded(device, "", inventory, policy.protect, named.override) is None:
            devices.append(device)
    return tuple(devices), Plan(decisions=tuple(decision for _, _, decision in decisions))


def awaited(policy: Policy, inventory: Inventory) -> tuple[str, ...]:
    """The assigned devices that may still appear: nothing fits them yet, or it lacks the driver that it had."""
    return tuple(
        named.name
        for named in _assigned(policy)
        if not any(fits(named.match, d) and not _undriven_yet(d) for d in inventory.devices)
    )


def _undriven_yet(device: Device) -> bool:
    had = device.original_state.driver if device.original_state else None
    return device.driver is None and had is not None


def _assigned(policy: Policy) -> list[DevicePolicy]:
    names = dict.fromkeys(assignment.device for assignment in policy.assignments)
    return [named for name in names if (named := policy.device(name)) is not None]


def _decisions(
    policy: Policy, inventory: Inventory
) -> Iterator[tuple[DevicePolicy, Device | None, Decision]]:
    found = _first_of_each(policy, inventory)
    addresses = [d.address for d in found.values() if isinstance(d, Device)]
    for named in _assigned(policy):
        subject = _subject(named.name, policy)
        device = found[named.name]
        if isinstance(device, Refused):
            yield named, None, device
        elif addresses.count(device.address) > 1:
            yield named, None, refuse_twice(named.name, device.address, subject)
        else:
            yield named, device, _decision(named, device, subject, policy, inventory, addresses)


def _first_of_each(policy: Policy, inventory: Inventory) -> Mapping[str, Device | Refused]:
    """By the name of the device: what any of its assignments turned out to mean, else why none did."""
    found: dict[str, Device | Refused] = {}
    for target in resolve_targets(policy, inventory).each:
        resolve_assignment = target.device or target.refusal
        if resolve_assignment is not None and isinstance(
            found.get(target.assignment.device), Refused | None
        ):
            found[target.assignment.device] = resolve_assignment
    return found


def _subject(name: str, policy: Policy) -> str:
    return (
        f"{name} -> {' or '.join(assignment.domain for assignment in policy.assignments_of(name))}"
    )


def _decision(
    named: DevicePolicy,
    device: Device,
    subject: str,
    policy: Policy,
    inventory: Inventory,
    together: Collection[Address],
) -> Decision:
    if device.on_pciback:
        return Satisfied(
            subject=subject, why=Why.ASSIGNABLE, reason=f"{device.address} is on pciback already"
        )
    pauses = [
        pause_of(
            inventory,
            device=named.name,
            address=device.address,
            domain=inventory.domain(assignment.domain),
            named=assignment.domain,
        )
        for assignment in policy.assignments_of(named.name)
    ]
    if pauses and all(pauses) and pauses[0] is not None:
        return left_alone(subject, pauses[0], device.address)
    refusal = (
        refuse_held(device.address, subject, inventory)
        or refuse_guarded(device, subject, inventory, policy.protect, named.override)
        or _refuse_unsure(device, subject, inventory)
        or refuse_reset(device, subject, inventory, together=together)
    )
    if refusal is not None:
        return refusal
    original = device.original_state
    load: tuple[Action, ...] = () if inventory.pciback_loaded else (LoadPciback(),)
    return Change(
        subject=subject,
        purpose=Purpose.BIND,
        device=named.name,
        address=device.address,
        identity=device.identity,
        actions=(
            *load,
            BindToPciback(
                address=device.address,
                driver=device.driver or (original.driver if original else None),
            ),
        ),
    )


def _refuse_unsure(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Without a default route it can't be told what dom0 reaches the world by; nor, then, what else is to come."""
    routed = any(use.guard == _DEFAULT_ROUTE for d in inventory.devices for use in d.uses)
    if routed or _taken_before(device):
        return None
    return Refused(
        subject=subject,
        reason=f"dom0 has no default route yet, so it can't be told whether it will need {device.address}, which cede "
        "never took before",
        remedy="`cede apply` takes it once the network is up; from then on it is taken at every boot",
        kind=FailureKind.TRY_LATER,
        rule="network-unknown",
    )


def _taken_before(device: Device) -> bool:
    """Whether it is the very card that cede has taken and not given back: cards of one make differ by MAC or serial."""
    if device.original_state is None:
        return False
    macs = {link.mac for link in device.original_state.links}
    return not macs or device.serial is not None or device.mac in macs
