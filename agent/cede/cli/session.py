"""How a command of this process gets its host, has its request performed, and asks the administrator first."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from cede.commands.answer import NOTHING
from cede.commands.screen import echo, echo_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cede.adapters.runtime import Runtime
    from cede.commands.answer import Answer
    from cede.commands.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the command line says of the host: `uri` is where libvirt is, `host` the runtime, None for this host's."""

    uri: str
    host: Runtime | None = None

    def runtime(self) -> Runtime:
        """Return the runtime; the adapters of this host are imported only here."""
        if self.host is not None:
            return replace(self.host, uri=self.uri)
        from cede.adapters.composition import host_runtime

        return replace(host_runtime(), uri=self.uri)


def session_here(caller: Caller, *, as_json: bool) -> Session:
    """Return the session of a command that this process performs.

    While it changes the host, the first interrupt or termination ends it after the present actions, the second at once.
    """
    from threading import Event

    from cede.cli.signals import STOPPING, handling
    from cede.commands.session import Session

    runtime, stop = caller.runtime(), Event()

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        said = "cede: stopping after this action; interrupt again to stop at once"
        echo_lines(("", said), err=True)

    return Session(
        runtime=runtime,
        requester=runtime.user,
        stop=stop,
        as_json=as_json,
        acting=lambda: handling(dict.fromkeys(STOPPING, stopped)),
    )


def perform(caller: Caller, name: str, fields: Mapping[str, object], *, as_json: bool) -> Answer:
    """Have the command `name` performed with these fields of its request; it prints what came of it."""
    from cede.commands.catalog import COMMANDS
    from cede.commands.perform import run

    return run(COMMANDS[name].request_of(fields), session_here(caller, as_json=as_json))


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
