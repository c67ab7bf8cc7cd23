"""How the command line ends in an error: what it says, and its exit status."""

from __future__ import annotations

from dataclasses import replace

import click

from cede.commands.exit_status import EXIT_OF, Exit
from cede.commands.failure import show_as_json, show_failure
from cede.commands.screen import echo_lines, named
from cede.errors import CedeError, UsageError, unexpected

_INTERRUPTED = 130


def as_error(fault: Exception, what: str) -> CedeError:
    """Return the error as `show_as` names its files; UnexpectedError for one that nobody expected of `what`."""
    if not isinstance(fault, CedeError):
        return unexpected(fault, what)
    # told when the command has ended, and with it what is shown instead of a copy's path
    fault.message, fault.remedy = named(fault.message), named(fault.remedy)
    fault.diagnostics = tuple(
        replace(one, place=named(one.place), text=named(one.text)) for one in fault.diagnostics
    )
    return fault


def ended_in(error: Exception, *, as_json: bool) -> int:
    """Tell the error, with `as_json` as JSON too, and return the exit status; raises any that no command ends in."""
    match error:
        case click.Abort():
            echo_lines(("", "cede: interrupted; `cede plan` shows what is left to do"), err=True)
            return _INTERRUPTED
        case click.ClickException():
            error.show()
            if as_json:
                show_as_json(
                    UsageError(
                        error.format_message(),
                        name="wrong-command-line",
                        remedy="`cede COMMAND --help` shows its arguments and options",
                    )
                )
            return Exit.USAGE
        case CedeError():
            show_failure(error, as_json=as_json)
            return EXIT_OF[error.kind]
        case _:
            raise error
