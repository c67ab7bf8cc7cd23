"""What is shown to people: the plan, the steps as they happen, findings, errors.

Plain text that reads the same on a terminal, in a mail from cron and in a bug report.
"""

from __future__ import annotations

import difflib
import threading
from typing import TYPE_CHECKING

import click

from cede.domain_xml.edits import EDITS, edited
from cede.executor.executor import StepOutcome
from cede.model.conditions import HOST, IN_STEP, MAINTENANCE, Status
from cede.verifier.check_results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cede.errors import CedeError
    from cede.model.conditions import Condition
    from cede.model.plan import Plan, Step, Work
    from cede.services.reconcile import Report
    from cede.state.journal import Entry
    from cede.verifier.check_results import Checked
    from cede.verifier.verify import Explained

_MARK = {Verdict.RIGHT: "ok", Verdict.WRONG: "WRONG", Verdict.OPEN: "??", Verdict.NOTED: "--"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the last one runs free."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    for row in every:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def error(failed: CedeError) -> None:
    """What went wrong and what to do about it, on standard error."""
    click.echo(f"cede: {failed.message}", err=True)
    if failed.remedy:
        click.echo(f"      remedy: {failed.remedy}", err=True)


def plan(planned: Plan) -> None:
    """Steps, no-ops with their reasons, refusals with their remedies."""
    for work in planned.work:
        click.echo(f"{work.subject}:{f' {work.reason}' if work.reason else ''}")
        for number, step in enumerate(work.steps, 1):
            click.echo(f"  {number}. {step}")
        _pending(work.pending)
    verdicts(planned)
    if not (planned.work or planned.noops or planned.refusals):
        click.echo("The policy assigns nothing.")


def verdicts(planned: Plan) -> None:
    """No-ops with their reasons, refusals with their remedies."""
    for noop in planned.noops:
        click.echo(f"{noop.subject}: nothing to do: {noop.reason}")
        _pending(noop.pending)
    for refusal in planned.refusals:
        click.echo(f"{refusal.subject}: REFUSED: {refusal.reason}")
        click.echo(f"  remedy: {refusal.remedy}")


def xml_diff(planned: Plan, before: Mapping[str, str]) -> None:
    """How the persistent XML of each domain in `before` would change, as a unified diff."""
    for domain, xml in before.items():
        after = xml
        for step in planned.steps:
            if isinstance(step, EDITS) and step.domain == domain:
                after = edited(step, after)
        names = (f"{domain}.xml", f"{domain}.xml, after cede apply")
        lines = difflib.unified_diff(xml.splitlines(), after.splitlines(), *names, lineterm="")
        click.echo("\n".join(lines))


def _pending(what: str) -> None:
    if what:
        click.echo(f"  then, for you to do: {what}")


class Progress:
    """A step before it begins, and its end on the same line unless another one's came between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: tuple[Work, Step] | None = None

    def __call__(self, work: Work, event: Step | StepOutcome) -> None:
        """Tell of one step."""
        with self._lock:
            if isinstance(event, StepOutcome):
                self._ended(work, event)
            else:
                self._break()
                click.echo(f"  {event} ... ", nl=False)
                self._open = (work, event)

    def _ended(self, work: Work, event: StepOutcome) -> None:
        if self._open != (work, event.step):
            self._break()
            click.echo(f"  {event.step} ... ", nl=False)
        self._open = None
        how = "done," if event.error is None else "FAILED after"
        click.echo(f"{how} {event.seconds:.1f} s")

    def _break(self) -> None:
        if self._open is not None:
            click.echo()
            self._open = None


def checked(found: Sequence[Checked], conditions: Iterable[Condition] = ()) -> None:
    """Per subject whether it is proven, every finding, and its conditions."""
    of: dict[str, dict[str, Condition]] = {}
    for condition in conditions:
        of.setdefault(condition.subject, {})[condition.type] = condition
    for one in found:
        known = of.get(one.subject, {})
        step = known.get(IN_STEP)
        word = "in step" if one.proven else "OUT OF STEP"
        if one.paused:
            word = "DRAINED" if step is not None and step.reason == "Drained" else "PAUSED"
        since = f" since {step.since}" if step is not None else ""
        click.echo(f"{one.subject}: {word}{since}")
        for finding in one.findings:
            click.echo(f"  [{_MARK[finding.verdict]}] {finding}")
        for condition in known.values():
            click.echo(f"  {condition}")


_USUAL = {MAINTENANCE: Status.FALSE}


def standing(found: Sequence[Checked], conditions: Sequence[Condition]) -> None:
    """What is out of the ordinary with the host, then every assignment.

    Where nothing could be looked at, the assignments are told as they were seen last.
    """
    for one in conditions:
        if one.subject == HOST and one.status is not _USUAL.get(one.type, Status.TRUE):
            click.echo(f"host: {one}")
    checked(found, conditions)
    if not found:
        for one in conditions:
            if one.subject != HOST:
                click.echo(f"{one.subject}, as last seen: {one}")


def explained(one: Explained) -> None:
    """The checklist of one assignment, each station with the command to see it with."""
    click.echo(f"{one.subject}, station by station:")
    if not one.checks:
        click.echo("  its device or its domain can't be told")
    for number, check in enumerate(one.checks, 1):
        click.echo(f"  {number:2}. [{_MARK[check.verdict]}] {check.station}: {check.found}")
        click.echo(f"        {check.command}")


def report(done: Report) -> None:
    """What came of a pass, after its steps were shown as they happened."""
    for outcome in done.outcomes:
        if outcome.error is not None:
            click.echo(f"{outcome.work.subject}: FAILED: {outcome.error.message}")
            if outcome.error.remedy:
                click.echo(f"  remedy: {outcome.error.remedy}")
        if outcome.stranded is not None:
            click.echo(f"{outcome.work.subject}: STRANDED: {outcome.stranded.message}")
            click.echo(
                f"  for you to do: {outcome.stranded.remedy or '`cede history` tells the steps'}"
            )
        elif outcome.undone:
            click.echo(f"{outcome.work.subject}: taken back to what was before")
    checked(done.checked)
    if not done.outcomes and not done.plan.refusals:
        click.echo("Nothing was changed.")


def history(entries: Sequence[Entry]) -> None:
    """Tasks and their deeds, the oldest first as in a log."""
    if not entries:
        click.echo("Nothing was done yet.")
    for entry in reversed(entries):
        still = " (not settled)" if entry.open else ""
        click.echo(f"{entry.begun}  {entry.subject}: {entry.outcome}{still}")
        click.echo(
            f"  asked by {entry.who or 'somebody'} with {entry.asked or 'cede'}"
            + (f"; {entry.address}" if entry.address else "")
        )
        for deed in entry.deeds:
            took = (
                "never ended" if deed.seconds is None else f"{deed.outcome}, {deed.seconds:.1f} s"
            )
            click.echo(f"  {'taking back: ' if deed.undoing else ''}{deed.text}: {took}")
            if deed.message:
                click.echo(f"    {deed.message}")
        if entry.message and entry.message not in {deed.message for deed in entry.deeds}:
            click.echo(f"  {entry.message}")
        if entry.remedy:
            click.echo(f"  remedy: {entry.remedy}")
