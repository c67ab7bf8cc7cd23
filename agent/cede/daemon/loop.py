"""The daemon: one pass after another, whenever something woke it or the timer says so, until it is asked to stop.

A small state machine. What it waits with, looks at the clock with, makes a pass with and speaks with is handed in, so
that days of it can be walked through in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cede.daemon.backoff import Backoff, Waiting, hold_back
from cede.daemon.schedule import BURST_SECONDS, QUIET_SECONDS, Ended, Schedule
from cede.daemon.triggers import Wake
from cede.errors import (
    CedeError,
    HungError,
    InterruptedByPersonError,
    TransientError,
    UnreachableError,
)
from cede.model.plan import NoOp, Plan, Refusal, Work
from cede.model.policy import Policy
from cede.services.reconcile import Report

RELOAD = "reload"
SETTLE_SECONDS = 1.0
_LONGEST_WAIT = 3600.0
_LONGEST_WHY = 200
Review = Callable[[Plan], Plan]
Doubted = Callable[[Collection[str]], Collection[str]]
NextTries = Callable[[Report], Mapping[str, float]]


class Passes(Protocol):
    """Makes one pass under the one-writer lock; raises a CedeError if it can't."""

    def __call__(
        self, policy: Policy, why: str, review: Review, doubted: Doubted, next_tries: NextTries
    ) -> Report:
        """`why` tells what woke it; `review` and `doubted` are those of `reconcile.one_pass`.

        `next_tries` is its `next_try` in times of the daemon's clock; it is called once, with what was done.
        """


class Policies(Protocol):
    """The policy as it is to be followed now."""

    def reload(self, *, forced: bool) -> bool:
        """Look whether the files changed, or read them anyway if `forced`; whether there is a new policy."""

    @property
    def policy(self) -> Policy:
        """The last one that was right."""

    @property
    def unsettled(self) -> bool:
        """Whether the files are being written just now, and are to be looked at again in a moment."""


class Voice(Protocol):
    """Whom the daemon tells what it does: the log, and the service manager."""

    def observed(self) -> None:
        """The host was seen for the first time, or asked for in vain."""

    def alive(self) -> None:
        """The loop turns."""

    def passed(self, report: Report, waiting: Sequence[Waiting]) -> None:
        """A pass came to its end."""

    def failed(self, error: CedeError, seconds: float) -> None:
        """A pass could not be made; the next one comes in `seconds`."""


def how_it_ended(error: CedeError) -> Ended:
    """What an error that ended a pass means for the next one."""
    if isinstance(error, HungError):
        return Ended.HUNG
    if isinstance(error, UnreachableError):
        return Ended.UNREACHABLE
    if isinstance(error, TransientError):
        return Ended.BUSY
    return Ended.FAILED


@dataclass(slots=True, kw_only=True)
class Daemon:
    """What it is made of; wakes whose source is RELOAD are a person's, who wants everything tried anew.

    `take(seconds)` waits for wakes, `sleep` for time to pass, `clock` never goes back; `beat` is how often it turns.

    `when` puts a time of that clock into words for people.
    """

    passes: Passes
    policies: Policies
    schedule: Schedule
    voice: Voice
    take: Callable[[float], Sequence[Wake]]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    when: Callable[[float], str]
    stopped: Callable[[], bool]
    beat: float = _LONGEST_WAIT
    backoff: Backoff = field(default_factory=Backoff)
    _asked: Collection[str] = ()

    def run(self) -> None:
        """Make passes until it is asked to stop; the first one at once."""
        woken: tuple[Wake, ...] = ()
        while not self.stopped():
            self._pass(woken)
            woken = self._await()

    def _await(self) -> tuple[Wake, ...]:
        """Wait until a pass is due; returns what woke it, at most one wake of each source."""
        woken: dict[str, Wake] = {}
        while not self.stopped():
            self.voice.alive()
            left = self.schedule.due() - self.clock()
            if left <= 0:
                break
            came = self._heard(self.take(min(left, self.beat)))
            if came:
                woken |= {wake.source: wake for wake in (*came, *self._burst())}
        return tuple(woken.values())

    def _burst(self) -> tuple[Wake, ...]:
        """What comes in the moment after a wake, until it is quiet or has gone on for long enough."""
        found: dict[str, Wake] = {}
        end = self.clock() + BURST_SECONDS
        while self.clock() < end and not self.stopped():
            self.sleep(QUIET_SECONDS)
            came = self._heard(self.take(0.0))
            if not came:
                break
            found |= {wake.source: wake for wake in came}
        return tuple(found.values())

    def _heard(self, came: Sequence[Wake]) -> Sequence[Wake]:
        for wake in came:
            self.schedule.wake(self.clock())
            if wake.urgent:
                self.schedule.hasten()
        return came

    def _pass(self, woken: Sequence[Wake]) -> None:
        asked = any(wake.source == RELOAD for wake in woken)
        if self.policies.reload(forced=asked) or asked:
            self.backoff.forget()
        policy = self.policies.policy
        self.schedule.begun(self.clock())
        self.voice.alive()
        try:
            report = self.passes(policy, _why(woken), self._review, self._doubted, self._next_tries)
        except InterruptedByPersonError:
            return  # it is stopped, and what is left to do is in the journal
        except CedeError as error:
            self.voice.observed()
            how = how_it_ended(error)
            self.schedule.ended(how, self.clock())
            self.voice.failed(error, self.schedule.due() - self.clock())
            return
        now = self.clock()
        retries = list(self.backoff.next_tries(now).values())
        if self.policies.unsettled:
            retries.append(now + SETTLE_SECONDS)
        self.schedule.ended(Ended.WELL, now, retry=min(retries, default=None))
        self.voice.passed(report, self.backoff.waiting(now))

    def _review(self, planned: Plan) -> Plan:
        """The plan without what is left alone for now."""
        self.voice.observed()
        words = {
            one.subject: f"{one.reason}; next try {self.when(one.until)}"
            for one in self.backoff.waiting(self.clock())
        }
        named: list[Work | NoOp | Refusal] = [*planned.work, *planned.noops, *planned.refusals]
        self.backoff.keep({one.subject for one in named})
        return hold_back(planned, words)

    def _doubted(self, unproven: Collection[str]) -> Collection[str]:
        self._asked = self.backoff.doubted(unproven, self.clock())
        return self._asked

    def _next_tries(self, report: Report) -> Mapping[str, float]:
        self._learn(report)
        return self.backoff.next_tries(self.clock())

    def _learn(self, report: Report) -> None:
        now = self.clock()
        for outcome in report.outcomes:
            subject, error = outcome.work.subject, outcome.stranded or outcome.error
            if error is None:
                self.backoff.done(subject, now)
            elif not isinstance(error, InterruptedByPersonError):
                self.backoff.failed(subject, error.message, now)
        done = {o.work.subject for o in report.outcomes if o.error is None}
        for checked in report.checked:
            if checked.subject not in done and checked.subject not in self._asked:
                continue  # its guest wasn't asked
            if checked.proven:
                self.backoff.proven(checked.subject)
            else:
                self.backoff.unproven(checked.subject, now)


def _why(woken: Sequence[Wake]) -> str:
    said = "; ".join(map(str, woken)) or "timer"
    return said if len(said) <= _LONGEST_WHY else f"{said[:_LONGEST_WHY]}..."
