"""What the command line says of the host, and the session of a command that this process performs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cede.util.well_known import AGENT_SOCKET, DEFAULT_URI

if TYPE_CHECKING:
    from cede.adapters.runtime import Runtime
    from cede.commands.session import Session
    from cede.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the command line says of the host: `uri` is where libvirt is, `host` the runtime, None for this host's.

    `agent` tells whether the agent is to be asked, None if it is asked where it answers. `only_here` is the option, if
    any, for which this process does the work itself.
    """

    uri: str
    host: Runtime | None = None
    agent: bool | None = None
    only_here: str = ""

    @property
    def here(self) -> str:
        """Why the agent is not asked, as the option that says it; empty if it can be."""
        return self.only_here or ("" if self.uri == DEFAULT_URI else "--connect")

    @property
    def agent_socket(self) -> str:
        """Where the agent is asked."""
        return f"/{AGENT_SOCKET}" if self.host is None else str(self.host.paths.agent_socket)

    def user(self) -> str:
        """Return on whose behalf the command is given."""
        if self.host is not None:
            return self.host.user()
        from cede.util.account import user

        return user()

    def runtime(self) -> Runtime:
        """Return the runtime; the adapters of this host are imported only here.

        Raises UsageError if the agent alone is to be asked.
        """
        if self.agent:
            raise not_by_the_agent(self.here or "this command")
        if self.host is not None:
            return replace(self.host, uri=self.uri)
        from cede.adapters.composition import host_runtime

        return replace(host_runtime(), uri=self.uri)


def not_by_the_agent(what: str) -> UsageError:
    """Return the error of who asks the agent for `what` it never does."""
    from cede.errors import UsageError

    return UsageError(
        f"the agent does not serve {what}",
        name="conflicting-options",
        remedy="leave out --agent: cede then does the work in its own process",
    )


def session_here(caller: Caller, *, as_json: bool) -> Session:
    """Return the session of a command that this process performs.

    While it changes the host, the first interrupt or termination ends it after the present actions, the second at once.
    """
    from threading import Event

    from cede.cli.signals import stopping
    from cede.commands.session import Session

    runtime, stop = caller.runtime(), Event()
    return Session(
        runtime=runtime,
        requester=runtime.user,
        stop=stop,
        as_json=as_json,
        acting=lambda: stopping(stop.set),
    )
