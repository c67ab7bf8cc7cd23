"""Performs a request: the one way into the commands, for the command line in its own process and for the agent."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cede.commands.answer import Answer
from cede.commands.catalog import command_of
from cede.commands.exit_status import EXIT_OF
from cede.commands.failure import show_failure
from cede.commands.screen import shown_on
from cede.errors import CedeError

if TYPE_CHECKING:
    from cede.commands.requests import Request
    from cede.commands.session import Session


def run(request: Request, session: Session) -> Answer:
    """Do what is requested and print it on the session's screen; an error of cede's is printed and answered.

    Raises nothing but BrokenPipeError, if nobody reads the screen any more.
    """
    command = command_of(request)
    with shown_on(session.screen):
        try:
            answer: Answer = import_module(command.module).perform(request, session)
        except CedeError as error:
            failed = error
        except BrokenPipeError:
            raise
        except Exception as fault:  # noqa: BLE001 - lest a traceback shows a guest's words
            from cede.errors import unexpected

            failed = unexpected(fault, f"`cede {command.name.partition('/')[0]}`")
        else:
            return answer
        show_failure(failed, as_json=session.as_json)
        return Answer(exit=EXIT_OF[failed.kind], error=failed)
