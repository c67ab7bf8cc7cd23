"""A request's fields, read from a query or from JSON: each checked against its type, and bounded."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from cede.api.problems import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_T = TypeVar("_T")
MAX_LENGTH = 4096
MAX_COUNT = 100_000  # lines of a log
MAX_NUMBER = 100_000_000  # a year has 32 million seconds
_BOOLEANS = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}  # fmt: skip
_TUPLE = tuple[str, ...]


_hints: dict[object, dict[str, Any]] = {}  # of each kind of request


def _types_of(kind: object) -> dict[str, Any]:
    if kind not in _hints:
        _hints[kind] = get_type_hints(kind)
    return _hints[kind]


def from_query(kind: type[_T], pairs: Sequence[tuple[str, str]]) -> _T:
    """Return the request whose fields are in a query; a list is a name that comes several times.

    Raises RequestError.
    """
    hints, found = _types_of(kind), dict[str, object]()
    for name, text in pairs:
        if hints.get(name) == _TUPLE:
            value: object = (*found.get(name, ()), text)  # type: ignore[misc]
        elif name in found:
            raise _wrong(name, "comes twice")
        else:
            value = _read(name, text, hints.get(name))
        found[name] = value
    return _request(kind, found)


def _read(name: str, text: str, kind: object) -> object:
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise _wrong(name, "is neither true nor false")
        return _BOOLEANS[text.lower()]
    if kind in {int, float}:
        try:
            if len(text) > MAX_LENGTH or not text.isascii() or "_" in text:
                raise ValueError(text)  # noqa: TRY301 - one answer for all that is no number
            return int(text) if kind is int else float(text)
        except ValueError as error:
            raise _wrong(name, "is no number") from error
    return text


def from_json(kind: type[_T], body: bytes) -> _T:
    """Return the request whose fields are in a JSON object; raises RequestError."""
    read = json_object(body)
    return _request(
        kind, {name: tuple(v) if isinstance(v, list) else v for name, v in read.items()}
    )


def json_object(body: bytes) -> dict[str, Any]:
    """Return a body that has to be a JSON object; an empty one is an empty object. Raises RequestError."""
    try:
        read = json.loads(body or b"{}", object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            "the body is no JSON in UTF-8, or has a name twice",
            name="malformed-body",
            status=HTTPStatus.BAD_REQUEST,
        ) from error
    if not isinstance(read, dict):
        raise RequestError(
            "the body is no JSON object", name="malformed-body", status=HTTPStatus.BAD_REQUEST
        )
    return read


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(text)


def _request(kind: type[_T], found: Mapping[str, object]) -> _T:
    hints = _types_of(kind)
    for name, value in found.items():
        if name not in hints:
            raise RequestError(
                f"there is no field {name[:MAX_LENGTH]!r}",
                name="unknown-field",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
                remedy=f"fields are {', '.join(hints)}",
            )
        _check(name, value, hints[name])
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in found and field.default is MISSING:
            raise RequestError(
                f"the field {field.name!r} is missing",
                name="missing-field",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
            )
    return kind(
        **{name: float(v) if hints[name] is float else v for name, v in found.items()}  # type: ignore[arg-type]
    )


def _check(name: str, value: object, kind: object) -> None:
    if kind is str:
        _check_text(name, value)
    elif kind is bool:
        if not isinstance(value, bool):
            raise _wrong(name, "is neither true nor false")
    elif kind == _TUPLE:
        if not isinstance(value, tuple) or len(value) > MAX_COUNT:
            raise _wrong(name, f"is no list of at most {MAX_COUNT} texts")
        for each in value:
            _check_text(name, each, most=None)  # a line of a log; the whole body is bounded
    else:
        numbers = (int, float) if kind is float else (int,)
        if isinstance(value, bool) or not isinstance(value, numbers):
            raise _wrong(name, "is no number")
        if not 0 <= value <= MAX_NUMBER:
            raise _wrong(name, f"is not from 0 to {MAX_NUMBER}")


def _check_text(name: str, value: object, most: int | None = MAX_LENGTH) -> None:
    if not isinstance(value, str) or (most is not None and len(value) > most):
        raise _wrong(name, f"is no text of at most {MAX_LENGTH} characters")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(name, "has a character that no text has")


def _wrong(name: str, how: str) -> RequestError:
    return RequestError(
        f"the field {name[:MAX_LENGTH]!r} {how}",
        name="wrong-field",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
    )
