"""What every command prints goes through here, cleaned: the only place that writes to standard output or error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDEST = 10_000  # of a line; an XML's or a plan's are far below
_SHOWN_AS = f"{__name__}.shown_as"
_CLEAR = "\033[2J\033[1;1H"  # ECMA-48: erase the screen, cursor home


def show_as(context: click.Context, path: str, shown: str) -> None:
    """Have all that the command prints call `path`, where a copy is, by the name of what was copied."""
    context.meta[_SHOWN_AS] = (path, shown)


def named(text: str, *, as_json: bool = False) -> str:
    """Return the text, or JSON, with the name that `show_as` has set."""
    context = click.get_current_context(silent=True)
    path, shown = context.meta.get(_SHOWN_AS, ("", "")) if context is not None else ("", "")
    if not path:
        return text
    return text.replace(path, json.dumps(shown)[1:-1] if as_json else shown)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text` as one line, whatever is in it; a line break in a foreign name begins no line of its own."""
    click.echo(one_line(named(text), _WIDEST), err=err, nl=nl)


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print each of the lines."""
    for line in lines:
        echo(line, err=err)


def echo_json(text: str) -> None:
    """Print JSON of `serialization.dumps`, which escapes all but ASCII's printable characters itself."""
    click.echo(named(text, as_json=True))


def clear() -> None:
    """Clear the terminal."""
    click.echo(_CLEAR, nl=False, color=True)
