"""What JSON Schema can say of a value beyond its Python type, as `typing.Annotated` carries it.

Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Keywords:
    """Keywords of JSON Schema, in snake_case; None leaves one out.

    A type with a `name` is defined once in each schema, under that name.
    """

    name: str = ""
    description: str | None = None
    const: str | None = None
    enum: tuple[str, ...] | None = None
    pattern: str | None = None
    format: str | None = None
    min_length: int | None = None
    min_items: int | None = None
    minimum: int | None = None
    examples: tuple[str, ...] | None = None
