"""The early binder's plan: the policy's devices to pciback, before there is a libvirt, a guest or a network.

While dom0 comes up little tells what it will live on: no route is set, no guest runs, a late mount is still to come. So
nothing is taken then but what cede had taken before, when all that was known. The rest is left to `cede apply`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.domain import Domain, GuestKind
from cede.model.pci import Device
from cede.model.plan import Change, Decision, Plan, Purpose, Refused, Satisfied, Why
from cede.model.policy import When
from cede.planner.attach import bind_actions
from cede.planner.attach_target import AttachTarget, PlanContext
from cede.planner.guards import refuse_guarded
from cede.planner.match import fits
from cede.planner.pauses import left_alone
from cede.planner.resolve import resolve_targets
from cede.planner.rules import Asked, first_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.policy import DevicePolicy, Policy
    from cede.planner.resolve import Target

# whatever domains may have a device, they start once dom0 is up
_ANY_GUEST = Domain(name="a guest", uuid="-", kind=GuestKind.PV)


def plan_boot(policy: Policy, inventory: Inventory) -> Plan:
    """Plan to bind each assigned device to pciback; one decision per device, whatever domains may have it."""
    return Plan(decisions=tuple(decision for _, _, decision in _decisions(policy, inventory)))


def held_back(policy: Policy, inventory: Inventory) -> tuple[tuple[Device, ...], Plan]:
    """Return the devices that pciback may hold back from dom0's drivers from the start, and their plan."""
    devices = []
    decisions = list(_decisions(policy, inventory))
    for named, device, decision in decisions:
        if device is None or isinstance(decision, Refused):
            continue
        if refuse_guarded(device, "", inventory, policy.protect, named.override) is None:
            devices.append(device)
    return tuple(devices), Plan(decisions=tuple(decision for _, _, decision in decisions))


def awaited(policy: Policy, inventory: Inventory) -> tuple[str, ...]:
    """Return the names of devices that may still appear: nothing matches yet, or the driver is not bound yet."""
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
    targets = resolve_targets(policy, inventory)
    of_name: dict[str, list[Target]] = {}
    for target in targets.each:
        of_name.setdefault(target.assignment.device, []).append(target)
    candidates = {
        name: AttachTarget(
            subject=f"{name} -> {' or '.join(t.assignment.domain for t in those)}",
            assignment=replace(those[0].assignment, when=When.NEXT_START),
            device=device,
            domain=_ANY_GUEST,
            policy=policy,
            inventory=inventory,
        )
        for name, those in of_name.items()
        if (device := next((t.device for t in those if t.device is not None), None)) is not None
    }
    context = PlanContext.of(candidates.values())
    for named in _assigned(policy):
        candidate, those = candidates.get(named.name), of_name[named.name]
        if candidate is not None:
            pauses = [target.pause for target in those if target.device is not None]
            yield named, candidate.device, _decision(candidate, context, pauses)
        elif those[0].refusal is not None:
            yield named, None, those[0].refusal


def _decision(
    candidate: AttachTarget, context: PlanContext, pauses: Sequence[Pause | None]
) -> Decision:
    device, subject = candidate.device, candidate.subject
    if device.on_pciback and device.address not in context.twice:
        reason = f"{device.address} is on pciback already"
        return Satisfied(subject=subject, why=Why.ASSIGNABLE, reason=reason)
    if all(pauses) and pauses[0] is not None:
        return left_alone(subject, pauses[0], device.address)
    answer = first_answer(candidate, context, Asked.AT_BOOT)
    if answer is not None:
        return answer
    return Change(
        subject=subject,
        purpose=Purpose.BIND,
        device=candidate.assignment.device,
        address=device.address,
        identity=device.identity,
        actions=tuple(bind_actions(candidate)),
    )
