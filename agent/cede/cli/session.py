"""A command's session: the writer lock, the adapters, signals, and who asks for what."""

from __future__ import annotations

import getpass
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import TYPE_CHECKING

import click

from cede.adapters.composition import Doors, open_doors, open_doors_before_libvirt
from cede.adapters.linux.writer_lock import one_writer
from cede.cli import output
from cede.executor.executor import silence
from cede.services.reconcile import Behalf
from cede.state.journal import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handling(handlers: Mapping[signal.Signals, Callable[[int, object], None]]) -> Iterator[None]:
    """Have each signal call its handler; afterwards those that were there before."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def writing(
    uri: str | None, command: str, seconds: float, *, as_text: bool, all_needed: bool = True
) -> Iterator[tuple[Doors, Behalf]]:
    """The doors, for the one cede at a time that may change something, and on whose behalf it does.

    With no `uri` they are those of a host before its libvirt; unless `all_needed`, libvirt may be silent. The first
    interrupt or termination ends it after the steps that are being taken, the second at once. Raises TransientError if
    another cede is at work for longer than `seconds`.
    """
    stop = Event()

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        click.echo("\ncede: stopping after this step; once more to stop at once", err=True)

    asked = Asked(command=command, who=_who())
    progress = silence if as_text else output.Progress()
    with (
        one_writer(
            f"`{command}` (pid {os.getpid()}, by {asked.who})",
            seconds=seconds,
            waiting=lambda holder: click.echo(f"cede: waiting: {holder}", err=True),
        ),
        (
            open_doors_before_libvirt() if uri is None else open_doors(uri, all_needed=all_needed)
        ) as doors,
    ):
        try:
            with handling(dict.fromkeys(STOPPING, stopped)):
                yield doors, Behalf(asked=asked, progress=progress, stop=stop)
        finally:
            for warning in doors.journal.warnings:
                click.echo(f"cede: {warning}", err=True)


def _who() -> str:
    """The person behind sudo, pkexec or a login, else the account."""
    name = os.environ.get("SUDO_USER") or os.environ.get("PKEXEC_UID")
    account = getpass.getuser()
    return f"{name} as {account}" if name and name != account else account


def agreed(*, yes: bool) -> bool:
    """Whether a person who can be asked agrees; scripts have agreed by being scripts."""
    return yes or not sys.stdin.isatty() or click.confirm("Do this?")


def doors_as_they_are(uri: str) -> AbstractContextManager[Doors]:
    """The doors, whether libvirt answers or not."""
    return open_doors(uri, all_needed=False)
