"""The executor: executes a plan's changes and returns the outcome of each; it does not raise.

Each action is in the journal before it is done. Before each try of one that can't be taken back the host is looked at
again, and the action is refused if what the plan rests on isn't so any more. A change that fails is rolled back, action
by action; a device on which a call hangs is left alone. Changes of one group go stage by
stage: all devices are bound to pciback before anything else, and all have left before one is returned. Independent
changes run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from cede.errors import (
    CedeError,
    HungError,
    PermanentError,
    StopRequestedError,
    WorldMovedError,
    unexpected,
)
from cede.executor.actions import ActionRunner, changes_nothing, original_state, read_prestate
from cede.model.actions import Action, BindToPciback, ReturnToDom0
from cede.model.plan import ActionOutcome, Change, Outcome
from cede.planner.recheck import RECHECKED, recheck
from cede.planner.recovery import rollback_actions
from cede.state.journal import Requester
from cede.util.retry import retry_transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory


SIDE_BY_SIDE = 8
Progress = Callable[[Change, Action | ActionOutcome], None]


@dataclass(slots=True)
class _Run:
    """A change that is being executed; `change_id` is None if it couldn't be written to the journal."""

    change: Change
    change_id: int | None
    tried: list[ActionOutcome] = field(default_factory=list)
    error: CedeError | None = None


def silence(_change: Change, _event: Action | ActionOutcome) -> None:
    """Report no progress."""


class Executor:
    """Executes changes for `requester`; set `stop` to end after the present actions.

    `look` observes what matters to an action, as it is at the moment; it raises one of cede's errors if that can't be
    told. At most
    `side_by_side` groups of changes are executed at once.
    """

    def __init__(
        self,
        adapters: Adapters,
        look: Callable[[Action], Inventory],
        requester: Requester | None = None,
        progress: Progress = silence,
        stop: threading.Event | None = None,
        side_by_side: int = SIDE_BY_SIDE,
    ) -> None:
        self._adapters = adapters
        self._look = look
        self._runner = ActionRunner(adapters)
        self._requester = requester or Requester()
        self._progress = progress
        self._stop = stop or threading.Event()
        self._side_by_side = side_by_side
        self._started: set[int] = set()  # the changes of which an action has come to be done

    def execute(self, changes: Sequence[Change]) -> tuple[Outcome, ...]:
        """Execute every change, whether others fail or not; return the outcomes in the order of `changes`.

        Changes that share a domain, a device or its bus follow one another, others run side by side.
        """
        found: dict[int, Outcome] = {}

        def take_group(group: Sequence[int]) -> None:
            for numbers in _done_together(group, changes):
                outcomes = self._execute([changes[number] for number in numbers])
                found.update(zip(numbers, outcomes, strict=True))

        grouped = conflict_groups(changes)
        threads = min(len(grouped), self._side_by_side)
        if threads <= 1:
            for group in grouped:
                take_group(group)
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(threads, "cede") as pool:
                for done in [pool.submit(take_group, group) for group in grouped]:
                    done.result()
        return tuple(found[number] for number in range(len(changes)))

    def _execute(self, changes: Sequence[Change]) -> list[Outcome]:
        """Run the actions of changes that are done together, stage by stage, up to the first that fails.

        Then all that say so are rolled back, the last one first.
        """
        runs = [self._begun(change) for change in changes]
        for stage in range(_STAGES):
            failed = next((run.error for run in runs if self._go_on(run, stage)), None)
            if failed is not None:
                for run in runs:
                    run.error = run.error or _error_of_other(run, failed)
                break
        ended = [self._end(run) for run in reversed(runs)]
        return ended[::-1]

    def _begun(self, change: Change) -> _Run:
        try:
            return _Run(change, self._adapters.journal.begin_change(change, self._requester))
        except CedeError as unwritten:
            return _Run(change, None, error=unwritten)

    def _go_on(self, run: _Run, stage: int) -> bool:
        """Run the actions of one stage; return whether the change has failed."""
        if run.change_id is None:
            return True
        for action in _of_stage(run.change.actions, stage):
            if self._stop.is_set():
                run.error = StopRequestedError(
                    f"interrupted before: {action}",
                    remedy="apply again to go on, or `cede release` the device",
                )
                return True
            run.tried.append(self._run_action(run.change_id, run.change, action))
            run.error = run.tried[-1].error
            if run.error is not None:
                return True
        return False

    def _end(self, run: _Run) -> Outcome:
        if run.change_id is None:
            return Outcome(change=run.change, error=run.error)
        outcome = self._ended(run.change_id, run.change, tuple(run.tried), run.error)
        return self._journaled(run.change_id, outcome)

    def _ended(
        self,
        change_id: int,
        change: Change,
        tried: tuple[ActionOutcome, ...],
        error: CedeError | None,
    ) -> Outcome:
        halfway = error is None or isinstance(error, HungError | StopRequestedError)
        if halfway or not change.rollback_on_failure:
            return Outcome(change=change, tried=tried, error=error)
        rolled_back: list[ActionOutcome] = []
        rollback_failed: CedeError | None = None
        try:
            rollback = rollback_actions(
                outcome.action
                for outcome in tried
                if (outcome.error is None and not outcome.no_change)
                or (outcome.begun and self._touched(outcome.action))
            )
        except CedeError as blind:
            return Outcome(change=change, tried=tried, error=error, rollback_failed=blind)
        except Exception as fault:  # noqa: BLE001 - as in an action
            failed = unexpected(fault, f"rolling {change.subject} back")
            return Outcome(change=change, tried=tried, error=error, rollback_failed=failed)
        for action in rollback:
            rolled_back.append(self._run_action(change_id, change, action, is_rollback=True))
            if rolled_back[-1].error is not None:
                rollback_failed = rolled_back[-1].error
                break
        return Outcome(
            change=change,
            tried=tried,
            rolled_back=tuple(rolled_back),
            error=error,
            rollback_failed=rollback_failed,
        )

    def _journaled(self, change_id: int, outcome: Outcome) -> Outcome:
        """Write the outcome to the journal, and return it."""
        error, hung = outcome.rollback_failed or outcome.error, None
        for one in (outcome.error, outcome.rollback_failed):
            hung = one if isinstance(one, HungError) else hung
        try:
            if hung is not None and outcome.change.address is not None:
                self._adapters.journal.hold(outcome.change.address, hung.message)
            self._adapters.journal.end_change(
                change_id,
                _outcome_word(outcome),
                error,
                complete=self._is_complete(change_id, outcome),
                instance=outcome.change.instance,
            )
        except CedeError as unwritten:
            return Outcome(
                change=outcome.change, tried=outcome.tried, rolled_back=outcome.rolled_back,
                error=outcome.error or unwritten, rollback_failed=outcome.rollback_failed,
            )  # fmt: skip
        return outcome

    def _is_complete(self, change_id: int, outcome: Outcome) -> bool:
        """Whether nothing of the change is left to finish or to undo."""
        change, error = outcome.change, outcome.error
        if error is None:
            return not change.needs_follow_up
        if not change.rollback_on_failure or isinstance(error, HungError | StopRequestedError):
            return change_id not in self._started
        return outcome.rollback_failed is None

    def _run_action(
        self, change_id: int, change: Change, action: Action, *, is_rollback: bool = False
    ) -> ActionOutcome:
        self._progress(change, action)
        clock = self._adapters.clock
        started = clock.monotonic()
        error: CedeError | None = None
        action_id: int | None = None
        no_change = False
        try:
            self._same_device(change)
            prestate = retry_transient(
                lambda: self._read_prestate(change, action, is_rollback=is_rollback), clock
            )
            no_change = changes_nothing(action, prestate)
            action_id = self._adapters.journal.begin_action(
                change_id,
                action,
                prestate,
                is_rollback=is_rollback,
                original_state=original_state(self._adapters, action.address)
                if isinstance(action, BindToPciback)
                else None,
            )
            self._started.add(change_id)
            tries = count()
            retry_transient(
                lambda: self._do(change, action, next(tries), is_rollback=is_rollback), clock
            )
        except CedeError as failed:
            error = failed
        except Exception as fault:  # noqa: BLE001 - the other changes are executed all the same
            error = unexpected(fault, str(action))
        seconds = clock.monotonic() - started
        if action_id is not None:
            try:
                self._adapters.journal.end_action(action_id, seconds, error)
            except CedeError as unwritten:
                error = error or unwritten
        outcome = ActionOutcome(
            action=action,
            seconds=seconds,
            error=error,
            is_rollback=is_rollback,
            no_change=no_change,
            begun=action_id is not None,
        )
        self._progress(change, outcome)
        return outcome

    def _read_prestate(
        self, change: Change, action: Action, *, is_rollback: bool
    ) -> dict[str, object]:
        """Return the state before the action. Raises WorldMovedError if the action no longer fits the host."""
        try:
            prestate = read_prestate(self._adapters, action)
        except PermanentError:  # of what can't be read, what the plan rests on can't be told
            self._recheck(change, action, tried=False, is_rollback=is_rollback)
            raise
        self._recheck(change, action, tried=False, is_rollback=is_rollback)
        return prestate

    def _touched(self, action: Action) -> bool:
        return retry_transient(lambda: self._runner.touched(action), self._adapters.clock)

    def _do(self, change: Change, action: Action, tries: int, *, is_rollback: bool) -> None:
        """Try once; retries may be a minute apart, so everything is checked each time."""
        self._same_device(change)
        if tries:
            self._recheck(change, action, tried=True, is_rollback=is_rollback)
        self._runner.do(action)

    def _recheck(self, change: Change, action: Action, *, tried: bool, is_rollback: bool) -> None:
        """Raise WorldMovedError if the action is not to be done any more on the host as it is now."""
        if not isinstance(action, RECHECKED):
            return
        refused = recheck(change, action, self._look(action), tried=tried, is_rollback=is_rollback)
        if refused is not None:
            raise WorldMovedError(refused.reason, name=refused.rule, remedy=refused.remedy)

    def _same_device(self, change: Change) -> None:
        """Raise WorldMovedError unless the device at the address is still the one that the plan was made for."""
        if change.address is None or change.identity is None:
            return  # no device, or one that had vanished when the plan was made: only its XML is removed
        identity = self._adapters.sysfs.identity(change.address)
        if identity != change.identity:
            raise WorldMovedError(
                f"{change.address} was {change.identity} when the plan was made and is {identity or 'gone'} now",
                name="other-device",
                remedy="plan again",
            )
        if change.instance not in {None, self._adapters.sysfs.instance(change.address)}:
            raise WorldMovedError(
                f"{change.address} was taken out and put in again since the plan was made: it may be another card",
                name="other-device",
                remedy="plan again",
            )


_STAGES = 3


def _of_stage(actions: Sequence[Action], stage: int) -> Sequence[Action]:
    """Return the actions of one stage: up to the binding to pciback, up to a return to dom0, and the rest."""
    ends = (n for n, action in enumerate(actions, 1) if isinstance(action, BindToPciback))
    begins = (n for n, action in enumerate(actions) if isinstance(action, ReturnToDom0))
    bound, back = max(ends, default=0), next(begins, len(actions))
    return (actions[:bound], actions[bound:back], actions[back:])[stage]


def _error_of_other(run: _Run, error: CedeError) -> CedeError | None:
    """Return what the error of another change makes of one that is done together with it; None if it is done.

    Where devices go in, all go or none; what is complete on a way out, or when a stop is requested, stays.
    """
    complete = len(run.tried) == len(run.change.actions)
    stopped = isinstance(error, StopRequestedError)
    if complete and (stopped or not run.change.rollback_on_failure):
        return None
    if isinstance(error, HungError):  # on another device: this one is not left alone for it
        return PermanentError(error.message, name=error.name, remedy=error.remedy)
    return error


def _done_together(group: Sequence[int], changes: Sequence[Change]) -> Iterator[list[int]]:
    """Yield the numbers of the group in order, those of changes that are done together with the first of them."""
    together: dict[str, list[int]] = {}
    for number in group:
        together.setdefault(changes[number].group or f"{number}", []).append(number)
    yield from together.values()


def _outcome_word(outcome: Outcome) -> str:
    if outcome.error is None:
        return "done"
    if outcome.rollback_failed is not None:
        return "rollback failed"
    if isinstance(outcome.error, StopRequestedError):
        return "interrupted"
    if isinstance(outcome.error, HungError):
        return "hung"
    return "rolled back" if outcome.rolled_back else "failed"


def conflict_groups(changes: Sequence[Change]) -> tuple[tuple[int, ...], ...]:
    """Group the numbers of the changes: those that share a domain, a device or its bus are in one group, in order.

    Changes of the host itself are one group. A reset of one function can reset its whole bus, but functions on the root
    bus are reset one by one.
    """
    group_of: dict[str, int] = {}
    grouped: dict[int, tuple[list[int], set[str]]] = {}
    for number, change in enumerate(changes):
        keys = set(_shares(change))
        group, *joined = sorted({group_of[key] for key in keys if key in group_of}) or [number]
        members, shared = grouped.setdefault(group, ([], set()))
        for other in joined:
            its_members, its_keys = grouped.pop(other)
            members += its_members
            keys |= its_keys
        members.append(number)
        shared |= keys
        group_of |= dict.fromkeys(keys, group)
    return tuple(tuple(sorted(members)) for _, (members, _) in sorted(grouped.items()))


def _shares(change: Change) -> Iterator[str]:
    if change.address is None:
        if not change.domains:
            yield "the host"
    else:
        yield str(change.address)
    if change.group:
        yield f"group {change.group}"
    if change.address is not None and change.address.bus:
        yield f"bus {change.address.segment:04x}:{change.address.bus:02x}"
    for domain in change.domains:
        yield f"domain {domain}"
