"""Assess: what a pass came to for each assignment, as conditions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from cede.errors import CedeError, FailureKind, InterruptedByPersonError
from cede.model.conditions import (
    ATTACHED,
    IN_SYNC,
    PERSISTENT,
    VERIFIED,
    Condition,
    Status,
)
from cede.model.plan import (
    AddToConfig,
    Adopt,
    Change,
    Decision,
    Deferred,
    Drifted,
    HotPlug,
    LoadPciback,
    Paused,
    Purpose,
    Refused,
    RemoveFromConfig,
    Satisfied,
    Unplug,
    Why,
)
from cede.verifier.check_results import CheckStatus, verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.model.conditions import ConditionType
    from cede.model.outcome import Outcome
    from cede.verifier.check_results import CheckResult

_AMISS = {CheckStatus.FAILED, CheckStatus.UNVERIFIED}

_FOUND_OTHERWISE = "GuestFoundOtherwise"
_UNPROVEN = {_FOUND_OTHERWISE, "NoAnswer"}  # what a guest is asked again after
_REFUSED = {
    FailureKind.UNSAFE: "Unsafe",
    FailureKind.USAGE: "PolicyWrong",
    FailureKind.TRY_LATER: "NotYet",
}


class Severity(StrEnum):
    """How much a status matters to the administrator."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectStatus:
    """What a pass came to for one subject of its plan, an assignment or another.

    `kind` is what keeps it from being as it should be, None if nothing does; `text` says how it is.
    """

    subject: str
    severity: Severity
    kind: FailureKind | None
    text: str


def assess(
    decision: Decision, outcome: Outcome | None = None, checks: Sequence[CheckResult] | None = None
) -> SubjectStatus:
    """Assess a subject from its decision, from what the executor did, and from what was checked, None if nothing.

    Exit status and log say only this.
    """
    severity, kind, text = _assessed(decision, outcome, checks)
    return SubjectStatus(subject=decision.subject, severity=severity, kind=kind, text=text)


def _assessed(
    decision: Decision, outcome: Outcome | None, checks: Sequence[CheckResult] | None
) -> tuple[Severity, FailureKind | None, str]:
    if outcome is not None and outcome.rollback_failed is not None:
        text = f"rollback failed: {outcome.rollback_failed.with_remedy}"
        return Severity.ERROR, FailureKind.FAILED, text
    if outcome is not None and outcome.error is not None:
        back = "; rolled back" if outcome.rolled_back else ""
        text = f"failed: {outcome.error.with_remedy}{back}"
        return Severity.WARNING, outcome.error.kind, text
    if checks is not None and not verified(checks):
        wrong = "; ".join(str(check) for check in checks if check.status in _AMISS)
        return Severity.WARNING, FailureKind.FAILED, f"out of sync: {wrong}"
    match decision:
        case Change() if outcome is None:
            return Severity.WARNING, FailureKind.OUT_OF_SYNC, "out of sync: not done yet"
        case Change() | Deferred() if decision.action_required:
            text = f"for you to do: {decision.action_required}"
            return Severity.NOTICE, FailureKind.TRY_LATER, text
        case Refused():
            text = f"refused: {decision.reason} (remedy: {decision.remedy})"
            return Severity.WARNING, decision.kind, text
        case Drifted():
            return Severity.WARNING, FailureKind.OUT_OF_SYNC, decision.reason
        case Paused():
            return Severity.INFO, None, decision.reason
        case Change() | Satisfied() | Deferred():
            return Severity.INFO, None, "in sync"
        case _:
            assert_never(decision)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentResult:
    """What a pass came to for one assignment.

    `live` and `config` tell where the device was when the pass began. `done` tells that the work of the plan was
    executed, with `error` if it failed and `rollback failed` if it couldn't be taken back. `verified` is what was found
    afterwards, None if nobody looked, and `asked` whether the guest itself was; `wrong` is what speaks against it,
    `wrong_in_guest` whether that is the guest's word.
    """

    subject: str
    live: bool
    config: bool
    decision: Decision
    done: bool = False
    error: CedeError | None = None
    rollback_failed: bool = False
    verified: bool | None = None
    asked: bool = False
    wrong: str = ""
    wrong_in_guest: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the whole change was done."""
        return isinstance(self.decision, Change) and self.done and self.error is None

    @property
    def is_live(self) -> bool:
        """Whether the running domain has it now."""
        return self._after(self.live, HotPlug, Unplug)

    @property
    def is_config(self) -> bool:
        """Whether the domain's persistent XML has it now."""
        return self._after(self.config, (AddToConfig, Adopt), RemoveFromConfig)

    @property
    def loaded_pciback(self) -> bool:
        """Whether the work loaded xen-pciback."""
        return self._after(False, LoadPciback, ())

    def _after(
        self, before: bool, comes: type | tuple[type, ...], goes: type | tuple[type, ...]
    ) -> bool:
        if not isinstance(self.decision, Change) or not self.succeeded:
            return before
        actions = self.decision.actions
        there = before or any(isinstance(action, comes) for action in actions)
        return there and not any(isinstance(action, goes) for action in actions)


def of_assignments(
    results: Iterable[AssignmentResult],
    before: Iterable[Condition] = (),
    next_try: Mapping[str, str] | None = None,
) -> tuple[Condition, ...]:
    """The conditions of each assignment; `since` is empty until they are merged.

    What the last try came to, and what the guest said, still holds of `before` where nobody tried or asked again.
    """
    had = {(condition.subject, condition.type): condition for condition in before}
    later = next_try or {}
    return tuple(
        replace(
            condition,
            next_try="" if condition.status is Status.TRUE else later.get(result.subject, ""),
        )
        for result in results
        for condition in _of_assignment(
            result,
            had.get((result.subject, IN_SYNC)),
            had.get((result.subject, VERIFIED)),
            waits=result.subject in later,
        )
    )


def needs_recheck(conditions: Iterable[Condition]) -> frozenset[str]:
    """The assignments whose guests were asked and did not prove it."""
    return frozenset(
        condition.subject
        for condition in conditions
        if condition.type == VERIFIED and condition.reason in _UNPROVEN
    )


def _of_assignment(
    result: AssignmentResult, was: Condition | None, was_verified: Condition | None, *, waits: bool
) -> tuple[Condition, ...]:
    def condition(kind: ConditionType, status: Status, reason: str, message: str = "") -> Condition:
        return Condition(
            subject=result.subject, type=kind, status=status, reason=reason, message=message
        )

    if was is not None and _still(result, was, waits=waits):
        reason, message = was.reason, was.message
    else:
        reason, message = _why(result)
    there = (
        condition(ATTACHED, Status.TRUE, "InDomain")
        if result.is_live
        else condition(ATTACHED, Status.FALSE, reason, message)
    )
    kept = (
        condition(PERSISTENT, Status.TRUE, "InPersistentXML")
        if result.is_config
        else condition(PERSISTENT, Status.FALSE, reason, message)
    )
    in_guest = _verified(result, was_verified)
    in_sync = condition(IN_SYNC, *_in_sync(result, in_guest, reason, message))
    return (there, kept, in_guest, in_sync)


def _verified(result: AssignmentResult, was_verified: Condition | None) -> Condition:
    def verified(status: Status, reason: str, message: str = "") -> Condition:
        return Condition(
            subject=result.subject, type=VERIFIED, status=status, reason=reason, message=message
        )

    if not result.is_live:
        return verified(Status.FALSE, "NotAttached")
    if result.verified is None and result.asked:
        return verified(Status.UNKNOWN, "NoAnswer", result.wrong)
    if result.verified is False:
        reason = _FOUND_OTHERWISE if result.wrong_in_guest else "HostFoundOtherwise"
        return verified(Status.FALSE, reason, result.wrong)
    if result.verified and result.asked:
        return verified(Status.TRUE, "GuestHasIt")
    if was_verified is not None and (was_verified.reason in {"GuestHasIt", "NotAsked"} | _UNPROVEN):
        return was_verified
    return verified(Status.UNKNOWN, "NotAsked", "no guest was asked yet: `cede verify` asks")


def _still(result: AssignmentResult, condition: Condition, *, waits: bool) -> bool:
    """Whether what came of the last try holds, since nobody has tried again."""
    decision = result.decision
    outstanding = isinstance(decision, Change) and not result.done
    put_off = isinstance(decision, Refused) and decision.may_pass
    if condition.reason == "NotYet":
        return outstanding and waits
    return (outstanding or put_off) and condition.reason in {"Failed", "RollbackFailed"}


def _in_sync(
    result: AssignmentResult, verified: Condition, reason: str, message: str
) -> tuple[Status, str, str]:
    match result.decision:
        case Paused():
            return Status.UNKNOWN, reason, message
        case Change(purpose=Purpose.DRAIN) if result.succeeded:
            return Status.UNKNOWN, reason, message
        case Satisfied(why=Why.ALTERNATIVE_HAS_IT):
            return Status.TRUE, reason, message
        case Refused() | Deferred() | Drifted():
            return Status.FALSE, reason, message
        case Change() as change if change.action_required or not result.succeeded:
            return Status.FALSE, reason, message
        case Change() | Satisfied():
            return _as_checked(result, verified)
        case _:
            assert_never(result.decision)


def _as_checked(result: AssignmentResult, verified: Condition) -> tuple[Status, str, str]:
    if result.verified is False or (result.is_live and verified.status is Status.FALSE):
        return Status.FALSE, verified.reason, verified.message or result.wrong
    if verified.reason == "NoAnswer":
        return Status.UNKNOWN, verified.reason, verified.message
    return Status.TRUE, "AsAssigned", ""


def _why(result: AssignmentResult) -> tuple[str, str]:
    """Why it isn't so, if it isn't."""
    if isinstance(result.error, InterruptedByPersonError):
        return "Interrupted", result.error.message
    if result.error is not None:
        return ("RollbackFailed" if result.rollback_failed else "Failed"), result.error.message
    match result.decision:
        case Refused() as refused:
            return _REFUSED.get(refused.kind, "Refused"), refused.reason
        case Paused() as paused:
            return "Drained" if paused.pause.drained else "Paused", paused.reason
        case Drifted() as drifted:
            return "Drifted", drifted.reason
        case Deferred() as deferred:
            return "AwaitsStart", deferred.action_required
        case Satisfied(why=Why.ALTERNATIVE_HAS_IT, reason=reason):
            return "AlternativeHasIt", reason
        case Satisfied(reason=reason):
            return "NextStart", reason
        case Change() as change:
            return _why_changed(change) if result.done else _why_outstanding(change)
        case _:
            assert_never(result.decision)


def _why_changed(change: Change) -> tuple[str, str]:
    if change.purpose is Purpose.DRAIN:
        return "Drained", change.reason
    if change.action_required:
        return "AwaitsStart", change.action_required
    return "NextStart", ""


def _why_outstanding(change: Change) -> tuple[str, str]:
    drifted = change.purpose is Purpose.RESTORE
    return "Drifted" if drifted else "Outstanding", change.reason
