"""A command that may change the host: one at a time, with its adapters, its progress, and what stops it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.adapters.linux.writer_lock import one_writer
from cede.adapters.runtime import LibvirtAccess
from cede.commands.output import Progress
from cede.commands.screen import echo
from cede.errors import StopRequestedError, UsageError
from cede.services.reconcile import RequestContext
from cede.state.journal import Requester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Adapters
    from cede.commands.session import Session
    from cede.model.actions import Action
    from cede.model.plan import ActionOutcome, Change
    from cede.util.clock import Clock


@contextmanager
def writing(
    session: Session,
    command: str,
    seconds: float,
    *,
    libvirt: LibvirtAccess = LibvirtAccess.REQUIRED,
) -> Iterator[tuple[Adapters, RequestContext]]:
    """Open the adapters for the one cede at a time that may change the host, and name who requested it.

    `libvirt` tells whether libvirt has to answer. Raises TransientError if another cede runs for longer than `seconds`,
    StopRequestedError if the session is stopped meanwhile.
    """
    runtime = session.runtime
    if runtime.recorded:
        raise UsageError(
            f"`{command}` changes the host, and that in a folder can only be read",
            name="recorded-host",
            remedy="leave --root out on the host itself; `cede doctor` and `cede boot --print` change nothing",
        )
    asked = Requester(command=command, user=session.requester())
    progress = _progress(session)
    with (
        one_writer(
            f"`{command}` (pid {os.getpid()}, by {asked.user})",
            path=runtime.paths.lock,
            clock=_stoppable(session),
            seconds=seconds,
            waiting=lambda holder: echo(f"cede: waiting: {holder}", err=True),
        ),
        runtime.adapters(libvirt) as adapters,
    ):
        try:
            with session.acting():
                yield (
                    adapters,
                    RequestContext(requester=asked, progress=progress, stop=session.stop),
                )
        finally:
            for warning in adapters.journal.warnings:
                echo(f"cede: {warning}", err=True)


def _progress(session: Session) -> Callable[[Change, Action | ActionOutcome], None]:
    printed = None if session.as_json else Progress()

    def progress(change: Change, event: Action | ActionOutcome) -> None:
        session.screen.progress(change, event)
        if printed is not None:
            printed(change, event)

    return progress


def _stoppable(session: Session) -> Clock:
    """Return the clock by which a wait ends when the session is stopped."""
    clock = session.runtime.clock

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if session.stop.is_set():
            raise StopRequestedError("stopped before the first action, so nothing was changed")

    return replace(clock, sleep=sleep)
