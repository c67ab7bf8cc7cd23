"""The operations, the watch and the agent itself as resources."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from cede.api.messages import JSON, JSON_LINES, Response
from cede.api.negotiation import TEXT, accepted, count, only_parameters, parameter
from cede.api.outputs import HostOutput, OperationsOutput
from cede.api.routes import Route
from cede.model.serialization import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.api.messages import Request
    from cede.api.operations import Operations
    from cede.api.watch import Watch


class OperationResources:
    """`/v1/operations`, `/v1/events` and `/v1/host`."""

    def __init__(
        self, operations: Operations, watch: Watch, host: Callable[[], HostOutput]
    ) -> None:
        self._operations = operations
        self._watch = watch
        self._host = host

    def routes(self) -> Iterator[Route]:
        """Yield who answers what."""
        one = "/v1/operations/{id}"
        yield Route(method="GET", path="/v1/host", answer=self._get_host)
        yield Route(method="GET", path="/v1/operations", answer=self._list)
        yield Route(method="GET", path=one, answer=self._get)
        yield Route(method="DELETE", path=one, answer=self._cancel)
        yield Route(method="GET", path=f"{one}/events", answer=self._events)
        yield Route(method="GET", path=f"{one}/output", answer=self._output)
        yield Route(method="GET", path="/v1/events", answer=self._follow)

    def _get_host(self, request: Request, _place: str) -> Response:
        return as_json(request, self._host())

    def _list(self, request: Request, _place: str) -> Response:
        return as_json(request, OperationsOutput(operations=self._operations.newest()))

    def _get(self, request: Request, name: str) -> Response:
        return as_json(request, self._operations.get(name))

    def _cancel(self, request: Request, name: str) -> Response:
        return as_json(request, self._operations.cancel(name), HTTPStatus.ACCEPTED)

    def _output(self, request: Request, name: str) -> Response:
        only_parameters(request)
        text, is_json = self._operations.text(name)
        kind = accepted(request, JSON if is_json else TEXT)
        return Response(
            status=HTTPStatus.OK,
            content_type=kind if is_json else f"{kind}; charset=utf-8",
            body=text.encode("utf-8", "replace"),
        )

    def _events(self, request: Request, name: str) -> Response:
        only_parameters(request, "after")
        kind = accepted(request, JSON_LINES)
        stream = self._operations.events(name, count(request, "after"))
        return Response(status=HTTPStatus.OK, content_type=kind, body=stream)

    def _follow(self, request: Request, _place: str) -> Response:
        only_parameters(request, "after")
        kind = accepted(request, JSON_LINES)
        stream = self._watch.follow(parameter(request, "after"))
        return Response(status=HTTPStatus.OK, content_type=kind, body=stream)


def as_json(request: Request, value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return a value as JSON; raises RequestError if the client wants another type, or gives parameters."""
    only_parameters(request)
    return Response(
        status=status, content_type=accepted(request, JSON), body=dumps(value).encode() + b"\n"
    )
