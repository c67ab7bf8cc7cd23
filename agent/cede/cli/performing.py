"""How a command is performed, by the agent where it answers, else in this process; and how its plan is confirmed."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING

import click

from cede.cli.session import Caller, not_by_the_agent, session_here
from cede.commands.answer import NOTHING
from cede.commands.screen import echo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from cede.api.client import AgentClient, Text
    from cede.commands.answer import Answer
    from cede.commands.catalog import Command


# refusals of a request that the agent has not begun: of another version, or beyond the bounds of its interface
_NOT_TAKEN = frozenset({"other-version", "body-too-large", "wrong-field"})


def perform(caller: Caller, name: str, fields: Mapping[str, object], *, as_json: bool) -> Answer:
    """Have the command `name` performed with these fields of its request; it prints what came of it.

    Raises UsageError if only the agent is to be asked, and doesn't do that.
    """
    from cede.commands.catalog import COMMANDS

    command = COMMANDS[name]
    here = caller.here or command.only_here(fields)
    if here and caller.agent:
        raise not_by_the_agent(here)
    if not here and caller.agent is not False:
        answer = _ask_agent(caller, command, fields, as_json=as_json)
        if answer is not None:
            return answer
    from cede.commands.perform import run

    return run(command.request_of(fields), session_here(caller, as_json=as_json))


def _ask_agent(
    caller: Caller, command: Command, fields: Mapping[str, object], *, as_json: bool
) -> Answer | None:
    """Have the agent perform the command, and print what it prints; None if there is none that takes the request.

    One that is to be asked in any case may have another version, and its refusal is an error. What may change something
    is stopped as it is in this process. Raises UnreachableError if the agent doesn't answer any more, or has to and
    doesn't; but a question that it has answered nothing of is asked again here.
    """
    if not (caller.agent or os.path.exists(caller.agent_socket)):  # noqa: PTH110 - pathlib is slow to import
        return None
    from cede import __version__
    from cede.api.client import AgentClient, AgentError
    from cede.commands.catalog import Kind
    from cede.errors import UnreachableError

    acts = command.kind is Kind.ACT and not fields.get("preview")
    with AgentClient(caller.agent_socket) as client:
        if not (client.connect() or caller.agent):
            return None
        try:
            with _stopping(client) if acts else nullcontext():
                events = client.ask(
                    command.name,
                    fields,
                    as_json=as_json,
                    version="" if caller.agent else __version__,
                    requester=caller.user(),
                )
                try:
                    first = next(events)
                except UnreachableError:
                    if caller.agent or acts:
                        raise
                    return None
                return _printed(first, events)
        except AgentError as error:
            if caller.agent or error.name not in _NOT_TAKEN:
                raise
            return None


def _stopping(client: AgentClient) -> AbstractContextManager[None]:
    from cede.cli.signals import stopping

    return stopping(client.cancel)


def _printed(first: Text | Answer, events: Iterable[Text | Answer]) -> Answer:
    """Print each text and return the answer, which comes last; raises ValueError if none comes."""
    from cede.commands.answer import Answer
    from cede.commands.screen import echo_again

    for event in chain((first,), events):
        if isinstance(event, Answer):
            return event
        echo_again(event.text, err=event.err)
    raise ValueError("the agent's events have no end")


def confirmed(
    caller: Caller,
    name: str,
    fields: Mapping[str, object],
    *,
    as_json: bool,
    yes: bool,
    declined: str = "Nothing was changed.",
) -> int:
    """Have the command performed after the administrator has agreed to its plan; return the exit status.

    Asks on a terminal alone, since a script can't answer, and again if the plan is another one by then. No lock is held
    while a person thinks.
    """
    if yes or as_json or not sys.stdin.isatty():
        return perform(caller, name, fields, as_json=as_json).exit
    while True:
        shown = perform(caller, name, {**fields, "preview": True}, as_json=False)
        if shown.error is not None:
            return shown.exit
        if shown.digest != NOTHING and not click.confirm("Do this?"):
            echo(declined)
            return shown.exit
        done = perform(caller, name, {**fields, "plan": shown.digest}, as_json=False)
        if done.error is None or done.error.name != "plan-changed":
            return done.exit
