"""Signals that end a command after its present action."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cede.commands.screen import echo_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """Have the first interrupt or termination call `stop`, and say so; the second ends the command at once."""
    stopped = False

    def first(_number: int, _frame: object) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True
        said = "cede: stopping after this action; interrupt again to stop at once"
        echo_lines(("", said), err=True)
        stop()

    with handling(dict.fromkeys(STOPPING, first)):
        yield
