"""What a client wants to be answered in, and what it sent: media types, and parameters that are no fields."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from cede.api.problems import RequestError
from cede.util.text import number

if TYPE_CHECKING:
    from cede.api.messages import Request

TEXT = "text/plain"


def accepted(request: Request, *offers: str) -> str:
    """Return the first media type of `offers` that the client accepts first; raises RequestError if it takes none.

    The order in `Accept` decides, and of the weights (RFC 9110, 12.5.1) only that of 0 counts.
    """
    ranges = request.headers.get("accept", "") or "*/*"
    for each in ranges.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if any(part.replace(" ", "") in {"q=0", "q=0.0"} for part in parameters):
            continue
        for offer in offers:
            if kind in {"*/*", offer, f"{offer.partition('/')[0]}/*"}:
                return offer
    raise RequestError(
        "the client takes none of the media types that this has",
        name="not-acceptable",
        status=HTTPStatus.NOT_ACCEPTABLE,
        remedy=f"accept {', '.join(offers)}",
    )


def content_type(request: Request, *known: str) -> str:
    """Return the media type of the body, the first of `known` without one; raises RequestError for another one."""
    sent = request.headers.get("content-type", known[0]).partition(";")[0].strip().lower()
    # curl says so of every --data, whatever is in it
    if sent == "application/x-www-form-urlencoded":
        return known[0]
    if sent not in known:
        raise RequestError(
            "the body is of no media type that this takes",
            name="unsupported-media-type",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            remedy=f"send {', '.join(known)}",
        )
    return sent


def parameter(request: Request, name: str, default: str = "") -> str:
    """Return the last value of a parameter in the query."""
    return dict(request.query).get(name, default)


def only_parameters(request: Request, *known: str) -> None:
    """Raise RequestError for a parameter that is none of `known`."""
    for name, _ in request.query:
        if name not in known:
            raise RequestError(
                f"there is no parameter {name[:100]!r}",
                name="unknown-field",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
                remedy=f"parameters are {', '.join(known)}" if known else "",
            )


def count(request: Request, name: str) -> int:
    """Return a parameter that is a number from 0 on, 0 without it; raises RequestError."""
    value = number(parameter(request, name, "0"))
    if value is None:
        raise RequestError(
            f"the parameter {name!r} is no number",
            name="wrong-field",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    return value
