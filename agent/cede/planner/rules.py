"""The rules for an assignment, in the order in which they are asked; the first answer decides.

The planner, the early binder, the fitness of a device and the doctor ask these rules and no others. An answer is a
refusal, or that nothing is to be done. The rules for the way out of a domain are in `planner.release`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from cede.errors import FailureKind
from cede.model.domain import GuestKind
from cede.model.plan import Refused, Satisfied, Why
from cede.model.policy import Functions
from cede.planner.guards import refuse_disks_unknown, refuse_guarded
from cede.planner.half_gone import refuse_half_gone
from cede.planner.quarantine import refuse_quarantined
from cede.planner.recovery import refuse_held
from cede.planner.release import (
    refuse_letting_go,
    refuse_owner_unknown,
    refuse_owner_untold,
    refuse_unreadable,
)
from cede.planner.replaced import refuse_replaced
from cede.planner.resets import (
    refuse_no_reset,
    refuse_reset_unknown,
    refuse_root_bus,
    refuse_sibling,
)
from cede.planner.silence import refuse_silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address
    from cede.planner.targets import AttachTarget, PlanContext

    Answer = Refused | Satisfied | None

_DEFAULT_ROUTE = "default-route"
_NODE_DEVICES = (
    "`systemctl restart virtnodedevd` (or libvirtd), then `virsh nodedev-list --cap pci`"
)


class Asked(Enum):
    """When a rule is asked: while dom0 comes up there is no libvirt, no xenstore and no guest to ask about."""

    ALWAYS = "always"
    AT_BOOT = "at boot"
    LATER = "later"


class Rule(NamedTuple):
    """A rule by its name, which its refusals carry; `ask` answers for one target among all of a pass."""

    name: str
    asked: Asked
    ask: Callable[[AttachTarget, PlanContext], Answer]


def first_answer(target: AttachTarget, context: PlanContext, asked: Asked) -> Answer:
    """Return the first answer of a rule, or None; with ALWAYS of those alone that are asked at any time."""
    for rule in RULES:
        if rule.asked is asked or rule.asked is Asked.ALWAYS:
            answer = rule.ask(target, context)
            if answer is not None:
                return answer
    return None


def refusals(target: AttachTarget, context: PlanContext) -> tuple[Refused, ...]:
    """Return every refusal in a pass, not only the first."""
    answers = (rule.ask(target, context) for rule in RULES if rule.asked is not Asked.AT_BOOT)
    return tuple(answer for answer in answers if isinstance(answer, Refused))


def _matched_twice(target: AttachTarget, context: PlanContext) -> Answer:
    """Refuse if several names of the policy, or one domain twice, mean one device."""
    if target.device.address not in context.twice:
        return None
    name, address = target.assignment.device, target.device.address
    return Refused(
        subject=target.subject,
        rule="matched-twice",
        kind=FailureKind.USAGE,
        reason=f"several names of the policy mean {address}, {name} among them",
        remedy="change the matches so that each name means another device",
    )


def _functions_of_bridge(target: AttachTarget, _: PlanContext) -> Answer:
    """All functions of a bridge are no card: what is meant is behind it."""
    described = target.policy.device(target.assignment.device)
    whole = described is not None and described.functions is Functions.ALL
    if not (whole and target.device.is_bridge):
        return None
    return Refused(
        subject=target.subject,
        rule="functions-of-bridge",
        kind=FailureKind.UNSAFE,
        reason=f"{target.device.address} is a PCI bridge, which no guest can have, and all functions of its slot are "
        "assigned",
        remedy="assign the card behind the bridge by its own address; `cede devices` lists what there is",
    )


def _held(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse a device on which a call hangs."""
    return refuse_held(target.device.address, target.subject, target.inventory)


def _segment(target: AttachTarget, _: PlanContext) -> Answer:
    """Xen has 16 bits for a segment, and its tools cut off what is above: they would take another device.

    Sources: xen/include/public/physdev.h (struct physdev_pci_device), tools/libs/light/libxl_pci.c (pci_encode_bdf).
    """
    address = target.device.address
    if not address.beyond_xen:
        return None
    whole = target.device.requester
    return Refused(
        subject=target.subject,
        rule="segment",
        kind=FailureKind.FAILED,
        reason=f"{address} is on the segment {address.segment:x}, and Xen numbers segments up to ffff",
        remedy="switch VMD off in the firmware's setup, so that the device gets an address that Xen has"
        + (f"; or assign {whole} with all that is behind it" if whole else ""),
    )


def _quarantined(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse a broken card."""
    return refuse_quarantined(target.device, target.subject, target.inventory)


def _host_needs_it(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse if dom0 uses the device or a function that is reset with it, or the policy protects one of them."""
    protect, override = target.policy.protect, target.override
    return refuse_guarded(target.device, target.subject, target.inventory, protect, override)


def _physical_and_virtual(target: AttachTarget, context: PlanContext) -> Answer:
    """A physical function and its virtual ones can't both be guests': these end with dom0's driver of that one.

    Of two that are assigned at once the virtual one goes, as it needs nothing but that the other one stays. Source:
    drivers/pci/iov.c (pci_disable_sriov, which a driver calls when it lets go of its device).
    """
    device, inventory = target.device, target.inventory
    if target.live is not None:
        return None
    virtual = next(
        (
            one.address
            for one in inventory.having("physical_function", device.address)
            if one.address in context.assigned
        ),
        None,
    )
    if virtual is not None:
        reason = (
            f"its virtual function {virtual} is assigned too, and ends when dom0's driver lets go "
            f"of {device.address}"
        )
    elif (physical := _taken_physical(target)) is not None:
        reason = (
            f"its physical function {physical} is for a guest, which so rules over {device.address}"
        )
    else:
        return None
    return Refused(
        subject=target.subject,
        rule="physical-and-virtual",
        kind=FailureKind.UNSAFE,
        reason=reason,
        remedy="assign either the physical function or its virtual ones, and leave the other with dom0",
    )


def _taken_physical(target: AttachTarget) -> Address | None:
    """The physical function of a virtual one, if a guest has it or is to have it."""
    address = target.device.physical_function
    physical = target.inventory.device(address) if address is not None else None
    if physical is None:
        return None
    taken = physical.on_pciback or physical.in_guest or target.inventory.given(physical.address)
    return physical.address if taken else None


def _network_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse a new device before dom0 has a default route, which shows what dom0 needs for its network."""
    device = target.device
    if device.taken_before or _DEFAULT_ROUTE in target.inventory.guards_in_use:
        return None
    return Refused(
        subject=target.subject,
        rule="network-unknown",
        kind=FailureKind.TRY_LATER,
        reason=f"dom0 has no default route yet, so dom0 may need {device.address} for its network; cede never "
        "bound this device before",
        remedy="`cede apply` binds the device once the network is up, and `cede boot` at every boot after that",
    )


def _guest_uses_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse a new device while dom0 comes up, if no guest runs whose uses could be seen and one can't be read."""
    domain = next(iter(target.inventory.unreadable), None)
    if domain is None or target.device.taken_before:
        return None
    return Refused(
        subject=target.subject,
        rule="guest-uses-unknown",
        kind=FailureKind.TRY_LATER,
        reason=f"{domain.name} may use {target.device.address} through dom0, and can't be read: {domain.unreadable}; "
        "cede never bound this device before",
        remedy="`cede apply` binds the device once libvirt runs, and `cede boot` at every boot after that",
    )


def _guest_disks_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse a storage controller of dom0's that may have a guest's disk."""
    if target.live is not None:
        return None
    return refuse_disks_unknown(target.device, target.subject, target.inventory)


def _domain_unreadable(target: AttachTarget, _: PlanContext) -> Answer:
    """Its own domain's XML can't be read, or that of another one that has the device or may reserve it."""
    domain = target.domain
    if not domain.unreadable:
        holder = target.inventory.unreadable_holder(target.device.address)
        if holder is None:
            return None
        domain = holder
    return refuse_unreadable(domain, target.subject)


def _alternative(target: AttachTarget, _: PlanContext) -> Answer:
    """Of several domains declared as alternatives, one has the device: who has it, else the first that runs."""
    assignments = target.policy.assignments_of(target.assignment.device)
    group = [domain for a in assignments if (domain := target.inventory.domain(a.domain))]
    if len(group) < 2:  # noqa: PLR2004 - one alone is no alternative
        return None
    address = target.device.address
    card = target.functions or (address,)
    having = [d for d in group if any(map(d.live_hostdev, card))] or [
        d for d in group if any(map(d.config_hostdev, card))
    ]
    chosen = (having or [d for d in group if d.running] or group)[0]
    if chosen.uuid == target.domain.uuid:
        return None
    return Satisfied(
        subject=target.subject,
        why=Why.ALTERNATIVE_HAS_IT,
        reason=f"its alternative {chosen.name} has {address}, or comes first",
    )


def _owner_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """A guest owns the device by Xen's word, and nothing says which."""
    address = target.device.address
    if target.inventory.owner_unknown(address):
        return refuse_owner_unknown(address, target.subject)
    if target.live is None and target.inventory.owner_untold(address):
        return refuse_owner_untold(address, target.subject)
    return None


def _elsewhere(target: AttachTarget, context: PlanContext) -> Answer:
    """Another domain has or reserves the device: Xen's word first, then libvirt's."""
    address, subject, others = target.device.address, target.subject, target.others
    if target.given_outside is not None:
        return _refuse_given(target.given_outside, target)
    if not others:
        return None
    names = ", ".join(d.name for d in others)
    if all((address, d.uuid) in context.detaching for d in others):
        return Refused(
            subject=subject,
            rule="elsewhere",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} is still in {names}, for which it is no longer assigned",
            remedy=f"apply again after the device has left that domain, or `cede release {address}`",
        )
    given = target.inventory.given(address)
    return Refused(
        subject=subject,
        rule="elsewhere",
        kind=FailureKind.UNSAFE,
        reason=f"{address} is in {names}"
        if given and given.domid != target.domain.domid
        else f"{address} is in the XML of {names}",
        remedy=f"take the device out of {names} with the tool that put it there, or correct the policy"
        if any(d.unmanaged(address) for d in others)
        else f"`cede release {address}` first, or correct the policy",
    )


def _refuse_given(given: BackendDevice, target: AttachTarget) -> Refused:
    """Refuse a device that Xen gave to a guest and libvirt does not list: an attach would reset a device in use."""
    holder = target.inventory.domain_by_id(given.domid)
    if given.closing:
        return refuse_letting_go(target.subject, given, holder)
    again = "then apply again" if given.domid == target.domain.domid else "or correct the policy"
    return Refused(
        subject=target.subject,
        rule="elsewhere",
        kind=FailureKind.UNSAFE,
        reason=f"{given.address} was put into {holder.name} behind libvirt's back (by xl, say)"
        if holder
        else f"{given.address} is in the domain with id {given.domid}, unknown to libvirt",
        remedy=f"`xl pci-detach {holder.name if holder else given.domid} {given.address}`, {again}",
    )


def _node_devices_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """A list of libvirt's with none of the host's devices says nothing of any of them."""
    if target.device.node_device is not None or target.live is not None:
        return None
    return Refused(
        subject=target.subject,
        rule="node-devices-unknown",
        kind=FailureKind.OUT_OF_SYNC,
        reason="libvirt lists none of the devices that this host has, so whether it can take "
        f"{target.device.address} can't be told",
        remedy=_NODE_DEVICES,
    )


def _not_listed(target: AttachTarget, _: PlanContext) -> Answer:
    """libvirt can't take a device that it doesn't list."""
    if target.device.node_device is not False or target.live is not None:
        return None
    return Refused(
        subject=target.subject,
        rule="not-listed",
        kind=FailureKind.TRY_LATER,
        reason=f"libvirt does not list {target.device.address} among its node devices, and so can't take it",
        remedy=_NODE_DEVICES,
    )


def _pvh(target: AttachTarget, _: PlanContext) -> Answer:
    """Source: Xen, docs/man/xl.cfg.5.pod.in (pci)."""
    if target.domain.kind is not GuestKind.PVH:
        return None
    return Refused(
        subject=target.subject,
        rule="pvh",
        kind=FailureKind.FAILED,
        reason=f"{target.domain.name} is PVH, and Xen gives no PCI devices to PVH guests",
        remedy=f"make {target.domain.name} a PV or HVM guest",
    )


def _transient(target: AttachTarget, _: PlanContext) -> Answer:
    """What isn't written into a persistent XML is gone at the domain's next start."""
    name = target.domain.name
    if target.domain.persistent:
        return None
    return Refused(
        subject=target.subject,
        rule="transient",
        kind=FailureKind.FAILED,
        reason=f"{name} is transient, and so has no persistent XML for the hostdev",
        remedy=f"`virsh define` it first, from `virsh dumpxml {name}`",
    )


def _memory_on_demand(target: AttachTarget, _: PlanContext) -> Answer:
    """Source: Xen, tools/libs/light/libxl_create.c (libxl__domain_config_setdefault)."""
    domain = target.domain
    if not domain.populated_on_demand or target.config is not None:
        return None
    return Refused(
        subject=target.subject,
        rule="memory-on-demand",
        kind=FailureKind.FAILED,
        reason=f"{domain.name} starts with {domain.current_memory} KiB of its {domain.memory} KiB of memory and "
        "gets the rest on demand; with a PCI device libxl refuses to start such a guest",
        remedy=f"set <currentMemory> to the value of <memory> (`virsh edit {domain.name}`), and restart the domain",
    )


def _domain_off(target: AttachTarget, _: PlanContext) -> Answer:
    """Nothing can be plugged into a domain that doesn't run."""
    domain = target.domain
    if domain.running or target.for_next_start or target.config is not None:
        return None
    return Refused(
        subject=target.subject,
        rule="domain-off",
        kind=FailureKind.TRY_LATER,
        reason=f"{domain.name} is shut off, so cede can't hot-plug the device",
        remedy=f"`virsh start {domain.name}`, then apply again; or set `when: next-start`",
    )


def _foreign(target: AttachTarget, _: PlanContext) -> Answer:
    """Decide on an unmanaged hostdev in the assigned domain itself; only `adopt: true` takes it over."""
    address, name = target.device.address, target.domain.name
    if not target.unmanaged or target.assignment.adopt:
        return None
    if target.live is not None and target.config is not None:
        return Satisfied(
            subject=target.subject,
            why=Why.IN_PLACE,
            reason=f"{address} is in {name} already; another tool put it there, and cede leaves it alone",
        )
    return Refused(
        subject=target.subject,
        rule="foreign",
        kind=FailureKind.UNSAFE,
        reason=f"another tool put {address} into {name}, running or persistent only",
        remedy="set `adopt: true` in the assignment to take the hostdev over, or delete the assignment",
    )


def _replaced(target: AttachTarget, _: PlanContext) -> Answer:
    """The running domain got another card at that address."""
    if target.live is None:
        return None
    address, subject = target.device.address, target.subject
    return refuse_replaced(address, subject, target.domain, target.inventory)


def _half_gone(target: AttachTarget, _: PlanContext) -> Answer:
    """libvirt lists it live, and Xen has taken it out, for good."""
    if target.live is None:
        return None
    return refuse_half_gone(target.device.address, target.subject, target.inventory)


def _other_setting(target: AttachTarget, _: PlanContext) -> Answer:
    """Refuse to change `permissive` of a hostdev in place: only an attach sets it."""
    address, permissive = target.device.address, target.assignment.permissive
    hostdevs = (hostdev for hostdev in (target.live, target.config) if hostdev is not None)
    if all(hostdev.write_filtering is not permissive for hostdev in hostdevs):
        return None
    return Refused(
        subject=target.subject,
        rule="other-setting",
        kind=FailureKind.FAILED,
        reason=f"{address} is in {target.domain.name} already, but {'not ' if permissive else ''}permissive, which "
        "can't be changed in place",
        remedy=f"`cede release {address}`, then apply again",
    )


def _root_bus(target: AttachTarget, _: PlanContext) -> Answer:
    """Of the endpoints of root buses, libvirt passes those of bus 0 only."""
    return None if target.live is not None else refuse_root_bus(target.device, target.subject)


def _reset_unknown(target: AttachTarget, _: PlanContext) -> Answer:
    """How libvirt would reset it can't be told, which is neither a reset nor none."""
    return None if target.live is not None else refuse_reset_unknown(target.device, target.subject)


def _no_reset(target: AttachTarget, _: PlanContext) -> Answer:
    """libvirt resets each device before it gives it away."""
    return None if target.live is not None else refuse_no_reset(target.device, target.subject)


def _sibling_active(target: AttachTarget, context: PlanContext) -> Answer:
    """A reset of its bus would reset a function in use, too; those of the domain itself go together with it."""
    if target.live is not None:
        return None
    own = context.coming.get(target.domain.uuid, frozenset())
    own = own.union(hostdev.address for hostdev in target.domain.live)
    if target.plugging:
        return refuse_sibling(
            target.device, target.subject, target.inventory, together=own,
            concurrent=context.concurrent,
        )  # fmt: skip
    listed = {hostdev.address for hostdev in target.domain.config}
    return refuse_sibling(
        target.device, target.subject, target.inventory, together=own.union(listed)
    )


def _cannot_answer(target: AttachTarget, _: PlanContext) -> Answer:
    """The guest must take it, or let go of what was left in it, and can't, now."""
    address, inventory = target.device.address, target.inventory
    asked = [target.domain] if target.plugging or target.half_gone else []
    interrupted = inventory.interrupted_in(address)
    if interrupted is not None:
        asked.append(interrupted)
    refused = (refuse_silent(domain, target.subject) for domain in asked)
    return next((refusal for refusal in refused if refusal is not None), None)


RULES: tuple[Rule, ...] = (
    Rule("matched-twice", Asked.ALWAYS, _matched_twice),
    Rule("functions-of-bridge", Asked.ALWAYS, _functions_of_bridge),
    Rule("held", Asked.ALWAYS, _held),
    Rule("segment", Asked.ALWAYS, _segment),
    Rule("device-quarantined", Asked.ALWAYS, _quarantined),
    Rule("host-needs-it", Asked.ALWAYS, _host_needs_it),
    Rule("physical-and-virtual", Asked.ALWAYS, _physical_and_virtual),
    Rule("network-unknown", Asked.AT_BOOT, _network_unknown),
    Rule("guest-uses-unknown", Asked.AT_BOOT, _guest_uses_unknown),
    Rule("guest-disks-unknown", Asked.ALWAYS, _guest_disks_unknown),
    Rule("domain-unreadable", Asked.LATER, _domain_unreadable),
    Rule("alternative", Asked.LATER, _alternative),
    Rule("owner-unknown", Asked.LATER, _owner_unknown),
    Rule("elsewhere", Asked.LATER, _elsewhere),
    Rule("node-devices-unknown", Asked.LATER, _node_devices_unknown),
    Rule("not-listed", Asked.LATER, _not_listed),
    Rule("pvh", Asked.LATER, _pvh),
    Rule("transient", Asked.LATER, _transient),
    Rule("memory-on-demand", Asked.LATER, _memory_on_demand),
    Rule("domain-off", Asked.LATER, _domain_off),
    Rule("foreign", Asked.LATER, _foreign),
    Rule("replaced", Asked.LATER, _replaced),
    Rule("half-gone", Asked.LATER, _half_gone),
    Rule("other-setting", Asked.LATER, _other_setting),
    Rule("root-bus", Asked.ALWAYS, _root_bus),
    Rule("reset-unknown", Asked.ALWAYS, _reset_unknown),
    Rule("no-reset", Asked.ALWAYS, _no_reset),
    Rule("sibling-active", Asked.ALWAYS, _sibling_active),
    Rule("guest-cannot-answer", Asked.LATER, _cannot_answer),
)
