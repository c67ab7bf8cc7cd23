"""How an error ends a command: on standard error, and with --json as an object on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.commands.exit_status import EXIT_OF
from cede.commands.screen import echo, echo_json, echo_lines

if TYPE_CHECKING:
    from cede.errors import CedeError


def show_error(failed: CedeError) -> None:
    """Print what went wrong and the remedy, on standard error."""
    # several diagnostics are a line each, all else is one
    lines = failed.message.split("\n") if failed.diagnostics else [failed.message]
    echo(f"cede: {lines[0]}", err=True)
    echo_lines(lines[1:], err=True)
    if failed.remedy:
        echo(f"      remedy: {failed.remedy}", err=True)


def show_failure(failed: CedeError, *, as_json: bool) -> None:
    """Print the error that a command ended in; with `as_json` in place of the command's own output too."""
    show_error(failed)
    if as_json:
        show_as_json(failed)


def show_as_json(failed: CedeError) -> None:
    """Print the error on one line, as each object of `status --watch` is."""
    from cede.commands.outputs import ErrorOutput
    from cede.model.serialization import dumps

    shown = ErrorOutput(exit=EXIT_OF[failed.kind], error=failed, diagnostics=failed.diagnostics)
    echo_json(dumps(shown, indent=None))
