"""Backoff: which assignments wait, because they keep failing or flap.

Pure; times are seconds of one clock that is handed in. The administrator who asks with `cede apply` is never held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from cede.errors import FailureKind
from cede.model.plan import Change, Plan, Refused
from cede.services.assess import GUEST_CANNOT_ANSWER, AssignmentStatus
from cede.verifier.checklist import Witness

FIRST_SECONDS, MAX_SECONDS = 5.0, 3600.0
FLAPS, FLAP_SECONDS = 5, 600.0
_FIRST_AFTER_FLAPS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An assignment that is left alone until `until`, and why."""

    subject: str
    reason: str
    until: float


@dataclass(slots=True)
class _History:
    failures: int = 0
    rounds: int = 0
    done: deque[float] = field(default_factory=lambda: deque(maxlen=FLAPS))
    asked: int = 0
    looks: int = 0
    until: float = 0.0
    reason: str = ""


class Backoff:
    """Remembers the outcomes of each subject, for as long as the policy names the subject."""

    def __init__(self) -> None:
        self._of: dict[str, _History] = {}

    def learn(self, status: AssignmentStatus, now: float) -> None:
        """Take in what a pass came to for a subject.

        No event tells when a guest that starts has connected its frontend: what dom0 alone found is counted apart. Nor
        does one tell that xl let a guest run again, or that one has been saved.
        """
        if status.reason == GUEST_CANNOT_ANSWER:
            self.out_of_sync(status.subject, now)
        if status.failed:
            self.failed(status.subject, status.message, now)
        elif status.done:
            self.done(status.subject, now)
        match status.witness:
            case Witness.GUEST | Witness.DEVICE if status.kind is None:
                self.verified(status.subject)
            case Witness.GUEST | Witness.DEVICE:
                self.unverified(status.subject, now)
            case Witness.HOST if status.kind is None:
                self.in_sync(status.subject)
            case Witness.HOST:
                self.out_of_sync(status.subject, now)

    def failed(self, subject: str, why: str, now: float) -> None:
        """Record a failed change: the next try comes after a pause that doubles each time."""
        history = self._of.setdefault(subject, _History())
        history.failures += 1
        times = "once" if history.failures == 1 else f"{history.failures} times in a row"
        history.reason = f"failed {times}: {why}"
        history.until = now + _doubled(FIRST_SECONDS, history.failures)

    def done(self, subject: str, now: float) -> None:
        """Record a change that was done. If that was needed too often, the next one comes after a pause."""
        history = self._of.setdefault(subject, _History())
        history.failures, history.looks, history.reason = 0, 0, ""
        if history.done and now - history.done[-1] > FLAP_SECONDS + _doubled(
            _FIRST_AFTER_FLAPS, history.rounds
        ):
            history.rounds = 0
        history.done.append(now)
        flapping = len(history.done) == FLAPS and now - history.done[0] <= FLAP_SECONDS
        if flapping or history.rounds:
            history.rounds += 1
            history.reason = (
                f"flapping: cede changed this {FLAPS} times within {FLAP_SECONDS / 60:.0f} min"
                if flapping
                else "it had to be done again and again"
            )
            history.until = now + _doubled(_FIRST_AFTER_FLAPS, history.rounds)

    def unverified(self, subject: str, now: float) -> None:
        """Record that the guest did not confirm the device: cede asks again after a pause that doubles each time."""
        history = self._of.setdefault(subject, _History())
        history.asked += 1
        history.until = max(history.until, now + _doubled(FIRST_SECONDS, history.asked))

    def verified(self, subject: str) -> None:
        """Record that the guest confirmed the device."""
        if subject in self._of:
            self._of[subject].asked = 0

    def out_of_sync(self, subject: str, now: float) -> None:
        """Record that nothing is to be done, yet dom0 sees the subject out of sync: cede observes again soon."""
        history = self._of.setdefault(subject, _History())
        history.looks += 1
        history.until = max(history.until, now + _doubled(FIRST_SECONDS, history.looks))

    def in_sync(self, subject: str) -> None:
        """Record that dom0 sees the subject in sync."""
        if subject in self._of:
            self._of[subject].looks = 0

    def due_for_recheck(self, unverified: Collection[str], now: float) -> frozenset[str]:
        """Return the unverified subjects whose guests cede is to ask again now."""
        return frozenset(s for s in unverified if s not in self._of or self._of[s].until <= now)

    def keep(self, subjects: Collection[str]) -> None:
        """Forget all other subjects."""
        self._of = {s: h for s, h in self._of.items() if s in subjects}

    def forget(self) -> None:
        """Forget everything: the policy changed, or the administrator reloads the daemon."""
        self._of.clear()

    def waiting(self, now: float) -> tuple[Waiting, ...]:
        """Return who waits now, by subject."""
        return tuple(
            Waiting(subject=s, reason=h.reason, until=h.until)
            for s, h in sorted(self._of.items())
            if h.reason and h.until > now
        )

    def next_tries(self, now: float) -> dict[str, float]:
        """Return when each waiting or unverified subject is due."""
        return {
            s: h.until
            for s, h in self._of.items()
            if h.until > now and (h.reason or h.asked or h.looks)
        }


def _doubled(first: float, times: int) -> float:
    return min(first * 2.0 ** min(times - 1, 30), MAX_SECONDS) if times else 0.0


def hold_back(planned: Plan, waiting: Mapping[str, str]) -> Plan:
    """Return the plan without the changes of those that wait; `waiting` tells of each why and until when.

    Of a card all functions wait.
    """
    return replace(
        planned,
        decisions=tuple(
            Refused(
                subject=decision.subject,
                rule="backoff",
                kind=FailureKind.TRY_LATER,
                reason=f"left alone: {waiting[assignment]}",
                remedy="`cede apply` tries at once; `systemctl reload cede` ends the wait",
            )
            if isinstance(decision, Change)
            and (assignment := planned.assignment_of(decision.subject)) in waiting
            else decision
            for decision in planned.decisions
        ),
    )
