"""Which resource answers a request: by its path, which may have one `{place}`, and its method."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from cede.api.problems import RequestError

if TYPE_CHECKING:
    from cede.api.messages import Request, Response

Answering = Callable[["Request", str], "Response"]  # the text is what stands in the path's place
_PLACE = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path, one method, and what answers."""

    method: str
    path: str
    answer: Answering


def no_such_path() -> RequestError:
    """Return the error for a path at which there is nothing."""
    return RequestError(
        "there is nothing at this path",
        name="no-such-path",
        status=HTTPStatus.NOT_FOUND,
        remedy="schemas/agent.openapi.yaml has all paths",
    )


def not_public() -> RequestError:
    """Return the error for what the read-only socket doesn't do."""
    return RequestError(
        "the read-only socket shows host, devices, status and names, and changes nothing",
        name="read-only-socket",
        status=HTTPStatus.FORBIDDEN,
        remedy="ask at cede.sock, as root or in the group cede",
    )


class Router:
    """Finds who answers; `missing` is the error where nobody does. HEAD is GET, of which the server sends the head."""

    def __init__(self, routes: Iterable[Route], missing: Callable[[], RequestError]) -> None:
        self.routes = tuple(routes)
        self._missing = missing
        self._patterns = {path: _pattern(path) for path in {each.path for each in self.routes}}

    def __call__(self, request: Request) -> Response:
        """Answer a request; raises RequestError where nobody does, else what the answering does."""
        method = "GET" if request.method == "HEAD" else request.method
        found = [
            (route, "".join(match.groups()))
            for route in self.routes
            if (match := self._patterns[route.path].fullmatch(request.path))
        ]
        for route, place in found:
            if route.method == method:
                return route.answer(request, place)
        if not found:
            raise self._missing()
        allowed = {route.method for route, _ in found}
        allowed |= {"HEAD"} if "GET" in allowed else set()
        raise RequestError(
            "this path doesn't take this method",
            name="method-not-allowed",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            headers=(("allow", ", ".join(sorted(allowed))),),
        )


def _pattern(path: str) -> re.Pattern[str]:
    parts = _PLACE.split(path)
    return re.compile("([^/]+)".join(map(re.escape, parts)))
