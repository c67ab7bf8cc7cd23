"""One-offs: attach, detach and release of one device that the administrator names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cede.errors import TransientError, UsageError
from cede.model.pci import Address
from cede.model.plan import Card, Change, Paused, Plan, Purpose, Refused, filter_plan
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Functions,
    Match,
    Place,
    Policy,
    Verification,
    When,
    source_text,
)
from cede.planner.groups import Member, keep_together
from cede.planner.planner import plan
from cede.planner.release import detach, release
from cede.planner.resolve import resolve_targets, subject_of
from cede.services.observe import observe_host
from cede.services.pass_report import Report
from cede.services.reconcile import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory
    from cede.model.plan import Decision
    from cede.planner.resolve import Targets
    from cede.services.reconcile import RequestContext

SOURCE = "cede attach"
_HERE = Place(file="command line", line=1, column=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """What the administrator asks for: `device` is an address or a name in the policy, `channel` None as it says."""

    device: str
    domain: str
    permissive: bool = False
    when: When = When.NOW
    channel: Channel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """What a detach or a release would do; `held` are the addresses that cede left alone until now."""

    inventory: Inventory
    plan: Plan
    held: tuple[Address, ...] = ()


def plan_attach(adapters: Adapters, host: Policy, request: AttachRequest) -> tuple[Targets, Plan]:
    """Plan the one assignment, with the guards of the host's policy; `cede.services.reconcile.apply` carries it out.

    A paused device or domain is given all the same, since the administrator names it. Raises UsageError if there is no
    such device, TransientError if the device or the domain is drained.
    """
    inventory = observe_host(adapters)
    policy = policy_of(host, request, inventory)
    drained = tuple(pause for pause in inventory.pauses if pause.drained)
    targets = resolve_targets(policy, replace(inventory, pauses=drained))
    planned = plan_of_assignment(plan(targets), policy)
    if any(_is_drained(decision) for decision in planned.decisions):
        raise TransientError(
            f"{request.device} or {request.domain} is drained",
            name="drained",
            remedy="`cede resume` ends the drain; `cede status` shows it",
        )
    return targets, planned


def _is_drained(decision: Decision) -> bool:
    drains = isinstance(decision, Change) and decision.purpose is Purpose.DRAIN
    return drains or isinstance(decision, Paused)


def plan_release(adapters: Adapters, host: Callable[[], Policy], device: str) -> WayOut:
    """Plan the way of the device out of its guest and back to dom0. Raises UsageError if there is no such device.

    `host` reads the policy, which is asked only for a name: one that can't be read keeps no device in a guest.
    """
    return _plan_way_out(release, "release", adapters, host, device)


def plan_detach(adapters: Adapters, host: Callable[[], Policy], device: str) -> WayOut:
    """Plan the same, but for the end: the device stays on pciback, ready for another guest."""
    return _plan_way_out(detach, "detach", adapters, host, device)


def _plan_way_out(
    plan_for: Callable[[Address, str, Inventory], Decision],
    verb: str,
    adapters: Adapters,
    host: Callable[[], Policy],
    device: str,
) -> WayOut:
    inventory = observe_host(adapters)
    found = named(host, device, inventory, verb)
    if isinstance(found, Refused):
        return WayOut(inventory=inventory, plan=Plan(decisions=(found,)))
    members = [
        Member(
            decision=plan_for(address, f"{verb} {address}", inventory),
            address=address, owner=device, domain="",
        )
        for address in found
    ]  # fmt: skip
    subjects = tuple(member.decision.subject for member in members)
    planned = Plan(
        decisions=keep_together(members, inventory),
        cards=(Card(assignment=f"{verb} {device}", functions=subjects),) if subjects[1:] else (),
    )
    held = () if planned.refusals else (one.address for one in inventory.held)
    return WayOut(
        inventory=inventory,
        plan=planned,
        held=tuple(address for address in held if address in found),
    )


def take_out(adapters: Adapters, planned: WayOut, context: RequestContext) -> Report:
    """Carry out a detach or a release; a device that cede left alone is cede's again with it."""
    for address in planned.held:
        adapters.journal.unhold(address)
    outcomes = carry_out(adapters, planned.inventory, planned.plan, context)
    return Report.of(planned.plan, outcomes)


def policy_of(host: Policy, request: AttachRequest, inventory: Inventory) -> Policy:
    """Return the host's policy, its protection above all, with this one assignment instead of its own.

    Raises UsageError if the device is neither an address that this host has nor a name in the policy.
    """
    device, domain, channel = request.device, request.domain, request.channel
    described = host.device(device)
    if described is None:
        address, functions = _address(host, device)
        found = inventory.device(address)
        if found is None:
            raise no_such_device(device)
        described = DevicePolicy(
            name=found.address.node_device,
            match=Match(address=found.address),
            expect=Expect(vendor=found.identity.vendor, device=found.identity.device),
            functions=functions,
            place=_HERE,
        )
    assignment = Assignment(
        device=described.name,
        domain=domain,
        permissive=request.permissive,
        when=request.when,
        verification=_verification(host, domain, inventory, channel),
        place=_HERE,
    )
    return replace(
        host, devices=(described,), assignments=(assignment,), alternatives=(), source=SOURCE
    )


def _verification(
    host: Policy, domain: str, inventory: Inventory, channel: Channel | None
) -> Verification:
    """As the host's policy says it for that domain; without a word there, by `channel`, ssh to the domain's name."""
    libvirt_domain = inventory.domain(domain)
    names = {domain} | ({libvirt_domain.name, libvirt_domain.uuid} if libvirt_domain else set())
    verifications = [
        assignment.verification for assignment in host.assignments if assignment.domain in names
    ]
    fitting = [
        verification for verification in verifications if channel in {None, verification.guest}
    ]
    if fitting:
        return fitting[0]
    return Verification(
        guest=channel or Channel.CONSOLE, host=domain if channel is Channel.SSH else None
    )


def plan_of_assignment(planned: Plan, one: Policy) -> Plan:
    """Return the part of a plan that is about the one assignment; earlier one-offs stay as they are."""
    subject = subject_of(one.assignments[0])
    return filter_plan(
        planned,
        {d.subject for d in planned.decisions if planned.assignment_of(d.subject) == subject},
    )


def named(
    host: Callable[[], Policy], device: str, inventory: Inventory, verb: str
) -> tuple[Address, ...] | Refused:
    """Return the addresses that the administrator means: one or a slot's in any spelling, else by a name in the policy.

    The policy is read only then. Raises UsageError if it is neither, or if nothing on this host ever was there.
    """
    with suppress(ValueError):
        return (known_address(Address.parse(device), inventory),)
    with suppress(ValueError):
        return _in_slot(Address.parse_slot(device), inventory)
    policy = host()
    described = policy.device(device)
    if described is None:
        return (known_address(_address(policy, device)[0], inventory),)
    targets = resolve_targets(policy, inventory)
    found = targets.functions(described, f"{verb} {device}")
    return found if isinstance(found, Refused) else tuple(one.address for one in found)


def _in_slot(slot: Address, inventory: Inventory) -> tuple[Address, ...]:
    """Return the functions of a slot that there are, and those that a domain still lists; else raise UsageError."""
    listed = {h.address for domain in inventory.domains for h in (*domain.live, *domain.config)}
    first = inventory.device(slot)
    present = {
        one.address
        for one in inventory.devices
        if one.physical_function is None and first is not None and one.same_card(first)
    }
    known = {one.address for one in inventory.devices if one.physical_function is None} | listed
    found = tuple(sorted(present | {one for one in known if one.same_slot(slot)}))
    if not found:
        raise no_such_device(str(slot))
    return found


def known_address(address: Address, inventory: Inventory) -> Address:
    """Return `address`. Raises UsageError if no device is there, and no domain lists one that was."""
    if inventory.device(address) is None and not inventory.wanting(address):
        raise no_such_device(str(address))
    return address


def no_such_device(text: str) -> UsageError:
    """Return the error for an address at which this host has no device."""
    return UsageError(
        f"this host has no device at {text}",
        name="no-such-device",
        remedy="`cede devices` lists them",
    )


def _address(host: Policy, device: str) -> tuple[Address, Functions]:
    """Return the address, or a slot's with all its functions."""
    with suppress(ValueError):
        return Address.parse_slot(device), Functions.ALL
    try:
        return Address.parse(device), Functions.ONE
    except ValueError as error:
        known = ", ".join(d.name for d in host.devices) or "none"
        raise UsageError(
            f"{device!r} is neither a PCI address nor a device of {source_text(host.source)}, which has: {known}",
            name="no-such-device",
        ) from error
