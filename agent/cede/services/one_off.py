"""One-offs: what the administrator names on the command line, as a policy of one assignment or as an address."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import UsageError
from cede.model.pci import Address
from cede.model.plan import Change, Plan, Purpose, Refused
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Match,
    Place,
    Policy,
    Verification,
    When,
)
from cede.planner.resolve import resolve_targets, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cede.model.inventory import Inventory

SOURCE = "cede attach"
_HERE = Place(file="command line", line=1, column=1)


def policy(
    host: Policy,
    device: str,
    domain: str,
    inventory: Inventory,
    *,
    permissive: bool,
    when: When,
    channel: Channel | None,
) -> Policy:
    """The host's policy, its protection above all, with this one assignment instead of its own.

    Raises UsageError if `device` is neither an address that this host has nor a name in the policy.
    """
    described = host.device(device)
    if described is None:
        found = inventory.device(_address(host, device))
        if found is None:
            raise UsageError(
                f"this host has no device at {device}",
                name="no-such-device",
                remedy="`cede devices` lists them",
            )
        described = DevicePolicy(
            name=found.address.node_device,
            match=Match(address=found.address),
            expect=Expect(vendor=found.identity.vendor, device=found.identity.device),
            place=_HERE,
        )
    assignment = Assignment(
        device=described.name,
        domain=domain,
        permissive=permissive,
        when=when,
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
    """The part of a plan that is about the one assignment; earlier one-offs stay as they are."""
    return filter_plan(planned, {subject_of(one.assignments[0])})


def filter_plan(planned: Plan, subjects: Collection[str], *, drained: bool = False) -> Plan:
    """The part of a plan that is about these subjects; with `drained` also whatever is taken back to dom0."""
    return Plan(
        decisions=tuple(
            decision
            for decision in planned.decisions
            if decision.subject in subjects
            or (drained and isinstance(decision, Change) and decision.purpose is Purpose.DRAIN)
        )
    )


def named(
    host: Callable[[], Policy], device: str, inventory: Inventory, verb: str
) -> Address | Refused:
    """The address that the administrator means: in any spelling, else by a name in the policy, which is read only then.

    Raises UsageError if it is neither, or if nothing on this host ever was at that address.
    """
    try:
        address = Address.parse(device)
    except ValueError:
        policy = host()
        described = policy.device(device)
        if described is None:
            address = _address(policy, device)
        else:
            targets = resolve_targets(policy, inventory)
            found = targets.device(described, f"{verb} {device}")
            return found if isinstance(found, Refused) else found.address
    if inventory.device(address) is None and not inventory.wanting(address):
        raise UsageError(
            f"this host has no device at {address}",
            name="no-such-device",
            remedy="`cede devices` lists them",
        )
    return address


def _address(host: Policy, device: str) -> Address:
    try:
        return Address.parse(device)
    except ValueError as error:
        known = ", ".join(d.name for d in host.devices) or "none"
        raise UsageError(
            f"{device!r} is neither a PCI address nor a device of {host.source} (it has: {known})",
            name="no-such-device",
        ) from error
