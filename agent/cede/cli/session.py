"""A command's session: the writer lock, the adapters, signals, and who requested what."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import click

from cede.adapters.linux.writer_lock import one_writer
from cede.adapters.runtime import LibvirtAccess
from cede.cli import output
from cede.cli.screen import echo, echo_lines
from cede.errors import UsageError, WorldMovedError
from cede.executor.executor import silence
from cede.services.reconcile import RequestContext
from cede.state.journal import Requester

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cede.adapters.ports import Adapters
    from cede.adapters.runtime import Runtime

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handling(handlers: Mapping[signal.Signals, Callable[[int, object], None]]) -> Iterator[None]:
    """Install a handler for each signal; restore the previous ones afterwards."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def writing(
    runtime: Runtime,
    command: str,
    seconds: float,
    *,
    as_json: bool,
    libvirt: LibvirtAccess = LibvirtAccess.REQUIRED,
) -> Iterator[tuple[Adapters, RequestContext]]:
    """Open the adapters for the one cede at a time that may change the host, and name who requested it.

    `libvirt` tells whether libvirt has to answer. The first interrupt or termination ends the session after the present
    actions, the second at once. Raises TransientError if another cede runs for longer than `seconds`.
    """
    if runtime.recorded:
        raise UsageError(
            f"`{command}` changes the host, and that in a folder can only be read",
            name="recorded-host",
            remedy="leave --root out on the host itself; `cede doctor` and `cede boot --print` change nothing",
        )
    stop = Event()

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        said = "cede: stopping after this action; interrupt again to stop at once"
        echo_lines(("", said), err=True)

    asked = Requester(command=command, user=runtime.user())
    progress = silence if as_json else output.Progress()
    with (
        one_writer(
            f"`{command}` (pid {os.getpid()}, by {asked.user})",
            path=runtime.paths.lock,
            clock=runtime.clock,
            seconds=seconds,
            waiting=lambda holder: echo(f"cede: waiting: {holder}", err=True),
        ),
        runtime.adapters(libvirt) as adapters,
    ):
        try:
            with handling(dict.fromkeys(STOPPING, stopped)):
                yield adapters, RequestContext(requester=asked, progress=progress, stop=stop)
        finally:
            for warning in adapters.journal.warnings:
                echo(f"cede: {warning}", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What a person was shown and said to it; `shown` is None if nobody was asked."""

    declined: bool = False
    shown: tuple[object, ...] | None = None

    def refuse_other(self, planned: Sequence[object]) -> None:
        """Raise WorldMovedError unless what is `planned` now is what was shown."""
        if self.shown is not None and self.shown != tuple(planned):
            raise WorldMovedError(
                "the host has changed since the plan was shown, so cede did nothing",
                name="plan-changed",
                remedy="the same command shows the plan as it is now",
            )


def confirm(
    runtime: Runtime,
    show: Callable[[Adapters], Sequence[object]],
    *,
    yes: bool,
    libvirt: LibvirtAccess = LibvirtAccess.REQUIRED,
) -> Confirmed:
    """Have `show` print what would be done and return it; ask on a terminal, since a script can't answer.

    No lock is held while a person thinks, so the host may have changed by the answer.
    """
    if yes or not sys.stdin.isatty():
        return Confirmed()
    with runtime.adapters(libvirt) as adapters:
        shown = tuple(show(adapters))
    return Confirmed(declined=bool(shown) and not click.confirm("Do this?"), shown=shown)
