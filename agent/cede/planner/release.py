"""The way out: out of the guest, out of its XML, and to dom0, working.

Release, detach, drain, recovery and what is left over ask the same rules, in one order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cede.errors import FailureKind
from cede.model.actions import (
    Action,
    ForceDetach,
    PutBack,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.plan import Change, Purpose, Refused, Satisfied, Why
from cede.model.policy import source_text
from cede.planner.guards import refuse_guarded
from cede.planner.half_gone import half_gone_in, put_back, refuse_half_gone
from cede.planner.replaced import refuse_replaced
from cede.planner.silence import refuse_silent
from cede.planner.targets import DetachTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cede.model.domain import Domain, Ownership
    from cede.model.inventory import BackendDevice, Inventory
    from cede.model.pci import Address
    from cede.model.policy import Policy


class DetachRule(NamedTuple):
    """A rule by its name, which its refusals carry; `ask` answers for one target.

    What `spares_traces` forbids to touch the device alone: its traces in a domain's persistent XML may go.
    """

    name: str
    spares_traces: bool
    ask: Callable[[DetachTarget], Refused | None]


def _foreign(target: DetachTarget) -> Refused | None:
    """Refuse to take out what cede did not add."""
    domain = next((d for d in target.domains if d.unmanaged(target.address)), None)
    if domain is None:
        return None
    return Refused(
        subject=target.subject,
        rule="foreign",
        kind=FailureKind.UNSAFE,
        reason=f"another tool put {target.address} into {domain.name}: the hostdev lacks cede's alias",
        remedy="take the device out with the tool that put it there (virsh detach-device, virt-manager)",
    )


def _vanished(target: DetachTarget) -> Refused | None:
    """Refuse to detach a vanished device from a running guest.

    The persistent XML keeps its note until then, or a card that comes back would be nobody's; a person may clean it.
    """
    if target.device is not None or not target.running:
        return None
    return refuse_vanished(target.address, target.subject, target.running[0])


def _replaced(target: DetachTarget) -> Refused | None:
    """Refuse to detach a card that no guest has got: another one was at its address."""
    found = (
        refuse_replaced(target.address, target.subject, domain, target.inventory)
        for domain in target.running
    )
    return next((refusal for refusal in found if refusal is not None), None)


def _owner_unknown(target: DetachTarget) -> Refused | None:
    """Refuse a device whose guest is unknown: without its traces nobody would be responsible for it."""
    return refuse_owner_unknown(target.address, target.subject) if target.owner_unknown else None


def _host_needs_it(target: DetachTarget) -> Refused | None:
    """Refuse what dom0 uses; a device on pciback is not dom0's, whatever it would be used for."""
    if target.device is None or target.device.on_pciback:
        return None
    return refuse_guarded(target.device, target.subject, target.inventory)


def _elsewhere(target: DetachTarget) -> Refused | None:
    """Refuse what another guest got from xl."""
    address, given = target.address, target.given_outside
    if given is None:
        return None
    if given.closing:
        holder = target.inventory.domain_by_id(given.domid)
        return refuse_letting_go(target.subject, given, holder)
    return Refused(
        subject=target.subject,
        rule="elsewhere",
        kind=FailureKind.UNSAFE,
        reason=f"{address} was given to domain {given.domid} behind libvirt's back (by xl, say)",
        remedy=f"`xl pci-detach {given.domid} {address}`, then release again",
    )


def _half_gone(target: DetachTarget) -> Refused | None:
    """Refuse a live detach of what Xen no longer has there and can't be had to put back: that crashes libvirtd."""
    if not target.running:
        return None
    return refuse_half_gone(target.address, target.subject, target.inventory)


def _cannot_answer(target: DetachTarget) -> Refused | None:
    """Refuse what a guest must let go of and can't, now."""
    asked = [*target.running, *([target.interrupted] if target.interrupted else [])]
    if target.device is None:
        return None
    refused = (refuse_silent(domain, target.subject) for domain in asked)
    return next((refusal for refusal in refused if refusal is not None), None)


def _domain_unreadable(target: DetachTarget) -> Refused | None:
    """Refuse what a domain with an unreadable XML has or may have, and what is in its XML."""
    domain = next((d for d in target.domains if d.unreadable), None)
    domain = domain or target.inventory.unreadable_holder(target.address)
    return None if domain is None else refuse_unreadable(domain, target.subject)


DETACH_RULES: tuple[DetachRule, ...] = (
    DetachRule("domain-unreadable", spares_traces=False, ask=_domain_unreadable),
    DetachRule("foreign", spares_traces=False, ask=_foreign),
    DetachRule("vanished", spares_traces=False, ask=_vanished),
    DetachRule("replaced", spares_traces=False, ask=_replaced),
    DetachRule("owner-unknown", spares_traces=False, ask=_owner_unknown),
    DetachRule("host-needs-it", spares_traces=True, ask=_host_needs_it),
    DetachRule("elsewhere", spares_traces=True, ask=_elsewhere),
    DetachRule("half-gone", spares_traces=True, ask=_half_gone),
    DetachRule("guest-cannot-answer", spares_traces=True, ask=_cannot_answer),
)


def plan_way_out(target: DetachTarget, *, clean: bool = False) -> Change | Refused | None:
    """Plan the way out of the target's domains, or return the first refusal; None if nothing is to be done.

    With `clean` the persistent XML of a domain that runs with a vanished device goes without it from now on.
    """
    answers = ((rule, rule.ask(target)) for rule in DETACH_RULES)
    rule, refusal = next(((r, a) for r, a in answers if a is not None), (None, None))
    actions: tuple[Action, ...] = tuple(_leave(target))
    only_traces = bool(actions) and all(isinstance(a, RemoveFromConfig) for a in actions)
    spared = rule is not None and (rule.spares_traces or (clean and rule.name == "vanished"))
    if refusal is not None and not (only_traces and spared):
        return refusal
    if refusal is None and target.return_to_dom0 and not target.elsewhere:
        actions = (*actions, *_return(target))
    if not actions:
        return None
    return Change(
        subject=target.subject,
        purpose=target.purpose,
        device=target.name,
        address=target.address,
        identity=target.device.identity if target.device else None,
        instance=target.device.instance if target.device else None,
        actions=actions,
    )


def _leave(target: DetachTarget) -> Iterator[PutBack | Unplug | ForceDetach | RemoveFromConfig]:
    address = target.address
    half_gone = half_gone_in(address, target.inventory)
    if target.interrupted is not None:
        yield ForceDetach(address=address, domain=target.interrupted.name)
    for domain in target.domains:
        if target.device is not None and domain in target.running:
            if domain is half_gone:
                yield put_back(domain, address)
            yield Unplug(address=address, domain=domain.name)
        if domain.persistent and (domain.config_hostdev(address) or domain.ownership_of(address)):
            yield RemoveFromConfig(address=address, domain=domain.name)


def _return(target: DetachTarget) -> Iterator[ReturnToDom0]:
    """Yield the return to the original driver, as far as that is known, unless dom0 has the device as before.

    With an original state, a return started and was not verified. Only the journal shows a return that was interrupted
    before dom0 probed for a driver, of a device that cede never saw with one.
    """
    device = target.device
    if device is None:
        return
    original, address = device.original_state, device.address
    held = device.on_pciback or device.in_pciback_slots or device.driver_override is not None
    if original is not None:
        driver, this_boot = original.driver, original.boot == target.inventory.boot
        yield ReturnToDom0(
            address=address,
            driver=driver,
            undriven=driver is None,
            settings_lost=bool(original.links) and not this_boot,
            unrestored=original.unrestored if this_boot else (),
        )
    elif held or (target.returning and device.driver is None):
        yield ReturnToDom0(address=address, undriven=not held)


def release(
    address: Address, subject: str, inventory: Inventory, purpose: Purpose = Purpose.RELEASE
) -> Change | Satisfied | Refused:
    """Plan the return of the device at `address` to dom0; a vanished one is only removed from the XML."""
    back = purpose is not Purpose.DETACH
    target = DetachTarget.of(address, subject, inventory, purpose, return_to_dom0=back)
    decision = plan_way_out(target, clean=True)
    taken = _elsewhere(target)
    if isinstance(decision, Change) and target.device is None and target.running:
        lost = refuse_vanished(address, subject, target.running[0])
        shut_down = f"shut {target.running[0].name} down: {lost.reason}"
        return replace(decision, action_required=shut_down)
    if isinstance(decision, Change) and taken is not None and target.device is not None:
        return replace(decision, action_required=f"{taken.remedy}: {taken.reason}")
    if decision is not None:
        return decision
    if target.device is None:
        return Refused(
            subject=subject,
            rule="no-device",
            kind=FailureKind.USAGE,
            reason=f"this host has no device at {address}, and no domain lists one",
            remedy="`cede devices` lists the devices",
        )
    if not back and any(_return(target)):
        reason = f"no domain has {address}, which is assignable"
        return Satisfied(subject=subject, why=Why.ASSIGNABLE, reason=reason)
    return Satisfied(
        subject=subject,
        why=Why.DOM0_HAS_IT,
        reason=f"dom0 has {address} already ({target.device.driver or 'no driver bound'})",
    )


def detach(address: Address, subject: str, inventory: Inventory) -> Change | Satisfied | Refused:
    """Plan to take the device out of its guest; it stays on pciback, ready for another guest."""
    return release(address, subject, inventory, Purpose.DETACH)


def stale(
    policy: Policy,
    inventory: Inventory,
    keep: Collection[tuple[Address, str]],
    unsure: Collection[str],
) -> list[tuple[Domain, Ownership]]:
    """Return what cede gave, for this policy or another, that this policy does not assign there.

    `keep` are the (address, domain UUID) pairs that it wants now; `unsure` the devices that can't be told at the
    moment, whose marks are therefore left alone.
    """
    return [
        (domain, ownership)
        for domain in sorted(inventory.domains, key=lambda d: d.name)
        for ownership in domain.owned
        if (ownership.address, domain.uuid) not in keep
        and (ownership.name not in unsure or not policy.gave(ownership.policy))
    ]


def takes_back(policy: Policy, ownership: Ownership, wanted: Collection[Address]) -> bool:
    """Tell whether a pass takes out what it gave there: a device of the policy or `wanted`, or else if it prunes."""
    if not policy.gave(ownership.policy):
        return False
    mentioned = policy.device(ownership.name) is not None or ownership.address in wanted
    return mentioned or not policy.keeps_unmentioned


def ownership_subject(ownership: Ownership, domain: Domain) -> str:
    """Return how plans call a device that cede put into the domain; a name that is there twice with its address."""
    twice = sum(other.name == ownership.name for other in domain.owned) > 1
    at = f" ({ownership.address})" if twice else ""
    return f"{ownership.name}{at} in {domain.name}"


def leftover(
    domain: Domain,
    ownership: Ownership,
    policy: Policy,
    inventory: Inventory,
    attaching: Collection[Address],
) -> Change | Satisfied | Refused:
    """Take the device out and return it to dom0 if this policy gave it; leave those of other policies alone.

    What is `attaching` to another domain stays on pciback.
    """
    subject = ownership_subject(ownership, domain)
    if not policy.gave(ownership.policy):
        whose = source_text(ownership.policy) or "no policy that is known"
        return Satisfied(
            subject=subject,
            why=Why.OTHER_POLICY,
            reason=f"{ownership.address} was given for {whose}",
        )
    if not takes_back(policy, ownership, attaching):
        return Satisfied(
            subject=subject,
            why=Why.UNMENTIONED,
            reason=f"{source_text(policy.source)} no longer mentions {ownership.name}; "
            f"`--prune` returns {ownership.address} to dom0",
        )
    purpose = Purpose.HAND_OVER if ownership.address in attaching else Purpose.RELEASE
    target = DetachTarget.of(
        ownership.address, subject, inventory, purpose,
        domains=(domain,), name=ownership.name, return_to_dom0=purpose is Purpose.RELEASE,
    )  # fmt: skip
    return plan_way_out(target) or Satisfied(
        subject=subject,
        why=Why.NOTHING_LEFT,
        reason=f"only ownership metadata is left in the transient {domain.name}",
    )


def refuse_vanished(address: Address, subject: str, running: Domain) -> Refused:
    """Refuse what vanished from the host while the `running` domain had it: only the guest's end ends that."""
    return Refused(
        subject=subject,
        rule="vanished",
        kind=FailureKind.TRY_LATER,
        reason=f"{address} has vanished from the host while it was in the running {running.name}",
        remedy=f"shut {running.name} down; `cede release {address}` cleans the persistent XML",
    )


def refuse_unreadable(domain: Domain, subject: str) -> Refused:
    """Refuse what concerns a domain whose XML can't be read: what isn't seen there may be there all the same."""
    return Refused(
        subject=subject,
        rule="domain-unreadable",
        kind=FailureKind.OUT_OF_SYNC,
        reason=f"the XML of {domain.name} can't be read, so what it has can't be told: {domain.unreadable}",
        remedy=f"`virsh dumpxml {domain.name}` and `virsh dumpxml --inactive {domain.name}` show it; correct it with "
        f"`virsh edit {domain.name}`, then plan again",
    )


def refuse_letting_go(subject: str, given: BackendDevice, holder: Domain | None) -> Refused:
    """Refuse a device that a guest hasn't let go of yet, and that libvirt forgot; `xl pci-detach` would make it worse.

    One that it let go of too late is refused where libvirt doesn't know the guest, so that it isn't cede's to clear.
    """
    name = holder.name if holder else f"domain {given.domid}"
    reason = f"{name} hasn't let go of {given.address} yet, though a detach was asked for"
    remedy = f"is {name} paused or hung? Let it run, then try again, or shut it down"
    if given.detach_given_up:
        reason = f"{name} let go of {given.address} too late, and Xen's backend still lists it"
        remedy = f"shut {name} down, then try again"
    return Refused(
        subject=subject,
        rule="elsewhere",
        kind=FailureKind.TRY_LATER,
        reason=reason,
        remedy=remedy,
    )


def refuse_owner_unknown(address: Address, subject: str) -> Refused:
    """Refuse a device whose guest only Xen knows: only the end of that guest frees the device."""
    return Refused(
        subject=subject,
        rule="owner-unknown",
        kind=FailureKind.UNSAFE,
        reason=f"Xen says that a guest owns {address}, but xenstore names none: an attach was interrupted",
        remedy="`xl debug-keys Q; xl dmesg` names the guest's id; shut that guest down, then try again",
    )


def refuse_owner_untold(address: Address, subject: str) -> Refused:
    """Refuse a device that a guest may own: nothing but Xen could say that none does."""
    return Refused(
        subject=subject,
        rule="owner-unknown",
        kind=FailureKind.OUT_OF_SYNC,
        reason=f"{address} is on pciback, and whether a guest owns the device can't be told: Xen can't be asked",
        remedy="Xen's Python binding (xen.lowlevel.xc, in Debian's xen-utils) must answer; then try again",
    )
