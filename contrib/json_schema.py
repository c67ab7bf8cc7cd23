"""JSON Schema 2020-12 of cede's values, generated from their types as `cede.model.serialization` writes them.

A type is described by the first paragraph of its docstring, a member by the sentences there that name it in backticks,
or the parts of them up to a semicolon, else by its own type. What a schema says beyond that stands in `Annotated`
(cede/util/json_keywords.py). Each type with a name is defined once, in the order of names.

No library does it: pydantic is 1 in Debian 12 (draft 7) and 2 in Debian 13, and the two write one type differently.
Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from inspect import getdoc
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cede.cli.boot_command import BootOutput
from cede.cli.import_command import ImportOutput
from cede.commands import outputs
from cede.commands.doctor import DoctorOutput
from cede.commands.history import HistoryOutput
from cede.commands.pause import PauseOutput
from cede.errors import CedeError
from cede.model.serialization import SUM_TYPES, TEXTS, members, plain, type_name
from cede.services.describe_devices import DevicesOutput
from cede.services.observe import SavedHost
from cede.util.json_keywords import Keywords

# by the name of the file in schemas/: what is printed there, and its type
OUTPUTS = {
    "boot": ("cede boot --print --json", BootOutput),
    "devices": ("cede devices --json", DevicesOutput),
    "doctor": ("cede doctor --json", DoctorOutput),
    "error": ("cede COMMAND --json that ends in an error", outputs.ErrorOutput),
    "history": ("cede history --json", HistoryOutput),
    "import": ("cede import --json", ImportOutput),
    "inventory": ("cede devices --save", SavedHost),
    "pause": ("cede pause --json", PauseOutput),
    "plan": ("cede plan --json", outputs.PlanOutput),
    "report": ("cede apply --json", outputs.ReportOutput),
    "status": ("cede status --json", outputs.StatusOutput),
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PART_END = re.compile(r"(?<=[.;])\s+")
_WORD_START = re.compile(r"_(\w)")

Schema = dict[str, Any]


def output_schema(name: str) -> str:
    """The text of schemas/`name`.schema.json.

    Raises ValueError, naming the member, where nothing describes one, and TypeError for a type that has no schema.
    """
    title, kind = OUTPUTS[name]
    definitions = Definitions()
    shape = definitions.shape_of(kind)
    shared = dict(sorted(definitions.schemas.items()))
    schema = {"$schema": _DIALECT, "title": title, **shape, "$defs": shared}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class Definitions:
    """The schemas of types that have a name, gathered while one type after another is asked for.

    `place` is where they will stand in the document: `#/$defs/`, or `#/components/schemas/` in OpenAPI.
    """

    def __init__(self, place: str = "#/$defs/") -> None:
        self.schemas: dict[str, Schema] = {}
        self._place = place
        self._types: dict[str, object] = {}

    def schema_of(self, kind: Any) -> Schema:  # noqa: ANN401 - a type of any value
        """The schema of a type: a reference if it has a name."""
        origin, arguments = get_origin(kind), get_args(kind)
        if kind in _SCALARS:
            return {"type": _SCALARS[kind]}
        if origin is Annotated:
            return self._annotated(arguments[0], *arguments[1:])
        if origin is Literal:
            return {"enum": list(arguments)} if arguments[1:] else {"const": arguments[0]}
        if origin in {Union, types.UnionType}:
            return self._union(kind, arguments)
        if origin is tuple and arguments[1:] == (...,):
            return {"type": "array", "items": self.schema_of(arguments[0])}
        if origin is Mapping or origin is dict:
            names, items = map(self.schema_of, arguments)
            return {"type": "object", "propertyNames": names, "additionalProperties": items}
        if not isinstance(kind, type):
            raise TypeError(f"{kind} has no schema")
        return self._reference(type_name(kind, "_"), kind)

    def shape_of(self, kind: type) -> Schema:
        """The schema of a type that has a name, itself and no reference."""
        described = {"description": _summary(kind)}
        if kind in TEXTS:
            return {**described, "type": "string", **_keywords(TEXTS[kind])}
        if issubclass(kind, Enum):
            return {**described, "enum": [member.value for member in kind]}
        if not (is_dataclass(kind) or issubclass(kind, CedeError)):
            raise TypeError(f"{kind} has no schema")
        properties = {
            name: self._member(kind, name, type_) for name, type_ in members(kind).items()
        }
        return {
            **described,
            "type": "object",
            "additionalProperties": False,
            "required": list(properties),
            "properties": properties,
        }

    def _member(self, kind: type, name: str, type_: Any) -> Schema:  # noqa: ANN401 - a type of any value
        schema = self.schema_of(type_)
        description = described(kind, name) or schema.pop("description", "")
        if description:
            schema = {"description": description, **schema}
        if not {"description", "$ref", "const"} & set(schema) and not _refers(schema):
            raise ValueError(
                f"{kind.__module__}.{kind.__qualname__}: no sentence of its docstring describes `{name}`"
            )
        return schema

    def _annotated(self, base: Any, keywords: Keywords) -> Schema:  # noqa: ANN401 - a type of any value
        schema = {**self.schema_of(base), **_keywords(keywords)}
        if not keywords.name:
            return schema
        self._define(keywords.name, (base, keywords))
        self.schemas[keywords.name] = {"description": schema.pop("description"), **schema}
        return {"$ref": self._place + keywords.name}

    def _union(self, kind: object, arguments: tuple[Any, ...]) -> Schema:
        for tag, union in SUM_TYPES.items():
            if kind == union:
                if self._define(tag, kind):
                    choices = [self.schema_of(choice) for choice in arguments]
                    description = f"one of these, which `{tag}` tells apart"
                    self.schemas[tag] = {"description": description, "oneOf": choices}
                return {"$ref": self._place + tag}
        choices = [self.schema_of(choice) for choice in arguments if choice is not type(None)]
        if type(None) not in arguments:
            return {"oneOf": choices}
        if len(choices) == 1 and isinstance(choices[0].get("type"), str):
            return {**choices[0], "type": [choices[0]["type"], "null"]}
        return {"anyOf": [*choices, {"type": "null"}]}

    def _reference(self, name: str, kind: type) -> Schema:
        if self._define(name, kind):
            self.schemas[name] = self.shape_of(kind)
        return {"$ref": self._place + name}

    def _define(self, name: str, kind: object) -> bool:
        """Whether `name` is still to be defined; raises ValueError if it means another type already."""
        new = name not in self._types
        if self._types.setdefault(name, kind) != kind:
            raise ValueError(f"{name} would be both {self._types[name]} and {kind}")
        return new


def _refers(schema: Schema) -> bool:
    """Whether the type that it refers to, or null, says what it is."""
    return any("$ref" in choice for choice in schema.get("anyOf", ()))


def _keywords(keywords: Keywords) -> Schema:
    named = ((field.name, getattr(keywords, field.name)) for field in fields(keywords))
    return {
        _WORD_START.sub(lambda match: match[1].upper(), name): plain(value)
        for name, value in named
        if name != "name" and value is not None
    }


def _summary(kind: type) -> str:
    if not kind.__doc__:
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} has no docstring")
    return _sentence((getdoc(kind) or "").split("\n\n")[0])


def described(kind: type, name: str) -> str:
    """What the docstring says of a field: that of the class which has it, or of one that it inherits from."""
    for each in kind.__mro__:
        parts = [part for part in _parts(each) if f"`{name}`" in part]
        own = [part for part in parts if part.partition("`")[2].startswith(f"{name}`")]
        if parts:
            subject = re.compile(rf"^`{name}` (?:(?:is|are|tells|says) |(?=whether |that ))")
            return "; ".join(subject.sub("", _sentence(part)) for part in own or parts)
    return ""


def _parts(kind: type) -> list[str]:
    """The parts of a docstring's sentences; one that names nothing goes with the one before it."""
    parts: list[str] = []
    for part in _PART_END.split(" ".join((kind.__doc__ or "").split())):
        if parts and parts[-1].endswith(";") and "`" not in part:
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return parts


def _sentence(text: str) -> str:
    """In the words of JSON, and without the stop at its end."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).rstrip(".;")
