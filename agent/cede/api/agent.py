"""The agent: what answers each request, put together of questions, operations and the watch."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from cede import __version__
from cede.api.command_resources import CommandResources
from cede.api.http_server import HttpServer, ListeningSocket
from cede.api.kept_adapters import KeptAdapters
from cede.api.names import Names
from cede.api.operation_resources import OperationResources
from cede.api.operations import Operations
from cede.api.outputs import HostOutput
from cede.api.peer import peer_of
from cede.api.problems import RequestError
from cede.api.public_resources import PublicResources
from cede.api.questions import Questions
from cede.api.routes import Router, no_such_path, not_public
from cede.api.watch import Watch
from cede.errors import unexpected

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from cede.adapters.runtime import Runtime
    from cede.api.messages import Peer, Request, Response
    from cede.api.outputs import OperationOutput
    from cede.model.conditions import Condition
    from cede.planner.resolve import Targets

CLOSING_SECONDS = 150.0  # within TimeoutStopSec= of cede.service


READ_ONLY = {
    "cede.socket": False,
    "cede-ro.socket": True,
}  # by the unit's name, and so the socket's


@contextmanager
def serving(
    agent: Agent,
    sockets: Sequence[tuple[str, socket.socket]],
    *,
    peer_of: Callable[[socket.socket], Peer] = peer_of,
) -> Iterator[None]:
    """Serve the agent at sockets that have the names of their units; one of another name is left alone."""
    listening = [
        ListeningSocket(socket=opened, read_only=READ_ONLY[name])
        for name, opened in sockets
        if name in READ_ONLY
    ]
    server = HttpServer(agent, listening, peer_of=peer_of)
    server.start()
    try:
        yield
    finally:
        agent.close()
        server.close()


class Agent:
    """`policy` is the source of the policy that the daemon follows, as the journal knows it."""

    def __init__(self, runtime: Runtime, policy: str) -> None:
        self._kept = KeptAdapters(runtime.open_adapters)
        self._runtime = replace(runtime, open_adapters=self._kept.open)
        self._policy = policy
        self._started = runtime.clock.now().isoformat(timespec="milliseconds")
        self.watch = Watch()
        self.operations = Operations(self._runtime, self._operated)
        commands = CommandResources(self._runtime, Questions(self._runtime), self.operations)
        others = OperationResources(self.operations, self.watch, self._host)
        self._names = Names()
        self.router = Router(
            (*commands.routes(), *others.routes(), *self._names.routes()), no_such_path
        )
        public = PublicResources(self._runtime)
        self.public_router = Router((*public.routes(), *self._names.public_routes()), not_public)

    def __call__(self, request: Request) -> Response:
        """Answer a request; raises RequestError or another CedeError for what is refused."""
        version = request.headers.get("cede-version", __version__)
        if version != __version__:
            raise RequestError(
                f"the agent has version {__version__}",
                name="other-version",
                status=HTTPStatus.PRECONDITION_FAILED,
                remedy="`systemctl restart cede` after an upgrade",
            )
        return (self.public_router if request.read_only else self.router)(request)

    def passed(self, targets: Targets, conditions: Sequence[Condition]) -> None:
        """Tell who watches what a pass of the daemon has seen, and come to; raises nothing."""
        try:
            self._names.observed(targets)
            self.watch.observed(targets.inventory)
            self.watch.assessed(conditions)
        except Exception as fault:  # noqa: BLE001 - who watches can't harm a pass
            unexpected(fault, "telling of a pass")

    def close(self) -> None:
        """End the operations after their present actions, then all streams."""
        self.operations.close(CLOSING_SECONDS)
        self.watch.close()
        self._kept.close()

    def _operated(self, operation: OperationOutput) -> None:
        self.watch.operated(operation)
        if operation.ended is not None:
            self.watch.assessed(self._conditions())

    def _conditions(self) -> tuple[Condition, ...]:
        with closing(self._runtime.journal()) as journal:
            return journal.conditions(self._policy)

    def _host(self) -> HostOutput:
        return HostOutput(
            version=__version__,
            started=self._started,
            policy=self._policy,
            conditions=self._conditions(),
            running=self.operations.running,
        )
