"""Values as JSON and back: every field under its own name, addresses and words as text.

What is read may be a stranger's bug report or a damaged file, so each value is checked against the type that it must
have. schemas/*.schema.json are generated from the types (contrib/json_schema.py).
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cede.errors import CedeError, FailureKind
from cede.model.actions import Action
from cede.model.pci import Address
from cede.model.plan import Decision
from cede.util.json_keywords import Keywords

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
_hints = cache(get_type_hints)
# what is one text in JSON: `str` writes it, `parse` reads it
TEXTS = {
    Address: Keywords(
        pattern=r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$", examples=("0000:01:00.0",)
    )
}
# the sum types, by the member that tells in JSON which of its types a value is of
SUM_TYPES = {"action": Action, "decision": Decision}
_TEXT = Annotated[str, Keywords(description="the same as a sentence")]
_ERROR = {
    "name": Annotated[str, Keywords(pattern="^[a-z][a-z0-9-]*$")],
    "message": Annotated[str, Keywords(min_length=1)],
    "remedy": str,
    "kind": FailureKind,
}


def type_name(kind: type, separator: str) -> str:
    """Return the name of a type in JSON: `BindToPciback` is `bind-to-pciback` with the separator `-`."""
    return _WORD_START.sub(separator, kind.__name__).lower()


_TAGS = {
    kind: (tag, type_name(kind, "-"))
    for tag, union in SUM_TYPES.items()
    for kind in get_args(union)
}


def members(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type of any value
    """Return the JSON members of the dataclass or error `kind` with their types, in the order of `plain`."""
    if issubclass(kind, CedeError):
        return _ERROR
    hints = get_type_hints(kind, include_extras=True)
    named = {field.name: hints[field.name] for field in fields(kind)}
    if kind not in _TAGS:
        return named
    tag, name = _TAGS[kind]
    text = {"text": _TEXT} if _has_text(kind) else {}
    return {tag: Annotated[str, Keywords(const=name)], **text, **named}


def _has_text(kind: type) -> bool:
    return "__str__" in vars(kind)


def plain(value: object) -> Any:  # noqa: ANN401 - JSON is any
    """Return `value` as dicts, lists, strings, numbers, booleans and None."""
    if isinstance(value, Enum):
        return value.value
    if type(value) in TEXTS:
        return str(value)
    if isinstance(value, CedeError):
        return {name: plain(getattr(value, name)) for name in _ERROR}
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if type(value) not in _TAGS:
            return named
        tag, name = _TAGS[type(value)]
        text = {"text": str(value)} if _has_text(type(value)) else {}
        return {tag: name, **text, **named}
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def dumps(value: object, *, indent: int | None = 2) -> str:
    """Return `value` as JSON, the order kept; on one line without `indent`."""
    return json.dumps(plain(value), indent=indent)


def build(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - types and JSON are any
    """Return `value` as a `kind`; raises TypeError or ValueError naming `where` otherwise."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        if value is None:
            return None
        return build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where} is no list")
        return tuple(build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} is none of {', '.join(map(repr, arguments))}")
        return value
    if is_dataclass(kind) and kind not in TEXTS:
        return _build_dataclass(kind, value, where)
    wanted = str if kind in TEXTS or issubclass(kind, StrEnum) else kind
    if type(value) is not wanted:
        raise TypeError(f"{where} is no {wanted.__name__}")
    try:
        return kind.parse(value) if kind in TEXTS else kind(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        raise TypeError(f"{where} is no object")
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name in value:
        if name not in known:
            raise ValueError(f"{where} has an unknown member {name!r}")
    for name, field in known.items():
        if name not in value and field.default is MISSING:
            raise ValueError(f"{where} lacks {name}")
    return kind(
        **{name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    )
