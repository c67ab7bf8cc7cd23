"""What every command prints goes through here, cleaned, to the screen of the present request.

`Terminal` is the only place that writes to standard output or error; the agent has screens of its own.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import click

from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cede.commands.session import Screen
    from cede.model.actions import Action
    from cede.model.plan import ActionOutcome, Change

_WIDEST = 10_000  # of a line; an XML's or a plan's are far below
_CLEAR = "\033[2J\033[1;1H"  # ECMA-48: erase the screen, cursor home


class Terminal:
    """This process' standard output and error."""

    @property
    def terminal(self) -> bool:
        """See `cede.commands.session.Screen`."""
        return sys.stdout.isatty()

    def write(self, text: str, *, err: bool) -> None:
        """See `Screen`."""
        click.echo(text, err=err, nl=False, color=True)

    def progress(self, change: Change, event: Action | ActionOutcome) -> None:
        """See `Screen`; the text says it."""


_SCREEN: ContextVar[Screen] = ContextVar("screen", default=Terminal())  # noqa: B039 - it has no state
_SHOWN_AS = ContextVar("shown_as", default=("", ""))


def current() -> Screen:
    """Return the screen of the present request; another thread than the request's has to be given it."""
    return _SCREEN.get()


@contextmanager
def shown_on(screen: Screen) -> Iterator[None]:
    """Have what is printed in this thread go to `screen`."""
    before = _SCREEN.set(screen)
    try:
        yield
    finally:
        _SCREEN.reset(before)


@contextmanager
def show_as(path: str, shown: str) -> Iterator[None]:
    """Have all that is printed call `path`, where a copy is, by the name of what was copied."""
    before = _SHOWN_AS.set((path, shown))
    try:
        yield
    finally:
        _SHOWN_AS.reset(before)


def named(text: str, *, as_json: bool = False) -> str:
    """Return the text, or JSON, with the name that `show_as` has set."""
    path, shown = _SHOWN_AS.get()
    if not path:
        return text
    if as_json:
        import json

        shown = json.dumps(shown)[1:-1]
    return text.replace(path, shown)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text` as one line, whatever is in it; a line break in a foreign name begins no line of its own."""
    current().write(one_line(named(text), _WIDEST) + ("\n" if nl else ""), err=err)


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print each of the lines."""
    for line in lines:
        echo(line, err=err)


def echo_again(text: str, *, err: bool) -> None:
    """Print what another cede has printed, line breaks and all: text that it has cleaned stays as it is."""
    lines = (one_line(line, max(len(line), 1)) for line in text.split("\n"))
    current().write("\n".join(lines), err=err)


def echo_json(text: str) -> None:
    """Print JSON of `serialization.dumps`, which escapes all but ASCII's printable characters itself."""
    current().write(named(text, as_json=True) + "\n", err=False)


def clear() -> None:
    """Clear the terminal."""
    current().write(_CLEAR, err=False)
