"""What the daemon says: one line for each thing that happened, nothing for a pass that found all as it was.

journald adds the time and reads the priority from the line's beginning (sd-daemon(3)); on a terminal the time is added.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, assert_never

from cede.executor.executor import ActionOutcome
from cede.model.plan import Change, Deferred, Drifted, Paused, Refused, Satisfied
from cede.util.text import line_of
from cede.verifier.check_results import CheckStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

    from cede.daemon.backoff import Waiting
    from cede.errors import CedeError
    from cede.model.plan import Action
    from cede.services.reconcile import Report

_AMISS = {CheckStatus.FAILED, CheckStatus.UNVERIFIED}


class Priority(IntEnum):
    """syslog(3)'s."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


def reason_of(error: CedeError) -> str:
    """What went wrong and its remedy."""
    return f"{error.message} (remedy: {error.remedy})" if error.remedy else error.message


class Log:
    """Writes lines; several threads may."""

    def __init__(
        self, stream: TextIO, environ: Mapping[str, str], now: Callable[[], datetime] | None = None
    ) -> None:
        self._stream = stream
        self._journald = _is_journald(stream, environ.get("JOURNAL_STREAM", ""))
        self._now = now or (lambda: datetime.now(UTC).astimezone())
        self._lock = threading.Lock()

    def __call__(self, priority: Priority, text: str) -> None:
        """Write one line."""
        head = f"<{int(priority)}>" if self._journald else f"{self._now():%H:%M:%S} "
        with self._lock:
            self._stream.write(f"{head}{line_of(text)}\n")
            self._stream.flush()


def _is_journald(stream: TextIO, named: str) -> bool:
    """Whether the stream is the one that journald reads: `device:inode`, as systemd.exec(5) has it."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


class EventReporter:
    """Knows what was said of each subject, and says it again only when it is no longer so."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said: dict[str, str] = {}

    def action(self, change: Change, event: Action | ActionOutcome) -> None:
        """Why a work is begun, where there is more to say than that it is wanted; then each step that ended."""
        if not isinstance(event, ActionOutcome):
            if change.reason and event is change.actions[0]:
                self._log(Priority.NOTICE, f"{change.subject}: {change.reason}")
            return
        what = f"{change.subject}: {'taking back: ' if event.is_rollback else ''}{event.action}"
        if event.error is None:
            self._log(Priority.INFO, f"{what}: done, {event.seconds:.1f} s")
        else:
            self._log(
                Priority.WARNING,
                f"{what}: failed after {event.seconds:.1f} s: {reason_of(event.error)}",
            )

    def report(self, done: Report, waiting: Sequence[Waiting], when: Callable[[float], str]) -> str:
        """Tell what is new in a report; returns the state in a line."""
        found = dict(_lines(done))
        pauses = {one.subject: f"{one.reason}; next try {when(one.until)}" for one in waiting}
        for subject, pause in pauses.items():
            if subject not in {refusal.subject for refusal in done.plan.refusals}:
                _, text = found.get(subject, (Priority.WARNING, ""))
                found[subject] = (Priority.WARNING, f"{text + ': ' if text else ''}{pause}")
        worked = {outcome.change.subject for outcome in done.outcomes}
        for subject, (priority, text) in found.items():
            if self._said.get(subject) != text or subject in worked:
                self._log(priority, f"{subject}: {text}")
        self._said = {subject: text for subject, (_, text) in found.items()}
        good = sum(priority is Priority.INFO for priority, _ in found.values())
        others = [s for s, (priority, _) in found.items() if priority is not Priority.INFO]
        return f"{good} of {len(found)} in sync" + (f"; not: {', '.join(others)}" if others else "")


def _lines(done: Report) -> dict[str, tuple[Priority, str]]:
    """Of each subject how it stands, the weightiest word last."""
    found: dict[str, tuple[Priority, str]] = {}
    for decision in done.plan.decisions:
        if not isinstance(decision, Change):
            found[decision.subject] = _line(decision)
    for checked in done.checked:
        if checked.verified:
            found.setdefault(checked.subject, (Priority.INFO, "in sync"))
        else:
            wrong = "; ".join(str(f) for f in checked.findings if f.status in _AMISS)
            found[checked.subject] = (Priority.WARNING, f"out of sync: {wrong}")
    for outcome in done.outcomes:
        subject = outcome.change.subject
        if outcome.rollback_failed is not None:
            found[subject] = (
                Priority.ERROR,
                f"rollback failed: {reason_of(outcome.rollback_failed)}",
            )
        elif outcome.error is not None:
            back = "; taken back to what was before" if outcome.rolled_back else ""
            found[subject] = (Priority.WARNING, f"failed: {reason_of(outcome.error)}{back}")
        elif outcome.change.action_required:
            found[subject] = (Priority.NOTICE, f"for you to do: {outcome.change.action_required}")
        else:
            found.setdefault(subject, (Priority.INFO, "in sync"))
    return found


def _line(decision: Satisfied | Deferred | Refused | Paused | Drifted) -> tuple[Priority, str]:
    match decision:
        case Satisfied():
            return Priority.INFO, "in sync"
        case Deferred():
            return Priority.NOTICE, f"for you to do: {decision.action_required}"
        case Refused():
            return Priority.WARNING, f"refused: {decision.reason} (remedy: {decision.remedy})"
        case Paused():
            return Priority.INFO, decision.reason
        case Drifted():
            return Priority.WARNING, decision.reason
        case _:
            assert_never(decision)


def standard_log() -> Log:
    """The log of this process, on its standard output."""
    return Log(sys.stdout, os.environ)
