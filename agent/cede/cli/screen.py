"""What every command prints goes through here, cleaned: the only place that writes to standard output or error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDEST = 10_000  # of a line; an XML's or a plan's are far below
_CLEAR = "\033[2J\033[1;1H"  # ECMA-48: erase the screen, cursor home


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text` as one line, whatever is in it; a line break in a foreign name begins no line of its own."""
    click.echo(one_line(text, _WIDEST), err=err, nl=nl)


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print each of the lines."""
    for line in lines:
        echo(line, err=err)


def echo_json(text: str) -> None:
    """Print JSON of `serialization.dumps`, which escapes all but ASCII's printable characters itself."""
    click.echo(text)


def clear() -> None:
    """Clear the terminal."""
    click.echo(_CLEAR, nl=False, color=True)
