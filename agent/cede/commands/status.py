"""`cede status`: desired against actual, once or, with `--watch`, repeatedly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.runtime import Runtime
from cede.commands import exit_status, output
from cede.commands.answer import Answer
from cede.commands.exit_status import EXIT_OF, Exit
from cede.commands.failure import show_error
from cede.commands.outputs import StatusOutput
from cede.commands.requests import StatusRequest
from cede.commands.screen import clear, echo, echo_json, echo_lines
from cede.commands.session import Session, path_of
from cede.errors import CedeError, PolicyError, UsageError
from cede.model.conditions import Condition, changed_conditions
from cede.model.plan import Plan
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy
from cede.services.pass_report import CheckedAssignment, Report
from cede.services.reconcile import replan
from cede.services.status import SILENT, last_seen_conditions
from cede.services.verification import status

if TYPE_CHECKING:
    from cede.model.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One observation; `silent` is why the host could not be observed, and then all else is as last seen."""

    report: Report = field(default_factory=lambda: Report.of(Plan()))
    conditions: tuple[Condition, ...] = ()
    silent: CedeError | None = None

    @property
    def exit(self) -> Exit:
        """The exit status: OK unless an assignment that isn't paused is out of sync, or has yet to be proved."""
        if self.silent is not None:
            return EXIT_OF[self.silent.kind]
        return exit_status.of_status(self.report)


def perform(request: StatusRequest, session: Session) -> Answer:
    """Print the status, once or as it changes."""
    path, runtime = path_of(request.policy), session.runtime
    if request.watch and runtime.recorded:
        raise UsageError(
            "a recorded host doesn't change, so there is nothing to watch",
            name="recorded-host",
            remedy="leave out --watch",
        )
    policy = host_policy(path, runtime)
    if request.watch:
        return _watch(
            lambda: _look_again(runtime, path, policy),
            request.interval,
            as_json=session.as_json,
            sleep=runtime.clock.sleep,
            terminal=session.screen.terminal,
        )
    view = _look(runtime, policy)
    _show(view, as_json=session.as_json)
    return Answer(exit=view.exit)


def _look_again(runtime: Runtime, path: Path | None, first: Policy) -> Looked:
    """Observe with the policy as it is now; while the policy is wrong, return everything as last seen."""
    try:
        return _look(runtime, host_policy(path, runtime))
    except PolicyError as wrong:
        return _last_seen(runtime, first, wrong)


def _look(runtime: Runtime, policy: Policy) -> Looked:
    try:
        with runtime.adapters() as adapters:
            targets, planned = replan(adapters, policy)
            report = status(adapters, targets, planned)
            return Looked(report=report, conditions=report.conditions)
    except SILENT as silent:
        return _last_seen(runtime, policy, silent)


def _last_seen(runtime: Runtime, policy: Policy, why: CedeError) -> Looked:
    with closing(runtime.journal()) as journal:
        rejected = why if isinstance(why, PolicyError) else None
        silent = why if rejected is None else None
        conditions = last_seen_conditions(journal, policy.source, libvirt=silent, rejected=rejected)
    return Looked(conditions=conditions, silent=why)


def _show(found: Looked, *, as_json: bool) -> None:
    if as_json:
        echo_json(dumps(_output(found)))
        return
    if found.silent is not None:
        show_error(found.silent)
    output.status(found.report, found.conditions)


def _output(found: Looked) -> StatusOutput:
    return StatusOutput(
        exit=found.exit,
        checked=CheckedAssignment.of(found.report),
        conditions=found.conditions,
        error=found.silent,
    )


def _watch(
    look: Callable[[], Looked],
    seconds: float,
    *,
    as_json: bool,
    sleep: Callable[[float], None],
    terminal: bool,
) -> Answer:
    """Repeat until interrupted; the exit status is that of the last observation."""
    code = Exit.OK
    with suppress(KeyboardInterrupt):
        for view, new in _looks(look, seconds, sleep):
            code = view.exit
            if as_json:
                if new:
                    echo_json(dumps(_output(view), indent=None))
            elif terminal:
                clear()
                echo_lines((f"every {seconds:g} s; Ctrl-C ends it", ""))
                _show(view, as_json=False)
            else:
                for condition in new:
                    echo(f"{condition.subject or 'host'}: {condition}")
    return Answer(exit=code)


def _looks(
    look: Callable[[], Looked], seconds: float, sleep: Callable[[float], None]
) -> Iterator[tuple[Looked, Sequence[Condition]]]:
    """Yield each observation with the conditions that changed since the one before; all are new in the first.

    A condition that no pass has saved is dated by the first observation that saw it.
    """
    before: tuple[Condition, ...] = ()
    while True:
        view = look()
        now = tuple(_dated(view.conditions, before))
        yield (
            replace(view, conditions=now),
            changed_conditions(before, now),
        )
        before = now
        sleep(seconds)


def _dated(now: Sequence[Condition], before: Sequence[Condition]) -> Iterator[Condition]:
    had = {(condition.subject, condition.type): condition for condition in before}
    for condition in now:
        was = had.get((condition.subject, condition.type))
        same = was is not None and (was.status, was.reason) == (condition.status, condition.reason)
        yield was if was is not None and same and was.since < condition.since else condition
