"""The way in: what is missing until a device is in a domain, live and persistent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.actions import (
    Action,
    AddToConfig,
    Adopt,
    BindToPciback,
    ForceDetach,
    HotPlug,
    LoadPciback,
    SwitchOn,
)
from cede.model.domain import E820_HOST, PASSTHROUGH, Domain, Feature, GuestKind, own_alias
from cede.model.plan import Change, Decision, Deferred, Drifted, Purpose, Refused, Satisfied, Why
from cede.model.policy import OnDrift, Restart, When
from cede.planner.half_gone import put_back
from cede.planner.rules import Asked, first_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cede.planner.targets import AttachTarget, PlanContext


def plan_assignment(
    target: AttachTarget, context: PlanContext, *, scheduled: bool = False
) -> Decision:
    """Plan what is to be done about one target among all of a pass.

    A `scheduled` pass, for which no person asked just now, leaves a drift as it is where the policy wants it only
    reported.
    """
    target = replace(target, restart_with=context.restart_with.get(target.pair, ()))
    lost = "" if target.unmanaged else _drift(target)
    decision = first_answer(target, context, Asked.LATER) or _attach(target, lost)
    restorable = isinstance(decision, Change) or (
        isinstance(decision, Refused) and decision.may_pass
    )
    if lost and restorable and scheduled and target.assignment.on_drift is OnDrift.REPORT:
        return Drifted(
            subject=target.subject,
            reason=f"{lost}; `on_drift: report` leaves it so, `cede apply` by hand restores it",
        )
    return decision


def _drift(target: AttachTarget) -> str:
    """Return what another tool took out of the domain, as a sentence; empty if nothing.

    Two witnesses: cede's note in the persistent XML, which stays when the hostdev beside it is removed, and what the
    last pass remembers. An interrupted removal of cede's own is none.
    """
    address, domain, inventory = target.device.address, target.domain, target.inventory
    if inventory.unfinished_at(address):
        return ""
    last_applied = inventory.last_applied_in(address, domain)
    ownership = domain.ownership_of(address)
    owned = ownership is not None and target.policy.gave(ownership.policy)
    lost = []
    if (target.plugging or target.half_gone) and (
        target.half_gone
        or (last_applied is not None and last_applied.live)
        or (owned and target.config is None)
    ):
        lost.append(f"the running {domain.name}")
    if target.config is None and (owned or (last_applied is not None and last_applied.config)):
        lost.append(f"the persistent XML of {domain.name}")
    if not lost:
        return ""
    return f"drifted: another tool took {address} out of {' and '.join(lost)}"


def _attach(target: AttachTarget, lost: str) -> Change | Satisfied | Deferred:
    actions = tuple(_steps(target))
    if not actions:
        return _already(target)
    return Change(
        subject=target.subject,
        purpose=Purpose.RESTORE if lost else Purpose.ATTACH,
        device=target.assignment.device,
        address=target.device.address,
        identity=target.device.identity,
        instance=target.device.instance,
        actions=actions,
        action_required=_action_required(target),
        reason=lost,
        override=target.override,
        restart=_restart(target),
    )


def _steps(target: AttachTarget) -> Iterable[Action]:
    address, domain, assignment = target.device.address, target.domain, target.assignment
    alias = own_alias(assignment.device, address, of_card=bool(target.functions))
    interrupted = target.inventory.interrupted_in(address)
    if interrupted is not None:
        yield ForceDetach(address=address, domain=interrupted.name)
    if target.live is None:
        yield from bind_actions(target)
    if target.half_gone:
        yield put_back(domain, address)
    if target.plugging:
        yield HotPlug(
            address=address, domain=domain.name, alias=alias, permissive=assignment.permissive
        )
    features = missing_features(domain)
    if features and (target.config is None or target.blocked):
        yield switch_on(domain, features)
    if target.config is None:
        yield AddToConfig(
            address=address,
            domain=domain.name,
            alias=alias,
            policy=target.policy.source,
            permissive=assignment.permissive,
        )
    elif target.unmanaged:
        yield Adopt(address=address, domain=domain.name, alias=alias, policy=target.policy.source)


def bind_actions(target: AttachTarget) -> Iterator[LoadPciback | BindToPciback]:
    """Yield the actions that bind the device to pciback."""
    device = target.device
    if not target.inventory.pciback_loaded:
        yield LoadPciback()
    if not device.on_pciback:
        original = device.original_state  # of one that was half bound, and has no driver now
        driver = device.driver or (original.driver if original else None)
        remembered = original.unrestored if original and device.driver is None else ()
        yield BindToPciback(
            address=device.address,
            driver=driver,
            unrestored=device.unrestored or remembered,
            goes_along=tuple(node for node in device.nodes if node.on_controller),
        )


def switch_on(domain: Domain, features: tuple[Feature, ...]) -> SwitchOn:
    """Return the action that switches these features on."""
    were_off = tuple(name for name in features if name in domain.features_off)
    return SwitchOn(domain=domain.name, features=features, were_off=were_off)


def missing_features(domain: Domain) -> tuple[Feature, ...]:
    """Return the features that the domain needs at its start and its XML lacks; PV also needs the memory map."""
    lacking: tuple[tuple[Feature, bool], ...] = (
        (PASSTHROUGH, not domain.passthrough),
        (E820_HOST, domain.kind is GuestKind.PV and not domain.e820_host),
    )
    return tuple(name for name, lacks in lacking if lacks and name not in domain.features)


def _restart(target: AttachTarget) -> str:
    """The domain that has to be restarted, empty if none."""
    now = target.due and (target.blocked or bool(target.restart_with))
    return target.domain.name if now else ""


def _action_required(target: AttachTarget) -> str:
    name = target.domain.name
    if target.live is not None or target.assignment.when is When.NEXT_START:
        return ""
    if not target.domain.running:
        return f"start {name}"
    if target.blocked:
        return _restart_by_hand(
            target, "it was started without passthrough, so libxl would refuse a hot-plug"
        )
    if target.restart_with:
        together = " and ".join(map(str, target.restart_with))
        return _restart_by_hand(
            target,
            f"{together} can only be reset together, with their bus, and libvirt hot-plugs no device while another one "
            "on its bus is in use",
        )
    return ""


def _restart_by_hand(target: AttachTarget, why: str) -> str:
    permitted = target.assignment.restart is not Restart.NEVER
    by_cede = " (`cede apply --restart` does that)" if permitted else ""
    return f"shut {target.domain.name} down and start it{by_cede}: {why}"


def _already(target: AttachTarget) -> Satisfied | Deferred:
    address, name = target.device.address, target.domain.name
    if target.live is not None:
        reason = f"{address} is in {name} already"
        return Satisfied(subject=target.subject, why=Why.IN_PLACE, reason=reason)
    reason = f"{address} is in the persistent XML of {name}, which gets it at its next start"
    action_required = _action_required(target)
    if action_required:
        return Deferred(
            subject=target.subject, action_required=action_required, reason=reason,
            restart=_restart(target),
        )  # fmt: skip
    return Satisfied(subject=target.subject, why=Why.AT_NEXT_START, reason=reason)
