"""Values as JSON and back: every field under its own name, addresses and words as text.

What is read may be a stranger's bug report or a damaged file, so each value is checked against the type that it must
have. Shapes: schemas/*.schema.json.
"""

from __future__ import annotations

import json
import re
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from cede.errors import CedeError
from cede.model.pci import Address
from cede.model.plan import Action, Decision

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


def _kind(action: type) -> str:
    return _WORD_START.sub("-", action.__name__).lower()


_hints = cache(get_type_hints)
_ACTIONS = {_kind(action): action for action in get_args(Action)}
_DECISIONS = frozenset(_kind(decision) for decision in get_args(Decision))


def plain(value: object) -> Any:  # noqa: ANN401 - JSON is any
    """`value` as dicts, lists, strings, numbers, booleans and None."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, CedeError):
        told = {"name": value.name, "message": value.message, "remedy": value.remedy}
        return {**told, "kind": value.kind.value}
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        kind = _kind(type(value))
        if kind in _ACTIONS:
            return {"action": kind, "text": str(value), **named}
        return {"decision": kind, **named} if kind in _DECISIONS else named
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def dumps(**named: object) -> str:
    """One JSON object with `named` as its members, indented, the order kept."""
    return json.dumps({name: plain(value) for name, value in named.items()}, indent=2)


def build(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - types and JSON are any
    """`value` as a `kind`; raises TypeError or ValueError naming `where` otherwise."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        if value is None:
            return None
        return build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where} is no list")
        return tuple(build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if is_dataclass(kind) and kind is not Address:
        return _build_dataclass(kind, value, where)
    wanted = str if kind is Address or issubclass(kind, StrEnum) else kind
    if type(value) is not wanted:
        raise TypeError(f"{where} is no {wanted.__name__}")
    try:
        return Address.parse(value) if kind is Address else kind(value)
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
