"""Assess: what a pass came to for each subject of its plan, and whom to ask about it first. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, assert_never

from cede.errors import NOT_STARTED, FailureKind, StopRequestedError
from cede.model.actions import AddToConfig, Adopt, HotPlug, RemoveFromConfig, Unplug
from cede.model.conditions import (
    ATTACHED,
    IN_SYNC,
    PERSISTENT,
    VERIFIED,
    Condition,
    Status,
    since,
)
from cede.model.plan import (
    Change,
    Decision,
    Deferred,
    Drifted,
    Paused,
    Purpose,
    Refused,
    Satisfied,
    Why,
)
from cede.model.policy import Channel
from cede.verifier.checklist import CheckStatus, Witness, verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.errors import CedeError
    from cede.model.conditions import ConditionType
    from cede.model.plan import Outcome
    from cede.planner.resolve import Target
    from cede.verifier.checklist import CheckResult

_AMISS = {CheckStatus.FAILED, CheckStatus.UNVERIFIED}

_FAILED = {"Failed", "RollbackFailed"}
RESTART_REQUIRED = "RestartRequired"
_NO_ANSWER = "NoAnswer"
_VERIFIED_BY = {Witness.GUEST: "GuestHasIt", Witness.DEVICE: "DeviceInUse"}
_FOUND_OTHERWISE = {Witness.GUEST: "GuestFoundOtherwise", Witness.HOST: "HostFoundOtherwise"}
_SILENT = {Witness.GUEST: _NO_ANSWER, Witness.DEVICE: "DeviceNotInUse"}
_RESTARTED, _NOT_ASKED = "DomainRestarted", "NotAsked"
# what a guest is asked after
_NOT_ATTACHED = "NotAttached"
_UNPROVEN = {_FOUND_OTHERWISE[Witness.GUEST], *_SILENT.values(), _NOT_ASKED, _NOT_ATTACHED}
_UNTOLD = {*_SILENT.values(), _RESTARTED, _NOT_ASKED}  # of a guest that the policy says to ask
# what is true for one start of a domain
_OF_A_GUEST = {
    *_VERIFIED_BY.values(),
    _RESTARTED,
    _FOUND_OTHERWISE[Witness.GUEST],
    *_SILENT.values(),
}
_SATISFIED = {Why.ALTERNATIVE_HAS_IT: "AlternativeHasIt", Why.ABSENT: "OptionalAbsent"}
_REFUSED = {
    FailureKind.UNSAFE: "Unsafe",
    FailureKind.USAGE: "PolicyWrong",
    FailureKind.TRY_LATER: "NotYet",
}

GUEST_CANNOT_ANSWER = "GuestCannotAnswer"
_BY_RULE = {"guest-cannot-answer": GUEST_CANNOT_ANSWER}


class Severity(StrEnum):
    """How much a status matters to the administrator."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentStatus:
    """What a pass came to for one subject of its plan: an assignment, or another, which has no conditions.

    `kind` is what keeps it from being as it should be, None if nothing does; `text` says how it is. `reason` and
    `message` say the same as a condition does. `done` tells that its change came to its end; `witness` whose word there
    is on how it was afterwards, None if nobody looked. `attached` and `persistent` tell whether the running domain and
    the domain's persistent XML have the device now; `paused` that the administrator told cede to leave it alone, so
    that it doesn't count. `functions` are the statuses of a card's functions, of which this one says what is so of all.
    """

    subject: str
    severity: Severity
    kind: FailureKind | None
    text: str
    reason: str
    message: str
    done: bool
    witness: Witness | None = None
    attached: bool = False
    persistent: bool = False
    paused: bool = False
    conditions: tuple[Condition, ...] = ()
    functions: tuple[AssignmentStatus, ...] = ()

    @property
    def each(self) -> tuple[AssignmentStatus, ...]:
        """The statuses of its functions, or itself where it is one."""
        return self.functions or (self,)

    @property
    def failed(self) -> bool:
        """Whether its change failed by itself, and not because a stop was requested."""
        return self.reason in _FAILED

    @property
    def unproved(self) -> bool:
        """Whether it can't be told whether the guest has the device, though the guest is to be asked."""
        return any(
            condition.type == VERIFIED
            and condition.status is Status.UNKNOWN
            and condition.reason in _UNTOLD
            for condition in self.conditions
        )


class _Row(NamedTuple):
    """A row of the table; `in_sync` is None where the checks decide."""

    severity: Severity
    kind: FailureKind | None
    text: str
    reason: str
    message: str
    in_sync: Status | None


def to_ask(
    decision: Decision, outcome: Outcome | None, *, again: bool, stopped: bool
) -> Witness | None:
    """Tell whom to ask after a change, or about what needed none: the guest, or dom0 alone; None if nobody.

    With `again` the guest is to be asked although nothing was done; no guest is asked once the pass is `stopped`.
    """
    match decision:
        case Change() if decision.address is None:
            return None
        case Change() if decision.action_required or decision.detaching or stopped:
            return None
        case Change():
            return Witness.GUEST if outcome is not None and outcome.error is None else None
        case (
            Satisfied(why=Why.ALTERNATIVE_HAS_IT | Why.ABSENT)
            | Refused()
            | Deferred()
            | Drifted()
            | Paused()
        ):
            return None
        case Satisfied():
            return Witness.GUEST if again and not stopped else Witness.HOST
        case _:
            assert_never(decision)


def needs_recheck(
    conditions: Iterable[Condition], domids: Mapping[str, int | None]
) -> frozenset[str]:
    """Return the assignments whose guests have not proved it, or were started since they did.

    `domids` are the running domains by subject.
    """
    conditions = tuple(conditions)
    known = {condition.subject for condition in conditions if condition.type == VERIFIED}
    return frozenset(domids.keys() - known) | frozenset(
        condition.subject
        for condition in conditions
        if condition.type == VERIFIED
        and (
            condition.reason in _UNPROVEN
            or (
                condition.reason in _OF_A_GUEST and condition.domid != domids.get(condition.subject)
            )
        )
    )


def assess(
    target: Target | None,
    decision: Decision,
    outcome: Outcome | None = None,
    checks: Sequence[CheckResult] | None = None,
    previous: Sequence[Condition] = (),
    at: str = "",
) -> AssignmentStatus:
    """Assess a subject from its decision, from what the executor did, and from what was checked, None if nothing.

    Of the `previous` conditions, what the last try came to, and what the guest said, still holds where nobody tried or
    asked again, and so does when it is tried again if that is after `at`, the time now. `target` is None for what is no
    assignment.
    """
    row, checked = _row(decision, outcome), _check_status(checks)
    if _came_by_restart(target, decision, outcome):
        row = _Row(*_end(), "NextStart", "", None)
    heard = _witness(checks)
    wrong = [check for check in checks or () if check.status in _AMISS]
    if row.in_sync is None and checked in _AMISS:
        text = f"out of sync: {'; '.join(map(str, wrong))}"
        row = row._replace(severity=Severity.WARNING, kind=FailureKind.FAILED, text=text)
    status = AssignmentStatus(
        subject=decision.subject,
        severity=row.severity,
        kind=row.kind,
        text=row.text,
        reason=row.reason,
        message=row.message,
        done=outcome is not None and outcome.error is None,
        paused=isinstance(decision, Paused),
        witness=heard,
    )
    if target is None:
        return status
    status = replace(
        status,
        attached=_after(target.attached, outcome, (HotPlug,), (Unplug,)),
        persistent=_after(target.persistent, outcome, (AddToConfig, Adopt), (RemoveFromConfig,)),
    )
    had = {condition.type: condition for condition in previous}
    next_try = max((one.next_try for one in previous if one.next_try > at), default="")
    reason, message, was = row.reason, row.message, had.get(IN_SYNC)
    if was is not None and _still(decision, outcome, was.reason, waits=bool(next_try)):
        reason, message = was.reason, was.message
    why = (Status.FALSE, reason, message)
    if target.domain is not None and target.domain.unreadable:
        why = (Status.UNKNOWN, "DomainUnreadable", message)
    domid = target.domain.domid if target.domain else None
    asking = target.assignment.verification.guest is not Channel.NONE
    in_guest = _in_guest(status, checked, wrong, had.get(VERIFIED), domid, asking=asking)
    so: dict[ConditionType, tuple[Status, str, str]] = {
        ATTACHED: (Status.TRUE, "InDomain", "") if status.attached else why,
        PERSISTENT: (Status.TRUE, "InPersistentXML", "") if status.persistent else why,
        VERIFIED: in_guest if status.attached or why[0] is Status.FALSE else why,
        IN_SYNC: _as_checked(status, checked, wrong, in_guest)
        if row.in_sync is None
        else (row.in_sync, reason, message),
    }
    conditions = tuple(
        Condition(
            subject=status.subject,
            type=kind,
            status=is_so,
            reason=reason,
            message=message,
            since=since(had.get(kind), is_so, reason, at),
            next_try="" if is_so is Status.TRUE else next_try,
            domid=domid if kind is VERIFIED and reason in _OF_A_GUEST - {_RESTARTED} else None,
        )
        for kind, (is_so, reason, message) in so.items()
    )
    return replace(status, conditions=conditions)


def _came_by_restart(target: Target | None, decision: Decision, outcome: Outcome | None) -> bool:
    """Whether the pass itself has restarted the domain for it, which has it now."""
    awaited = isinstance(decision, Change | Deferred) and bool(decision.restart)
    well = outcome is None or outcome.error is None
    return awaited and well and target is not None and target.attached


def _row(decision: Decision, outcome: Outcome | None) -> _Row:
    """The table: what each decision comes to, by what was done of it."""
    if outcome is not None and outcome.error is not None:
        return _failed(outcome, outcome.error)
    match decision:
        case Change() if outcome is None:
            why = "Drifted" if decision.purpose is Purpose.RESTORE else "Outstanding"
            late = (Severity.WARNING, FailureKind.OUT_OF_SYNC, "out of sync: not done yet")
            return _Row(*late, why, decision.reason, Status.FALSE)
        case Change():
            return _done(decision)
        case Deferred(action_required=to_do, restart=restart):
            return _waits(to_do, restart)
        case Satisfied():
            why = _SATISFIED.get(decision.why, "NextStart")
            return _Row(
                *_end(), why, decision.reason, Status.TRUE if decision.why in _SATISFIED else None
            )
        case Refused(kind=kind, reason=reason):
            text = f"refused: {reason} (remedy: {decision.remedy})"
            why = _BY_RULE.get(decision.rule) or _REFUSED.get(kind, "Refused")
            return _Row(Severity.WARNING, kind, text, why, reason, Status.FALSE)
        case Drifted(reason=reason):
            kind = FailureKind.OUT_OF_SYNC
            return _Row(Severity.WARNING, kind, reason, "Drifted", reason, Status.FALSE)
        case Paused(pause=pause, reason=reason):
            why = "Drained" if pause.drained else "Paused"
            return _Row(Severity.INFO, None, reason, why, reason, Status.UNKNOWN)
        case _:
            assert_never(decision)


def _done(change: Change) -> _Row:
    to_do = change.action_required
    if change.purpose is Purpose.DRAIN:
        return _Row(*_end(to_do), "Drained", change.reason, Status.UNKNOWN)
    if to_do:
        return _waits(to_do, change.restart)
    return _Row(*_end(), "NextStart", "", None)


def _waits(to_do: str, restart: str) -> _Row:
    """The administrator's turn: a domain that is off is to be started, one that runs to be restarted."""
    if not restart:
        return _Row(*_end(to_do), "AwaitsStart", to_do, Status.FALSE)
    severity, _, text = _end(to_do)
    return _Row(severity, FailureKind.OUT_OF_SYNC, text, RESTART_REQUIRED, to_do, Status.FALSE)


def _end(to_do: str = "") -> tuple[Severity, FailureKind | None, str]:
    """How it is once cede has done its part, and `to_do` is the administrator's."""
    if to_do:
        return Severity.NOTICE, FailureKind.TRY_LATER, f"for you to do: {to_do}"
    return Severity.INFO, None, "in sync"


def _failed(outcome: Outcome, error: CedeError) -> _Row:
    severity, kind, text = Severity.WARNING, error.kind, f"failed: {error.with_remedy}"
    why = "Failed"
    if outcome.rollback_failed is not None:
        error, why = outcome.rollback_failed, "RollbackFailed"
        severity, kind = Severity.ERROR, FailureKind.FAILED
        text = f"rollback failed: {error.with_remedy}"
    elif outcome.rolled_back:
        text += "; rolled back"
    if error.name == NOT_STARTED:
        severity = Severity.ERROR
    if isinstance(error, StopRequestedError):
        why = "Interrupted"
    return _Row(severity, kind, text, why, error.message, Status.FALSE)


def _after(
    before: bool, outcome: Outcome | None, comes: tuple[type, ...], goes: tuple[type, ...]
) -> bool:
    if outcome is None:
        return before
    return (before or outcome.did(*comes)) and not outcome.did(*goes)


def _still(decision: Decision, outcome: Outcome | None, reason: str, *, waits: bool) -> bool:
    """Whether the reason that came of the last try holds, since nobody has tried again."""
    outstanding = isinstance(decision, Change) and outcome is None
    put_off = isinstance(decision, Refused) and decision.may_pass
    if reason == "NotYet":
        return outstanding and waits
    return (outstanding or put_off) and reason in _FAILED


def _witness(checks: Sequence[CheckResult] | None) -> Witness | None:
    """On whose word the checks rest that decide: where the guest or the device was asked, on that."""
    if checks is None:
        return None
    deciding = {check.witness for check in checks if check.status is not CheckStatus.INFO}
    return next((asked for asked in _VERIFIED_BY if asked in deciding), Witness.HOST)


def _check_status(checks: Sequence[CheckResult] | None) -> CheckStatus | None:
    """What all checks come to together, None if nothing was checked."""
    if checks is None:
        return None
    if verified(checks):
        return CheckStatus.PASSED
    failed = any(check.status is CheckStatus.FAILED for check in checks)
    return CheckStatus.FAILED if failed else CheckStatus.UNVERIFIED


def _in_guest(
    status: AssignmentStatus,
    checked: CheckStatus | None,
    wrong: Sequence[CheckResult],
    was: Condition | None,
    domid: int | None,
    *,
    asking: bool,
) -> tuple[Status, str, str]:
    asked = status.witness in _VERIFIED_BY
    if not status.attached:
        return Status.FALSE, _NOT_ATTACHED, ""
    if checked is CheckStatus.FAILED:
        return Status.FALSE, _FOUND_OTHERWISE[wrong[0].witness], str(wrong[0])
    if checked is CheckStatus.UNVERIFIED and asked:
        return Status.UNKNOWN, _SILENT.get(wrong[0].witness, _NO_ANSWER), str(wrong[0])
    if checked is CheckStatus.PASSED and status.witness in _VERIFIED_BY:
        return Status.TRUE, _VERIFIED_BY[status.witness], ""
    heard = was if was is not None and was.reason in _OF_A_GUEST else None
    holds = heard is not None and heard.reason != _RESTARTED and heard.domid == domid
    if heard is not None and holds and (asking or heard.status is not Status.UNKNOWN):
        return heard.status, heard.reason, heard.message
    if not asking:
        return Status.UNKNOWN, "NotToBeAsked", "the policy says not to ask the guest"
    if heard is not None:
        return Status.UNKNOWN, _RESTARTED, "the domain was started since its guest was asked"
    return Status.UNKNOWN, _NOT_ASKED, "no guest was asked yet: `cede verify` asks"


def _as_checked(
    status: AssignmentStatus,
    checked: CheckStatus | None,
    wrong: Sequence[CheckResult],
    in_guest: tuple[Status, str, str],
) -> tuple[Status, str, str]:
    is_so, reason, message = in_guest
    first = str(wrong[0]) if wrong else ""
    if checked is CheckStatus.FAILED or (status.attached and is_so is Status.FALSE):
        return Status.FALSE, reason, message or first
    if checked is CheckStatus.UNVERIFIED:
        return Status.UNKNOWN, _SILENT.get(wrong[0].witness, _NO_ANSWER), first
    if reason in _UNTOLD:
        return Status.UNKNOWN, reason, message
    return Status.TRUE, "AsAssigned", ""
