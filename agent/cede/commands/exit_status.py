"""Exit status: the one place where what came of a command becomes a number that scripts rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from cede.errors import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cede.model.plan import Plan
    from cede.services.pass_report import Report


class Exit(IntEnum):
    """Exit status: 0 done or in sync, 1 failed, 2 command line or file wrong, 3 unsafe, 4 out of sync, 75 try later.

    Scripts rely on these.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    UNSAFE = 3
    OUT_OF_SYNC = 4
    TRY_LATER = 75


EXIT_OF = {
    FailureKind.FAILED: Exit.FAILED,
    FailureKind.USAGE: Exit.USAGE,
    FailureKind.UNSAFE: Exit.UNSAFE,
    FailureKind.OUT_OF_SYNC: Exit.OUT_OF_SYNC,
    FailureKind.TRY_LATER: Exit.TRY_LATER,
}
_WORST_FIRST = (Exit.UNSAFE, Exit.USAGE, Exit.FAILED, Exit.TRY_LATER, Exit.OUT_OF_SYNC)


def of_kinds(kinds: Iterable[FailureKind | None]) -> Exit:
    """Return the exit status that speaks for all: what needs the administrator most comes first; 0 if nothing does."""
    every = {EXIT_OF[kind] for kind in kinds if kind is not None}
    return next((candidate for candidate in _WORST_FIRST if candidate in every), Exit.OK)


def of_report(done: Report) -> Exit:
    """Return 0 only if nothing was refused, failed or is left to the administrator, and all checks verify."""
    return of_kinds(status.kind for status in done.statuses)


def of_plan(planned: Plan) -> Exit:
    """Return 0 only if there is nothing to do: for cede, or else for the administrator."""
    from cede.model.plan import Deferred
    from cede.services.assess import assess

    left = [d for d in planned.decisions if not (planned.changes and isinstance(d, Deferred))]
    return of_kinds(assess(None, decision).kind for decision in left)


def of_status(found: Report) -> Exit:
    """Return 0 if each assignment is as it should be and its guest has proved it where it is to, or is paused."""
    in_sync = all(
        status.kind is None and (status.paused or not status.unproved) for status in found.statuses
    )
    return Exit.OK if in_sync else Exit.OUT_OF_SYNC
