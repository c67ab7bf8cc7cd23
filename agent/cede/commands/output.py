"""Text output: the plan, the actions as they happen, check results, errors.

Plain text that reads the same on a terminal, in a mail from cron and in a bug report.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, assert_never

from cede.commands import exit_status, screen
from cede.commands.answer import Answer
from cede.commands.exit_status import EXIT_OF
from cede.commands.failure import show_error
from cede.commands.outputs import ReportOutput, StatusOutput
from cede.commands.screen import echo, echo_json
from cede.errors import CedeError
from cede.model.conditions import HOST, IN_SYNC, MAINTENANCE, Condition, Status
from cede.model.plan import ActionOutcome, Change, Deferred, Drifted, Paused, Refused, Satisfied
from cede.model.serialization import dumps
from cede.services.pass_report import ChangeOutcome, CheckedAssignment, Report
from cede.verifier.checklist import CheckStatus
from cede.verifier.verify import Explained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.actions import Action
    from cede.model.plan import Decision, Plan


_MARK = {
    CheckStatus.PASSED: "ok",
    CheckStatus.FAILED: "WRONG",
    CheckStatus.UNVERIFIED: "??",
    CheckStatus.INFO: "--",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell; the last one has no limit."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    for row in every:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        echo(line.rstrip())


def plan(planned: Plan) -> None:
    """Print every decision: the actions of a change, the reason why nothing is to do, a refusal with its remedy."""
    together = groupby(planned.decisions, lambda one: planned.assignment_of(one.subject))
    for assignment, decisions in together:
        _of_assignment(assignment, tuple(decisions))
    if not planned.decisions:
        echo("The policy assigns nothing.")


def _of_assignment(assignment: str, decisions: Sequence[Decision]) -> None:
    """Print the decisions of one assignment; what is so of all functions of a card once."""
    if len(decisions) == 1:
        decision(decisions[0])
        return
    alike = {replace(one, subject=assignment) for one in decisions}
    if len(alike) == 1:
        decision(alike.pop())
        return
    required = dict.fromkeys(
        one.action_required for one in decisions if isinstance(one, Change | Deferred)
    )
    for one in decisions:
        decision(replace(one, action_required="") if isinstance(one, Change | Deferred) else one)
    for what in required:
        if what:
            echo(f"{assignment}:")
            _action_required(what)


def decision(one: Decision) -> None:
    """Print one decision."""
    match one:
        case Change():
            echo(f"{one.subject}:{f' {one.reason}' if one.reason else ''}")
            for number, action in enumerate(one.actions, 1):
                echo(f"  {number}. {action}")
            _action_required(one.action_required)
        case Refused():
            echo(f"{one.subject}: REFUSED: {one.reason}")
            echo(f"  remedy: {one.remedy}")
        case Deferred():
            echo(f"{one.subject}: nothing to do: {one.reason}")
            _action_required(one.action_required)
        case Satisfied() | Paused() | Drifted():
            echo(f"{one.subject}: nothing to do: {one.reason}")
        case _:
            assert_never(one)


def _action_required(what: str) -> None:
    if what:
        echo(f"  then, for you to do: {what}")


class Progress:
    """Prints an action before it begins, and its end on the same line unless another action came between.

    Called from any thread; prints on the screen of the request that made it.
    """

    def __init__(self) -> None:
        self._screen = screen.current()
        self._lock = threading.Lock()
        self._open: tuple[Change, Action] | None = None

    def __call__(self, change: Change, event: Action | ActionOutcome) -> None:
        """Print the begin of `event`, or its end."""
        with self._lock, screen.shown_on(self._screen):
            if isinstance(event, ActionOutcome):
                self._ended(change, event)
            else:
                self._break()
                echo(f"  {event} ... ", nl=False)
                self._open = (change, event)

    def _ended(self, change: Change, event: ActionOutcome) -> None:
        if self._open != (change, event.action):
            self._break()
            echo(f"  {event.action} ... ", nl=False)
        self._open = None
        how = "done," if event.error is None else "FAILED after"
        echo(f"{how} {event.seconds:.1f} s")

    def _break(self) -> None:
        if self._open is not None:
            echo()
            self._open = None


def checked(found: Report, conditions: Sequence[Condition] = ()) -> None:
    """Print for each subject whether it is verified, every check result, and its conditions."""
    of: dict[str, dict[str, Condition]] = {}
    for condition in conditions:
        of.setdefault(condition.subject, {})[condition.type] = condition
    statuses = {status.subject: status for status in found.statuses}
    for checks in CheckedAssignment.of(found):
        known, status = of.get(checks.subject, {}), statuses[checks.subject]
        action = known.get(IN_SYNC)
        word = "in sync" if status.kind is None else "OUT OF SYNC"
        if status.kind is None and status.unproved and known:
            word = "NOT VERIFIED"
        if status.paused:
            word = status.reason.upper()
        since = f" since {action.since}" if action is not None else ""
        echo(f"{checks.subject}: {word}{since}")
        _findings(checks)
        for condition in known.values():
            echo(f"  {condition}")


def _findings(checks: CheckedAssignment) -> None:
    """Print what is so of all functions once, then the rest of each."""
    each = [set(function.findings) for function in checks.functions] or [set(checks.findings)]
    shared = set.intersection(*each)
    for finding in (finding for finding in checks.findings if finding in shared):
        echo(f"  [{_MARK[finding.status]}] {finding}")
    for function in checks.functions:
        echo(f"  {function.subject}: {'' if function.attached else 'not '}attached")
        for finding in (finding for finding in function.findings if finding not in shared):
            echo(f"    [{_MARK[finding.status]}] {finding}")


_USUAL = {MAINTENANCE: Status.FALSE}


def status(found: Report, conditions: Sequence[Condition]) -> None:
    """Print the unusual conditions of the host, then every assignment.

    Where the host could not be observed, print the assignments as last seen.
    """
    for condition in conditions:
        if condition.subject == HOST and condition.status is not _USUAL.get(
            condition.type, Status.TRUE
        ):
            echo(f"host: {condition}")
    checked(found, conditions)
    _out_of_sync(found)
    if not found.checked:
        for condition in conditions:
            if condition.subject != HOST:
                echo(f"{condition.subject}, as last seen: {condition}")


def _out_of_sync(found: Report) -> None:
    """Print what is no assignment and not as it is to be, as a card whose virtual functions are to be set up again."""
    shown = {checks.subject for checks in found.checked}
    for one in found.statuses:
        if one.subject not in shown and one.kind is not None:
            echo(f"{one.subject}: OUT OF SYNC")
            echo(f"  {one.text}")


def checklist(one: Explained) -> None:
    """Print the checklist of one assignment, each item with the command to see it with."""
    echo(f"{one.subject}, item by item:")
    if not one.checks:
        echo("  no device or no domain; `cede plan` says why")
    for number, check in enumerate(one.checks, 1):
        echo(f"  {number:2}. [{_MARK[check.status]}] {check.item}: {check.found}")
        echo(f"        {check.command}")


def report(done: Report) -> None:
    """Print the result of a pass whose actions were printed as they happened."""
    for outcome in done.outcomes:
        if outcome.error is not None:
            echo(f"{outcome.change.subject}: FAILED: {outcome.error.message}")
            if outcome.error.remedy:
                echo(f"  remedy: {outcome.error.remedy}")
        if outcome.rollback_failed is not None:
            echo(f"{outcome.change.subject}: ROLLBACK FAILED: {outcome.rollback_failed.message}")
            echo(
                f"  for you to do: {outcome.rollback_failed.remedy or '`cede history` lists the actions'}"
            )
        elif outcome.rolled_back:
            echo(f"{outcome.change.subject}: rolled back")
    checked(done)
    if not done.outcomes and not done.plan.refusals:
        echo("Nothing was changed.")


def show_report(done: Report, *, as_json: bool) -> Answer:
    """Print the result of a pass: one JSON object, or what the progress has not printed yet."""
    code = exit_status.of_report(done)
    if as_json:
        echo_json(
            dumps(
                ReportOutput(
                    exit=code,
                    plan=done.plan,
                    outcomes=ChangeOutcome.of(done.outcomes),
                    checked=CheckedAssignment.of(done),
                )
            )
        )
    else:
        report(done)
    return Answer(exit=code)


def show_checked(
    found: Report,
    *,
    as_json: bool,
    explained: tuple[Explained, ...] = (),
    restarted: tuple[str, ...] = (),
    failed: CedeError | None = None,
) -> Answer:
    """Print the check results, and the checklists if there are any."""
    code = EXIT_OF[failed.kind] if failed else exit_status.of_status(found)
    if as_json:
        echo_json(
            dumps(
                StatusOutput(
                    exit=code,
                    checked=CheckedAssignment.of(found),
                    conditions=found.conditions,
                    explained=explained,
                    restarted=restarted,
                    error=failed,
                )
            )
        )
        return Answer(exit=code)
    status(found, found.conditions)
    for one in explained:
        checklist(one)
    if failed is not None:
        show_error(failed)
    return Answer(exit=code)
