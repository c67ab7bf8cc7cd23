"""Verification: what dom0 and the guests say of every assignment, after a change, on request, and after a restart.

That a device is there again after its guest was shut down and started is the last proof of all. A restart changes
nothing of what is assigned, so there is nothing to undo and no entry in the journal; interrupted in between, the guest
is off, and `virsh start` starts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from cede.errors import (
    CedeError,
    StopRequestedError,
    unexpected,
)
from cede.model.plan import Change, Deferred, Drifted, Paused, Refused, Satisfied, Why
from cede.model.policy import When
from cede.services.assess import to_ask
from cede.services.observe import observe_host
from cede.services.status import assess_pass
from cede.util.clock import CALL_SECONDS
from cede.util.retry import retry_transient
from cede.verifier.checklist import (
    AssignmentChecks,
    CheckResult,
    Witness,
    alternative_result,
    refused_result,
    unverified_result,
)
from cede.verifier.verify import of_host, verify

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory
    from cede.model.plan import Decision, Outcome, Plan
    from cede.planner.resolve import Target, Targets
    from cede.services.pass_report import Report
    from cede.services.reconcile import RequestContext

CONNECT_SECONDS = 10.0
BOOT_SECONDS = 180.0


def check_done(
    adapters: Adapters,
    targets: Targets,
    planned: Plan,
    outcomes: Sequence[Outcome],
    context: RequestContext,
    needs_recheck: Collection[str] = (),
    restarted: Collection[str] = (),
) -> tuple[AssignmentChecks, ...]:
    """Verify what was done in the guests, and what needed nothing from the outside.

    Guests that were `restarted` are given the time to boot.
    Of what needed nothing, the guests of those that are `needs_recheck` are asked too, and a guest that is still
    connecting to its device, as after its start, is waited for a moment.
    """
    ended = {outcome.change.subject: outcome for outcome in outcomes}
    decisions = planned.by_subject
    checked = []
    for target in (target for target in targets.each if target.subject in decisions):
        subject = target.subject
        context.alive()
        stopped = context.stop.is_set()
        if target.domain is not None and target.domain.name in restarted and not stopped:
            checked.append(_check_booted(adapters, target, targets.inventory, context.alive))
            continue
        again = target.assigned_as in needs_recheck and target.attached
        match to_ask(decisions[subject], ended.get(subject), again=again, stopped=stopped):
            case Witness.GUEST:
                checked.append(_check_inside(adapters, target, alive=context.alive))
            case Witness.HOST:
                checks = _check_outside(target, targets.inventory)
                if not checks.verified and target.attached and not stopped:
                    checks = _check_inside(
                        adapters, target, timeout=CONNECT_SECONDS, alive=context.alive
                    )
                checked.append(checks)
    return tuple(checked)


def status(adapters: Adapters, targets: Targets, planned: Plan) -> Report:
    """Compare desired and actual for every assignment, as far as dom0 shows without asking a guest; write nothing."""
    return assess_pass(adapters.journal, targets, planned, checked=_seen(targets, planned))


def _seen(targets: Targets, planned: Plan) -> tuple[AssignmentChecks, ...]:
    decisions = planned.by_subject
    return tuple(
        _expected(target, decisions[target.subject], targets.inventory) for target in targets.each
    )


def _expected(target: Target, decision: Decision, inventory: Inventory) -> AssignmentChecks:
    match decision:
        case Refused(reason=reason):
            findings = (refused_result(reason),)
            return AssignmentChecks(subject=target.subject, findings=findings)
        case Satisfied(why=Why.ALTERNATIVE_HAS_IT, reason=reason):
            findings = (alternative_result(reason),)
            return AssignmentChecks(subject=target.subject, findings=findings)
        case Change() | Satisfied() | Deferred() | Drifted() | Paused():
            return _check_outside(target, inventory)
        case _:
            assert_never(decision)


def verify_all(adapters: Adapters, targets: Targets, planned: Plan) -> Report:
    """Do the same, and ask every guest whose device looks right from outside."""
    decisions = planned.by_subject
    checked = [
        _check_inside(adapters, target)
        if checks.verified and target.attached and not isinstance(decisions[target.subject], Paused)
        else checks
        for target, checks in zip(targets.each, _seen(targets, planned), strict=True)
    ]
    return assess_pass(adapters.journal, targets, planned, checked=checked)


def check_started(
    adapters: Adapters, targets: Targets, planned: Plan
) -> tuple[AssignmentChecks, ...]:
    """Verify after guests were started, which are given the time for it and asked whatever they look like yet."""
    return tuple(
        _check_inside(adapters, target, timeout=BOOT_SECONDS) if target.attached else checks
        for target, checks in zip(targets.each, _seen(targets, planned), strict=True)
    )


def _check_booted(
    adapters: Adapters, target: Target, inventory: Inventory, alive: Callable[[], None]
) -> AssignmentChecks:
    if not target.attached:
        return _check_outside(target, inventory)
    return _check_inside(adapters, target, timeout=BOOT_SECONDS, alive=alive)


def _check_inside(
    adapters: Adapters,
    target: Target,
    *,
    timeout: float | None = None,
    alive: Callable[[], None] = lambda: None,
) -> AssignmentChecks:
    assignment, device, domain = target.assignment, target.device, target.domain
    try:
        if device is None or domain is None or assignment.when is When.NEXT_START:
            return _check_outside(
                target, retry_transient(lambda: observe_host(adapters), adapters.clock)
            )
        how = assignment.verification
        findings = retry_transient(
            lambda: adapters.timeouts.call(
                f"verifying {target.subject}",
                lambda: verify(adapters, device.address, domain, how, timeout=timeout),
                seconds=CALL_SECONDS + 2 * (timeout or how.timeout),
                waiting=alive,
            ),
            adapters.clock,
        )
    except StopRequestedError:
        raise
    except CedeError as unanswered:  # the report of what was done must not be lost over this
        findings = (unverified_result("dom0", unanswered.message),)
    except Exception as fault:  # noqa: BLE001 - whatever one guest makes of cede, the others are served
        why = unexpected(fault, f"verifying {target.subject}")
        findings = (unverified_result("dom0", why.message),)
    return AssignmentChecks(subject=target.subject, findings=findings)


def _check_outside(target: Target, inventory: Inventory) -> AssignmentChecks:
    """The findings on the target's device and domain as `inventory` has them, which may be a later one."""
    findings: tuple[CheckResult, ...]
    try:
        device = target.device and inventory.device(target.device.address)
        domain = target.domain and inventory.domain(target.domain.uuid)
        if device is None or domain is None:
            findings = (unverified_result("inventory", "the device or the domain is gone"),)
        elif domain.unreadable:
            findings = (unverified_result("libvirt", domain.unreadable),)
        else:
            findings = of_host(inventory, device, domain, target.assignment)
    except Exception as fault:  # noqa: BLE001 - as above
        why = unexpected(fault, f"checking {target.subject}")
        findings = (unverified_result("dom0", why.message),)
    return AssignmentChecks(subject=target.subject, findings=findings)
