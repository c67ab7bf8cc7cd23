"""The daemon's passes on this host, and what it reports of them to the log, to systemd and to the journal."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING

from cede.adapters.linux.systemd_notify import Notify
from cede.adapters.linux.writer_lock import one_writer
from cede.adapters.ports import Adapters
from cede.adapters.runtime import Runtime
from cede.daemon.event_log import EventReporter
from cede.errors import CedeError, HungError, LockedError, PolicyError, TransientError
from cede.services.pass_report import Report
from cede.services.reconcile import (
    RequestContext,
    apply,
    replan,
    scheduled_restarts,
    unverified,
)
from cede.services.status import record_failure, save_status
from cede.state.journal import Requester

if TYPE_CHECKING:
    from cede.daemon.backoff import Waiting
    from cede.model.conditions import Condition
    from cede.model.plan import Plan
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets
    from cede.util.clock import Clock

_CLOSING_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPass:
    """A pass on this host, planned.

    `previous` are the conditions of the pass before; `rejected` tells why the policy's files aren't followed as they
    are; `passed` is called with what was seen and what it came to.
    """

    adapters: Adapters
    targets: Targets
    plan: Plan
    context: RequestContext
    clock: Clock
    previous: tuple[Condition, ...]
    rejected: PolicyError | None
    passed: Callable[[Targets, Sequence[Condition]], None]

    @property
    def unverified(self) -> Collection[str]:
        """The subjects whose guests proved nothing when they were asked last."""
        return unverified(self.targets, self.previous)

    def carry_out(self, planned: Plan, needs_recheck: Collection[str]) -> Report:
        """Apply `planned`, and verify."""
        return apply(
            self.adapters, self.targets, planned, self.context, self.previous,
            needs_recheck=needs_recheck, rejected=self.rejected,
        )  # fmt: skip

    def record(self, report: Report, next_tries: Mapping[str, float]) -> None:
        """Record the report, and when each subject is tried again, in times of the monotonic clock."""
        stamps = {subject: stamp(self.clock, at) for subject, at in next_tries.items()}
        save_status(self.adapters.journal, self.targets, report, stamps)
        self.passed(self.targets, report.conditions)


@dataclass(slots=True, kw_only=True)
class HostPasses:
    """Passes on this host. Its adapters stay open from one to the next; after a failure they are opened anew.

    Another cede can work between two passes: each has the one-writer lock for itself, and doesn't wait for it.
    `rejected` tells why the policy's files aren't followed as they are. `passed` is called with what each pass has
    seen and come to. `made` counts the passes that came to their
    end, `seconds` is how long the last one took.
    """

    runtime: Runtime
    rejected: Callable[[], PolicyError | None] = lambda: None
    stop: Event
    event_reporter: EventReporter
    alive: Callable[[], None]
    log: logging.Logger
    passed: Callable[[Targets, Sequence[Condition]], None] = lambda _seen, _conditions: None
    _opened: ExitStack | None = None
    _adapters: Adapters | None = None
    _warned: set[str] = field(default_factory=set)
    made: int = 0
    seconds: float = 0.0

    @contextmanager
    def __call__(self, policy: Policy, why: str) -> Iterator[HostPass]:
        """Observe and plan; raises the CedeError that kept the pass from its end."""
        context = RequestContext(
            requester=Requester(command=f"cede run ({why})", user=self.runtime.user()),
            progress=self._progress,
            stop=self.stop,
            alive=self.alive,
        )
        with self._writing():
            started = self.runtime.clock.monotonic()
            try:
                adapters = self._open()
                restarts = scheduled_restarts(policy, self.runtime.clock)
                targets, planned = replan(adapters, policy, scheduled=True, restarts=restarts)
                yield HostPass(
                    adapters=adapters,
                    targets=targets,
                    plan=planned,
                    context=context,
                    clock=self.runtime.clock,
                    previous=adapters.journal.conditions(policy.source),
                    rejected=self.rejected(),
                    passed=self.passed,
                )
                adapters.journal.close()  # another cede may set a damaged one aside meanwhile
            except Exception:
                self.close()
                raise
        self.made, self.seconds = self.made + 1, self.runtime.clock.monotonic() - started
        for warning in adapters.journal.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.log.warning("%s", warning)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(
                    one_writer(f"`cede run` (pid {os.getpid()})", path=self.runtime.paths.lock)
                )
            except LockedError as other:
                raise TransientError(f"{other.holder} is running", name="another-cede") from other
            yield

    def _progress(self, *event: object) -> None:
        self.alive()
        self.event_reporter.action(*event)  # type: ignore[arg-type]

    def _open(self) -> Adapters:
        if self._adapters is None:
            stack = ExitStack()
            self._adapters = self.runtime.timeouts.call(
                f"connecting to {self.runtime.uri}",
                lambda: stack.enter_context(self.runtime.adapters()),
            )
            self._opened = stack
        return self._adapters

    def close(self) -> None:
        """Close the adapters; behind one that hangs in a thread that is left to itself."""
        opened, self._opened, self._adapters = self._opened, None, None
        if opened is not None:
            with suppress(HungError):
                self.runtime.timeouts.call(
                    "closing the adapters", opened.close, seconds=_CLOSING_SECONDS
                )


@dataclass(slots=True, kw_only=True)
class HostReporter:
    """The daemon's words to the log, to systemd, and to the journal where a pass couldn't leave any.

    `source` is the policy that it follows, as the journal knows it.
    """

    log: logging.Logger
    notify: Notify
    event_reporter: EventReporter
    passes: HostPasses
    source: str
    _complaint: str = ""

    def observed(self) -> None:
        """Report readiness, also after a reload, and while libvirt does not answer yet: the boot must not wait."""
        self.notify.ready()

    def alive(self) -> None:
        """Send a heartbeat."""
        self.notify.alive()

    def passed(self, report: Report, waiting: Sequence[Waiting]) -> None:
        """Report what is new, and the state in one line."""
        if self._complaint:
            self._complaint = ""
            self.log.info("passes are made again")
        state = self.event_reporter.report(
            report, waiting, lambda at: clock_time(self.passes.runtime.clock, at)
        )
        count = f"pass {self.passes.made}, {self.passes.seconds:.2f} s"
        now = self.passes.runtime.clock.now().astimezone()
        self.notify.status(f"{state}; seen at {now:%H:%M:%S}, {count}")

    def failed(self, error: CedeError, seconds: float) -> None:
        """Log a failure once, until it changes; the host's conditions have it each time."""
        runtime = self.passes.runtime
        next_try = stamp(runtime.clock, runtime.clock.monotonic() + seconds)
        record_failure(runtime, self.source, error, self.passes.rejected(), next_try)
        said = error.with_remedy
        if said != self._complaint:
            self._complaint = said
            if isinstance(error, TransientError):
                self.log.info("%s", f"postponed: {said}")
            else:
                self.log.warning("%s", f"the pass failed: {said}; trying again")
        self.notify.status(f"{error.message}; next try in {seconds:.0f} s")


def clock_time(clock: Clock, at: float) -> str:
    """Return a time of the monotonic clock as the wall clock will have it, `at 14:03:10`."""
    return f"at {_moment(clock, at).astimezone():%H:%M:%S}"


def stamp(clock: Clock, at: float) -> str:
    """Return a time of the monotonic clock as the journal writes it."""
    return _moment(clock, at).isoformat(timespec="seconds")


def _moment(clock: Clock, at: float) -> datetime:
    return clock.now() + timedelta(seconds=at - clock.monotonic())
