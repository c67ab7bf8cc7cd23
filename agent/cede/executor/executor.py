"""The executor: works through a plan and says what came of each part. It returns outcomes, it does not raise.

Each step is in the journal before it is done. An assignment that fails is taken back, step by step, to what was before;
a device on which something hangs is left alone. Independent domains are worked on side by side.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import CedeError, Exit, HungError, InterruptedByPersonError, WorldMovedError
from cede.executor.actions import Deeds
from cede.executor.conflicts import lanes
from cede.executor.prestate import is_so, look, origin
from cede.model.plan import Seize, Step, Work
from cede.planner.recovery import undo
from cede.state.journal import Asked
from cede.util.retry import persist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.adapters.composition import Doors

_SIDE_BY_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """One step that was tried: how long it took, and the error if it failed.

    `undoing` if it took another one back; `so_already` if its edit had nothing to change, so that there is nothing to
    take back.
    """

    step: Step
    seconds: float
    error: CedeError | None = None
    undoing: bool = False
    so_already: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one work: the steps tried, in order, and those that took them back again.

    `error` is why it stopped before its end, or None; `stranded` why it couldn't be taken back either.
    """

    work: Work
    tried: tuple[StepOutcome, ...] = ()
    undone: tuple[StepOutcome, ...] = ()
    error: CedeError | None = None
    stranded: CedeError | None = None

    @property
    def exit(self) -> Exit:
        """The exit status that this outcome asks for."""
        if self.stranded is not None:
            return Exit.FAILED
        return self.error.exit if self.error else Exit.OK


Progress = Callable[[Work, Step | StepOutcome], None]


def silence(_work: Work, _event: Step | StepOutcome) -> None:
    """Progress that nobody is told of."""


class Executor:
    """Executes on behalf of `asked`; set `stop` to have it end after the steps that are being taken."""

    def __init__(
        self,
        doors: Doors,
        asked: Asked | None = None,
        progress: Progress = silence,
        stop: threading.Event | None = None,
    ) -> None:
        self._doors = doors
        self._deeds = Deeds(doors)
        self._asked = asked or Asked()
        self._progress = progress
        self._stop = stop or threading.Event()
        self._begun: set[int] = set()  # the tasks of which a deed has come to be done

    def execute(self, works: Sequence[Work]) -> tuple[Outcome, ...]:
        """Every work, one that fails not keeping the others from their turn; the outcomes in the order of works.

        Works that share a domain, a device or its bus follow one another, others run side by side.
        """
        found: dict[int, Outcome] = {}

        def take(lane: Sequence[int]) -> None:
            for number in lane:
                found[number] = self._work(works[number])

        grouped = lanes(works)
        if len(grouped) == 1:
            take(grouped[0])
        elif grouped:
            with ThreadPoolExecutor(min(len(grouped), _SIDE_BY_SIDE), "cede") as pool:
                for done in [pool.submit(take, lane) for lane in grouped]:
                    done.result()
        return tuple(found[number] for number in range(len(works)))

    def _work(self, work: Work) -> Outcome:
        """Take the steps of `work` in order, up to the first that fails; then take those back if it was an attach."""
        try:
            task = self._doors.journal.begin(work, self._asked)
        except CedeError as unwritten:
            return Outcome(work=work, error=unwritten)
        tried: list[StepOutcome] = []
        error: CedeError | None = None
        for step in work.steps:
            if self._stop.is_set():
                error = InterruptedByPersonError(
                    f"interrupted before it came to: {step}",
                    remedy="apply again to go on, or `cede release` to take it back",
                )
                break
            tried.append(self._step(task, work, step))
            error = tried[-1].error
            if error is not None:
                break
        outcome = self._ended(task, work, tuple(tried), error)
        return self._told(task, outcome)

    def _ended(
        self, task: int, work: Work, tried: tuple[StepOutcome, ...], error: CedeError | None
    ) -> Outcome:
        halfway = error is None or isinstance(error, HungError | InterruptedByPersonError)
        if halfway or not work.undone_if_failed:
            return Outcome(work=work, tried=tried, error=error)
        undone: list[StepOutcome] = []
        stranded: CedeError | None = None
        try:
            back = undo(
                one.step
                for one in tried
                if (one.error is None and not one.so_already) or self._touched(one.step)
            )
        except CedeError as blind:
            return Outcome(work=work, tried=tried, error=error, stranded=blind)
        for step in back:
            undone.append(self._step(task, work, step, undoing=True))
            if undone[-1].error is not None:
                stranded = undone[-1].error
                break
        return Outcome(work=work, tried=tried, undone=tuple(undone), error=error, stranded=stranded)

    def _told(self, task: int, outcome: Outcome) -> Outcome:
        """The outcome, once it is in the journal."""
        error, hung = outcome.stranded or outcome.error, None
        for one in (outcome.error, outcome.stranded):
            hung = one if isinstance(one, HungError) else hung
        try:
            if hung is not None and outcome.work.address is not None:
                self._doors.journal.hold(outcome.work.address, hung.message)
            self._doors.journal.end(
                task, _word(outcome), error, settled=self._settled(task, outcome)
            )
        except CedeError as unwritten:
            return Outcome(
                work=outcome.work, tried=outcome.tried, undone=outcome.undone,
                error=outcome.error or unwritten, stranded=outcome.stranded,
            )  # fmt: skip
        return outcome

    def _settled(self, task: int, outcome: Outcome) -> bool:
        """Whether nothing of it is left to finish or to undo."""
        work, error = outcome.work, outcome.error
        if error is None:
            return not work.unsettled
        if not work.undone_if_failed or isinstance(error, HungError | InterruptedByPersonError):
            return task not in self._begun
        return outcome.stranded is None

    def _step(self, task: int, work: Work, step: Step, *, undoing: bool = False) -> StepOutcome:
        self._progress(work, step)
        begun = time.monotonic()
        error: CedeError | None = None
        deed: int | None = None
        so_already = False
        try:
            self._same_device(work)
            was = persist(lambda: self._look(step, undoing=undoing))
            so_already = is_so(step, was)
            deed = self._doors.journal.before(
                task, step, was, undoing=undoing,
                origin=origin(self._doors, step.address) if isinstance(step, Seize) else None,
            )  # fmt: skip
            self._begun.add(task)
            persist(lambda: self._do(work, step))
        except CedeError as failed:
            error = failed
        seconds = time.monotonic() - begun
        if deed is not None:
            try:
                self._doors.journal.after(deed, seconds, error)
            except CedeError as unwritten:
                error = error or unwritten
        outcome = StepOutcome(
            step=step, seconds=seconds, error=error, undoing=undoing, so_already=so_already
        )
        self._progress(work, outcome)
        return outcome

    def _look(self, step: Step, *, undoing: bool) -> dict[str, object]:
        """What is so before the step, which is still the one to take."""
        if not undoing:
            self._deeds.refuse_moved(step)
        return look(self._doors, step)

    def _touched(self, step: Step) -> bool:
        return persist(lambda: self._deeds.touched(step))

    def _do(self, work: Work, step: Step) -> None:
        """One try, which may come a minute after the one before it."""
        self._same_device(work)
        self._deeds.do(step)

    def _same_device(self, work: Work) -> None:
        """The plan was made a moment ago; the device at that address must still be the one it was made for."""
        if work.address is None or work.identity is None:
            return  # about no device, or one that had vanished when the plan was made: its traces are removed
        found = self._doors.sysfs.identity(work.address)
        if found != work.identity:
            raise WorldMovedError(
                f"{work.address} was {work.identity} when the plan was made and is {found or 'gone'} now",
                remedy="plan again",
            )


def _word(outcome: Outcome) -> str:
    if outcome.error is None:
        return "done"
    if outcome.stranded is not None:
        return "stranded"
    if isinstance(outcome.error, InterruptedByPersonError):
        return "interrupted"
    if isinstance(outcome.error, HungError):
        return "hung"
    return "rolled back" if outcome.undone else "failed"
