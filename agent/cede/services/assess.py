"""Assess: what a pass came to for each assignment, as conditions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cede.errors import CedeError, Exit, InterruptedByPersonError
from cede.model.conditions import (
    ATTACHED,
    HOST,
    IN_STEP,
    JOURNAL_USABLE,
    LIBVIRT_REACHABLE,
    MAINTENANCE,
    PCIBACK_LOADED,
    PERMANENT,
    POLICY_VALID,
    PROVEN,
    Condition,
    Status,
)
from cede.model.plan import (
    AddToConfig,
    Adopt,
    HotPlug,
    LoadPciback,
    NoOp,
    Refusal,
    RemoveFromConfig,
    Unplug,
    Work,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.model.journal_state import Pause

_REFUSED = {Exit.UNSAFE: "Unsafe", Exit.USAGE: "PolicyWrong", Exit.TRY_LATER: "NotYet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a pass came to for one assignment.

    `live` and `config` tell where the device was when the pass began. `done` tells that the work of the plan was
    executed, with `error` if it failed and `stranded` if it couldn't be taken back. `proven` is what was found
    afterwards, None if nobody looked, and `asked` whether the guest itself was; `wrong` is what speaks against it.
    """

    subject: str
    live: bool
    config: bool
    verdict: Work | NoOp | Refusal
    done: bool = False
    error: CedeError | None = None
    stranded: bool = False
    proven: bool | None = None
    asked: bool = False
    wrong: str = ""

    @property
    def took(self) -> bool:
        """Whether the whole work was done."""
        return isinstance(self.verdict, Work) and self.done and self.error is None

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
        if not isinstance(self.verdict, Work) or not self.took:
            return before
        steps = self.verdict.steps
        there = before or any(isinstance(step, comes) for step in steps)
        return there and not any(isinstance(step, goes) for step in steps)


def of_assignments(
    seen: Iterable[Seen],
    before: Iterable[Condition] = (),
    next_try: Mapping[str, str] | None = None,
) -> tuple[Condition, ...]:
    """The conditions of each assignment; `since` is empty until they are merged.

    What the last try came to, and what the guest said, still holds of `before` where nobody tried or asked again.
    """
    had = {(one.subject, one.type): one for one in before}
    later = next_try or {}
    return tuple(
        replace(one, next_try="" if one.status is Status.TRUE else later.get(subject.subject, ""))
        for subject in seen
        for one in _of_assignment(
            subject,
            had.get((subject.subject, IN_STEP)),
            had.get((subject.subject, PROVEN)),
            waits=subject.subject in later,
        )
    )


def doubted(conditions: Iterable[Condition]) -> frozenset[str]:
    """The assignments whose guests were asked and did not prove it."""
    return frozenset(one.subject for one in conditions if one.type == PROVEN and _unproven(one))


def _unproven(said: Condition) -> bool:
    """Whether a guest didn't answer, or told otherwise; a finding's source comes first in its text."""
    otherwise = said.reason == "FoundOtherwise" and said.message.startswith("guest")
    return otherwise or said.reason == "NoAnswer"


def _of_assignment(
    seen: Seen, was: Condition | None, said: Condition | None, *, waits: bool
) -> tuple[Condition, ...]:
    def condition(kind: str, status: Status, reason: str, message: str = "") -> Condition:
        return Condition(
            subject=seen.subject, type=kind, status=status, reason=reason, message=message
        )

    if was is not None and _still(seen, was, waits=waits):
        reason, message = was.reason, was.message
    else:
        reason, message = _why(seen)
    there = (
        condition(ATTACHED, Status.TRUE, "InDomain")
        if seen.is_live
        else condition(ATTACHED, Status.FALSE, reason, message)
    )
    kept = (
        condition(PERMANENT, Status.TRUE, "InPersistentXML")
        if seen.is_config
        else condition(PERMANENT, Status.FALSE, reason, message)
    )
    proven = _proven(seen, said)
    return (there, kept, proven, condition(IN_STEP, *_in_step(seen, proven, reason, message)))


def _proven(seen: Seen, said: Condition | None) -> Condition:
    def proven(status: Status, reason: str, message: str = "") -> Condition:
        return Condition(
            subject=seen.subject, type=PROVEN, status=status, reason=reason, message=message
        )

    if not seen.is_live:
        return proven(Status.FALSE, "NotAttached")
    if seen.proven is None and seen.asked:
        return proven(Status.UNKNOWN, "NoAnswer", seen.wrong)
    if seen.proven is False:
        return proven(Status.FALSE, "FoundOtherwise", seen.wrong)
    if seen.proven and seen.asked:
        return proven(Status.TRUE, "GuestHasIt")
    if said is not None and (said.reason in {"GuestHasIt", "NotAsked"} or _unproven(said)):
        return said
    return proven(Status.UNKNOWN, "NotAsked", "no guest was asked yet: `cede verify` asks")


def _still(seen: Seen, was: Condition, *, waits: bool) -> bool:
    """Whether what came of the last try holds, since nobody has tried again."""
    verdict = seen.verdict
    outstanding = isinstance(verdict, Work) and not seen.done
    put_off = isinstance(verdict, Refusal) and verdict.exit is Exit.TRY_LATER
    if was.reason == "NotYet":
        return outstanding and waits
    return (outstanding or put_off) and was.reason in {"Failed", "Stranded"}


def _in_step(seen: Seen, proven: Condition, reason: str, message: str) -> tuple[Status, str, str]:
    verdict = seen.verdict
    if isinstance(verdict, NoOp) and verdict.paused:
        return Status.UNKNOWN, reason, message
    if isinstance(verdict, Work) and verdict.drained and seen.took:
        return Status.UNKNOWN, reason, message
    if isinstance(verdict, NoOp) and verdict.settled:
        return Status.TRUE, reason, message
    well = seen.took or isinstance(verdict, NoOp)
    pending = not isinstance(verdict, Refusal) and bool(verdict.pending)
    drifted = isinstance(verdict, NoOp) and verdict.drifted
    if not well or pending or drifted:
        return Status.FALSE, reason, message
    if seen.proven is False or (seen.is_live and proven.status is Status.FALSE):
        return Status.FALSE, proven.reason, proven.message or seen.wrong
    if proven.reason == "NoAnswer":
        return Status.UNKNOWN, proven.reason, proven.message
    return Status.TRUE, "AsAssigned", ""


def _why(seen: Seen) -> tuple[str, str]:
    """Why it isn't so, if it isn't."""
    verdict = seen.verdict
    if isinstance(seen.error, InterruptedByPersonError):
        return "Interrupted", seen.error.message
    if seen.error is not None:
        return ("Stranded" if seen.stranded else "Failed"), seen.error.message
    if isinstance(verdict, Refusal):
        return _REFUSED.get(verdict.exit, "Refused"), verdict.reason
    if isinstance(verdict, NoOp):
        return _why_idle(verdict), verdict.pending or verdict.reason
    if seen.done and verdict.drained:
        return "Drained", verdict.reason
    if seen.done:
        return ("AwaitsStart", verdict.pending) if verdict.pending else ("NextStart", "")
    return ("Drifted", verdict.reason) if verdict.drifted else ("Outstanding", verdict.reason)


def _why_idle(noop: NoOp) -> str:
    if noop.drained:
        return "Drained"
    if noop.paused:
        return "Paused"
    if noop.drifted:
        return "Drifted"
    if noop.settled:
        return "AlternativeHasIt"
    return "AwaitsStart" if noop.pending else "NextStart"


def of_host(
    *,
    libvirt: CedeError | None = None,
    policy: CedeError | None = None,
    journal: Sequence[str] = (),
    pciback: bool | None = None,
    pauses: Iterable[Pause] = (),
) -> tuple[Condition, ...]:
    """The host's own conditions.

    `libvirt` and `policy` are why it can't be asked or read, `journal` what is said of its file; `pciback` is None if
    nobody could look.
    """
    drained = next((pause for pause in pauses if pause.drained and pause.everything), None)
    return (
        _of_host(LIBVIRT_REACHABLE, libvirt is None, "Answers", "Unreachable", _told(libvirt)),
        _of_host(POLICY_VALID, policy is None, "Read", "Wrong", _told(policy)),
        _of_host(JOURNAL_USABLE, not journal, "Written", "Damaged", "; ".join(journal)),
        Condition(
            subject=HOST, type=PCIBACK_LOADED, status=Status.UNKNOWN, reason="NotLooked"
        )
        if pciback is None
        else _of_host(PCIBACK_LOADED, pciback, "InSysfs", "NotInSysfs", "loaded with the first device"),
        _of_host(MAINTENANCE, drained is not None, "Drained", "InService", "", str(drained or "")),
    )  # fmt: skip


def _told(error: CedeError | None) -> str:
    return error.message if error is not None else ""


def _of_host(
    kind: str, so: bool, if_so: str, otherwise: str, message: str, message_if_so: str = ""
) -> Condition:
    return Condition(
        subject=HOST,
        type=kind,
        status=Status.TRUE if so else Status.FALSE,
        reason=if_so if so else otherwise,
        message=message_if_so if so else message,
    )
