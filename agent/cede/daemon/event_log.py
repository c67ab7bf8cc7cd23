"""The daemon's log: one line for each event, nothing for a pass that found no change.

journald adds the time and reads the priority from the line's beginning (sd-daemon(3)); on a terminal the time is added.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from cede.model.plan import ActionOutcome
from cede.services.assess import Severity
from cede.util.log import NOTICE, handler_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cede.daemon.backoff import Waiting
    from cede.model.actions import Action
    from cede.model.plan import Change
    from cede.services.pass_report import Report


_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.NOTICE: NOTICE,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}


class EventReporter:
    """Logs the state of each subject only when it changes."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, str] = {}

    def action(self, change: Change, event: Action | ActionOutcome) -> None:
        """Log why a change begins, if there is a reason, and each action that ended."""
        if not isinstance(event, ActionOutcome):
            if change.reason and event is change.actions[0]:
                self._log.log(NOTICE, f"{change.subject}: {change.reason}")
            return
        what = f"{change.subject}: {'rollback: ' if event.is_rollback else ''}{event.action}"
        if event.error is None:
            self._log.log(logging.INFO, f"{what}: done, {event.seconds:.1f} s")
        else:
            self._log.log(
                logging.WARNING,
                f"{what}: failed after {event.seconds:.1f} s: {event.error.with_remedy}",
            )

    def report(self, done: Report, waiting: Sequence[Waiting], when: Callable[[float], str]) -> str:
        """Log what is new in a report; return the state in one line."""
        found = {s.subject: (_LEVELS[s.severity], s.text) for s in done.statuses}
        pauses = {one.subject: f"{one.reason}; next try {when(one.until)}" for one in waiting}
        refused = {done.plan.assignment_of(refusal.subject) for refusal in done.plan.refusals}
        for subject, pause in pauses.items():
            if subject not in refused:
                _, text = found.get(subject, (logging.WARNING, ""))
                found[subject] = (logging.WARNING, f"{text + ': ' if text else ''}{pause}")
        worked = {done.plan.assignment_of(outcome.change.subject) for outcome in done.outcomes}
        for subject, (level, text) in found.items():
            if self._said.get(subject) != text or subject in worked:
                self._log.log(level, f"{subject}: {text}")
        self._said = {subject: text for subject, (_, text) in found.items()}
        good = sum(level == logging.INFO for level, _ in found.values())
        others = [s for s, (level, _) in found.items() if level != logging.INFO]
        return f"{good} of {len(found)} in sync" + (f"; not: {', '.join(others)}" if others else "")


def event_log() -> logging.Logger:
    """Return the log of the daemon's events, which alone goes to the standard output."""
    log = logging.getLogger("cede.daemon.events")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [handler_for(sys.stdout)]
    return log
