"""Whether a device is fit to be given away, and with what: the planner's own answer for a guest that is made for it.

The guest in question is a running PV guest with passthrough on and nothing in it. What the planner would refuse a
one-off attach into it for, is here the reason not to choose the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.model.domain import Domain, GuestKind
from cede.model.pci import Address
from cede.model.plan import Refused
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy, When
from cede.planner.attach import plan_assignment
from cede.planner.guards import guards
from cede.planner.resets import reset_together
from cede.planner.targets import AttachTarget, PlanContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.model.inventory import Inventory
    from cede.model.pci import Device

_HERE = Place(file="cede devices", line=1, column=1)
_FRESH = Domain(name="a fresh guest", uuid="-", kind=GuestKind.PV, domid=-1)
_SIBLING_ACTIVE = "sibling-active"
_CAUSES = {
    "held": "something hangs",
    "device-quarantined": "quarantined",
    "not-listed": "not in libvirt",
    "node-devices-unknown": "libvirt can't tell",
    "domain-unreadable": "a domain can't be read",
    "guest-disks-unknown": "guests' disks unknown",
    "no-reset": "no reset",
    "reset-unknown": "reset unknown",
    "root-bus": "on a root bus",
    "segment": "unknown to Xen",
    "physical-and-virtual": "SR-IOV",
    _SIBLING_ACTIVE: "siblings in use",
}


class FitKind(StrEnum):
    """Whether a running guest can have a device."""

    YES = "yes"
    TOGETHER = "together"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """Whether a running PV guest that is made for passthrough can get a device, as the planner answers.

    `cause` is why not, in a word or two; `rule` is the name of the rule that refuses, `reason` and `remedy` are the
    planner's; all four are empty for `yes`.
    `together` are the other devices that must go into the same guest at once with it, which only a start can do.
    """

    fit: FitKind
    cause: str = ""
    rule: str = ""
    reason: str = ""
    remedy: str = ""
    together: tuple[Address, ...] = ()

    def __str__(self) -> str:
        if self.fit is FitKind.YES:
            return "yes"
        if self.fit is FitKind.NO:
            return f"no: {self.cause}"
        return f"with {', '.join(map(str, self.together))}, at next start"


def fitness(device: Device, inventory: Inventory, policy: Policy) -> Fitness:
    """Return whether the device can be given away. Of the `policy` only what it protects counts."""
    target = _target(device, inventory, policy)
    found = plan_assignment(target, PlanContext.of([target]))
    if not isinstance(found, Refused):
        return Fitness(fit=FitKind.YES)
    others = [d for d in reset_together(device, inventory) if not d.is_bridge]
    cause = _cause(found, device, inventory, policy)
    if found.rule == _SIBLING_ACTIVE and _start_together([device, *others], inventory, policy):
        return Fitness(
            fit=FitKind.TOGETHER,
            cause=cause,
            rule=found.rule,
            reason=found.reason,
            remedy=found.remedy,
            together=tuple(other.address for other in others),
        )
    return Fitness(
        fit=FitKind.NO, cause=cause, rule=found.rule, reason=found.reason, remedy=found.remedy
    )


def _target(
    device: Device, inventory: Inventory, policy: Policy, when: When = When.NOW
) -> AttachTarget:
    name = device.address.node_device
    assignment = Assignment(device=name, domain=_FRESH.name, when=when, place=_HERE)
    described = DevicePolicy(
        name=name, match=Match(address=device.address), expect=Expect(), place=_HERE
    )
    return AttachTarget(
        subject=str(device.address),
        assignment=assignment,
        device=device,
        domain=_FRESH,
        policy=replace(
            policy, devices=(described,), assignments=(assignment,), alternatives=(), source=""
        ),
        inventory=inventory,
    )


def _start_together(devices: Sequence[Device], inventory: Inventory, policy: Policy) -> bool:
    """Whether all of them can go into the guest's XML for its next start."""
    targets = [_target(device, inventory, policy, When.NEXT_START) for device in devices]
    plan_context = PlanContext.of(targets)
    return not any(isinstance(plan_assignment(target, plan_context), Refused) for target in targets)


def _cause(refused: Refused, device: Device, inventory: Inventory, policy: Policy) -> str:
    """The rule that refuses, in few words."""
    match refused.rule:
        case "host-needs-it":
            return _names(use.guard for use in guards(device, policy.protect)) or "sibling kept"
        case "elsewhere" | "owner-unknown":
            return f"in {holders(device, inventory)}"
        case rule:
            return _CAUSES.get(rule, rule)


def holders(device: Device, inventory: Inventory) -> str:
    """Return the domains that have or list the device, as Xen and libvirt call them."""
    given = inventory.given(device.address)
    names = [domain.name for domain in inventory.wanting(device.address)]
    if given is not None:
        domain = inventory.domain_by_id(given.domid)
        names.insert(0, domain.name if domain else f"domain {given.domid}")
    return _names(names) or "a guest"


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
