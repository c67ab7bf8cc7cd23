"""The daemon: one pass after another, whenever something woke it or the timer says so, until it is asked to stop.

A small state machine. What it waits with, looks at the clock with, makes a pass with and speaks with is handed in, so
that days of it can be walked through in a test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from cede.daemon.backoff import Backoff, Waiting, hold_back
from cede.daemon.schedule import BURST_SECONDS, DEBOUNCE_SECONDS, Ended, Schedule, pause
from cede.daemon.triggers import Trigger
from cede.errors import (
    CedeError,
    HungError,
    StopRequestedError,
    TransientError,
    UnreachableError,
    unexpected,
)
from cede.model.plan import Plan
from cede.model.policy import Policy
from cede.services.pass_report import Report

_LOG = logging.getLogger(__name__)
RELOAD = "reload"
STABLE_SECONDS = 1.0
_MAX_WAIT = 3600.0
_MAX_PAUSE = 30.0  # after a fault, in which no sign of life is given
_MAX_REASON = 200


class Pass(Protocol):
    """One pass that was planned, and of which nothing is done yet."""

    @property
    def plan(self) -> Plan:
        """What is to be done."""

    @property
    def unverified(self) -> Collection[str]:
        """The subjects whose guests proved nothing when they were asked last."""

    def carry_out(self, planned: Plan, needs_recheck: Collection[str]) -> Report:
        """Apply `planned`, and verify; the guests of `needs_recheck` are asked even if nothing was done."""

    def record(self, report: Report, next_tries: Mapping[str, float]) -> None:
        """Record the report, and when each subject is tried again, in times of the daemon's clock."""


class Passes(Protocol):
    """Begins a pass, and holds the one-writer lock until it ends; raises a CedeError if it can't."""

    def __call__(self, policy: Policy, why: str) -> AbstractContextManager[Pass]:
        """Observe and plan; `why` tells what woke it."""


class Policies(Protocol):
    """The policy as it is to be followed now."""

    def reload(self, *, forced: bool) -> bool:
        """Look whether the files changed, or read them anyway if `forced`; whether there is a new policy."""

    @property
    def policy(self) -> Policy:
        """The last one that was right."""

    @property
    def changing(self) -> bool:
        """Whether the files are being written just now, and are to be looked at again in a moment."""


class Reporter(Protocol):
    """Whom the daemon tells what it does: the log, and the service manager."""

    def observed(self) -> None:
        """Report that the host was observed for the first time, or could not be."""

    def alive(self) -> None:
        """Report that the loop turns."""

    def passed(self, report: Report, waiting: Sequence[Waiting]) -> None:
        """Report a pass that came to its end."""

    def failed(self, error: CedeError, seconds: float) -> None:
        """Report a pass that could not be made; the next one comes in `seconds`."""


def how_it_ended(error: CedeError) -> Ended:
    """Return what an error that ended a pass means for the next one."""
    if isinstance(error, HungError):
        return Ended.HUNG
    if isinstance(error, UnreachableError):
        return Ended.UNREACHABLE
    if isinstance(error, TransientError):
        return Ended.BUSY
    return Ended.FAILED


@dataclass(slots=True, kw_only=True)
class Daemon:
    """What it is made of; wakes whose source is RELOAD are the administrator's, who wants everything tried anew.

    `take(seconds)` waits for wakes, `sleep` for time to pass, `clock` never goes back; `heartbeat` is how often it
    turns.

    `when` puts a time of that clock into words for people. `faults` counts what nobody expected.
    """

    passes: Passes
    policies: Policies
    schedule: Schedule
    reporter: Reporter
    take: Callable[[float], Sequence[Trigger]]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    when: Callable[[float], str]
    stopped: Callable[[], bool]
    heartbeat: float = _MAX_WAIT
    faults: int = 0
    backoff: Backoff = field(default_factory=Backoff)

    def run(self) -> None:
        """Make passes until it is asked to stop, whatever happens; the first one at once."""
        triggered: tuple[Trigger, ...] = ()
        while not self.stopped():
            try:
                self._pass(triggered)
                triggered = self._await()
            except Exception as fault:  # noqa: BLE001 - what ends the daemon ends it for all guests
                self._survive(fault)

    def _survive(self, fault: Exception) -> None:
        """Wait after a fault outside of a pass, longer each time, so that the next turn doesn't come at once."""
        error = self._unexpected(fault, "turning the daemon's loop")
        seconds = min(pause(Ended.FAILED, self.faults), _MAX_PAUSE)
        with suppress(Exception):
            self.reporter.failed(error, seconds)
        self.sleep(seconds)

    def _unexpected(self, fault: Exception, doing: str) -> CedeError:
        self.faults += 1
        _LOG.debug("%d faults of cede itself since the daemon's start", self.faults)
        return unexpected(fault, doing)

    def _await(self) -> tuple[Trigger, ...]:
        """Wait until a pass is due; returns what woke it, at most one wake of each source."""
        triggered: dict[str, Trigger] = {}
        while not self.stopped():
            self.reporter.alive()
            left = self.schedule.due() - self.clock()
            if left <= 0:
                break
            came = self._heard(self.take(min(left, self.heartbeat)))
            if came:
                triggered |= {trigger.source: trigger for trigger in (*came, *self._burst())}
        return tuple(triggered.values())

    def _burst(self) -> tuple[Trigger, ...]:
        """What comes in the moment after a wake, until it is quiet or has gone on for long enough."""
        found: dict[str, Trigger] = {}
        end = self.clock() + BURST_SECONDS
        while self.clock() < end and not self.stopped():
            self.sleep(DEBOUNCE_SECONDS)
            came = self._heard(self.take(0.0))
            if not came:
                break
            found |= {trigger.source: trigger for trigger in came}
        return tuple(found.values())

    def _heard(self, came: Sequence[Trigger]) -> Sequence[Trigger]:
        for trigger in came:
            self.schedule.trigger(self.clock())
            if trigger.urgent:
                self.schedule.expedite()
        return came

    def _pass(self, triggered: Sequence[Trigger]) -> None:
        asked = any(trigger.source == RELOAD for trigger in triggered)
        self.schedule.pass_started(self.clock())
        self.reporter.alive()
        try:
            if self.policies.reload(forced=asked) or asked:
                self.backoff.forget()
            policy = self.policies.policy
            with self.passes(policy, _why(triggered)) as current:
                report = self._carry_out(current)
        except StopRequestedError:
            return  # it is stopped, and what is left to do is in the journal
        except CedeError as error:
            self._failed(error)
            return
        except Exception as fault:  # noqa: BLE001 - whatever was met in one guest, file or daemon, the next pass comes
            self._failed(self._unexpected(fault, "a pass"))
            return
        now = self.clock()
        retries = list(self.backoff.next_tries(now).values())
        if self.policies.changing:
            retries.append(now + STABLE_SECONDS)
        self.schedule.pass_ended(Ended.WELL, now, retry=min(retries, default=None))
        self.reporter.passed(report, self.backoff.waiting(now))

    def _failed(self, error: CedeError) -> None:
        self.schedule.pass_ended(how_it_ended(error), self.clock())
        self.reporter.observed()
        self.reporter.failed(error, self.schedule.due() - self.clock())

    def _carry_out(self, current: Pass) -> Report:
        self.reporter.observed()
        planned = self._due(current.plan)
        due = self.backoff.due_for_recheck(current.unverified, self.clock())
        report = current.carry_out(planned, due)
        for status in report.statuses:
            self.backoff.learn(status, self.clock())
        current.record(report, self.backoff.next_tries(self.clock()))
        return report

    def _due(self, planned: Plan) -> Plan:
        """The plan without what is left alone for now."""
        words = {
            waiting.subject: f"{waiting.reason}; next try {self.when(waiting.until)}"
            for waiting in self.backoff.waiting(self.clock())
        }
        self.backoff.keep({planned.assignment_of(subject) for subject in planned.by_subject})
        return hold_back(planned, words)


def _why(triggered: Sequence[Trigger]) -> str:
    said = "; ".join(map(str, triggered)) or "timer"
    return said if len(said) <= _MAX_REASON else f"{said[:_MAX_REASON]}..."
