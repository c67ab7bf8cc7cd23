"""Errors as problem details for HTTP APIs.

Source: RFC 9457. The type is `about:blank`, so the title is that of the status; `name` tells which error it is.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from cede.api.messages import PROBLEM, Response
from cede.commands.exit_status import EXIT_OF
from cede.errors import CedeError, FailureKind, UsageError
from cede.model.serialization import plain

if TYPE_CHECKING:
    from cede.errors import Diagnostic

RETRY_AFTER_SECONDS = 1
_STATUS_OF = {
    FailureKind.FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    FailureKind.USAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureKind.UNSAFE: HTTPStatus.CONFLICT,
    FailureKind.OUT_OF_SYNC: HTTPStatus.CONFLICT,
    FailureKind.TRY_LATER: HTTPStatus.SERVICE_UNAVAILABLE,
}


class RequestError(UsageError):
    """The request is wrong, or asks for what is not there; `status` is HTTP's word for that.

    `headers` go with the response.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str,
        status: HTTPStatus,
        remedy: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        super().__init__(message, name=name, remedy=remedy, diagnostics=diagnostics)
        self.status = status
        self.headers = headers


def status_of(error: CedeError) -> HTTPStatus:
    """Return the status that tells a client what it may do about the error."""
    return error.status if isinstance(error, RequestError) else _STATUS_OF[error.kind]


def problem_document(error: CedeError) -> bytes:
    """Return the error as the JSON of a problem."""
    status = status_of(error)
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": error.with_remedy,
        "name": error.name,
        "kind": error.kind.value,
        "reason": error.message,
        "remedy": error.remedy,
        "exit": int(EXIT_OF[error.kind]),
        "diagnostics": plain(error.diagnostics),
    }
    return json.dumps(document).encode() + b"\n"


def problem_response(error: CedeError) -> Response:
    """Return the response with the error as a problem document."""
    status = status_of(error)
    headers = error.headers if isinstance(error, RequestError) else ()
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers = (*headers, ("retry-after", str(RETRY_AFTER_SECONDS)))
    body = problem_document(error)
    return Response(status=status, content_type=PROBLEM, headers=headers, body=body)
