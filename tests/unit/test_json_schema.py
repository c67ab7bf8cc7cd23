"""The schemas of what is printed as JSON: generated from the types, and checked in as they are generated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from cede.errors import PermanentError
from cede.model.actions import BindToPciback, LoadPciback
from cede.model.pci import Address
from cede.model.serialization import SUM_TYPES, plain
from cede.util import schemas
from cede.util.json_keywords import Keywords
from json_schema import OUTPUTS, Definitions, output_schema

SCHEMAS = Path(__file__).parents[2] / "schemas"
NIC = Address(0, 1, 0, 0)


class Color(StrEnum):
    """How it looks."""

    RED = "red"
    BLUE = "blue"


Short = Annotated[str, Keywords(name="short", description="a short text", min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part; it has a `color`.

    `size` is in bytes, None if unknown; `kind` says `big` or `small`; None for the others. With `weights` each part is
    weighed: by its address.
    """

    color: Color
    size: Annotated[int, Keywords(minimum=0)] | None
    kind: Literal["big", "small"] | None
    weights: Mapping[Address, float]
    label: Short | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box(Part):
    """A box of parts.

    `parts` are what is in there; `either` is one of two.
    """

    parts: Annotated[tuple[Part, ...], Keywords(min_items=1)]
    either: Part | Color


PART = Part(color=Color.RED, size=None, kind=None, weights={NIC: 1.5}, label="a")
BOX = Box(
    color=Color.BLUE, size=1, kind="big", weights={}, label=None, parts=(PART,), either=Color.RED
)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_that_is_checked_in_is_the_generated_one(
    name: str, request: pytest.FixtureRequest
) -> None:
    path, generated = SCHEMAS / f"{name}.schema.json", output_schema(name)
    if request.config.getoption("--regenerate-golden"):
        path.write_text(generated, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == generated, (
        f"schemas/{path.name} is not what the types say; to write it anew, and then read the diff:"
        " pytest tests/unit/test_json_schema.py --regenerate-golden"
    )


def test_every_schema_is_generated_but_the_policys() -> None:
    names = {path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.json")}
    assert names == {"policy", *OUTPUTS}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_is_one_and_reports_of_every_member_what_it_means(name: str) -> None:
    schema = schemas.load(f"{name}.schema.json")
    Draft202012Validator.check_schema(schema)
    for place in (schema, *schema["$defs"].values()):
        assert place["description"]
        if place.get("type") == "object":
            assert place["additionalProperties"] is False
            assert place["required"] == list(place["properties"])
        for member in place.get("properties", {}).values():
            assert {"description", "$ref", "const", "anyOf"} & set(member)


def test_what_two_schemas_both_define_they_define_alike() -> None:
    known: dict[str, Any] = {}
    for name in OUTPUTS:
        for term, meaning in schemas.load(f"{name}.schema.json")["$defs"].items():
            assert known.setdefault(term, meaning) == meaning


def validator(kind: Any) -> Draft202012Validator:  # noqa: ANN401 - a type of any value
    definitions = Definitions()
    schema = {**definitions.schema_of(kind), "$defs": definitions.schemas}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_a_value_of_every_kind_of_type_fits_its_schema() -> None:
    for value in (BOX, PART, NIC, Color.RED, PermanentError("no", remedy="do")):
        validator(type(value)).validate(json.loads(json.dumps(plain(value))))


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        ("color", "green"), ("size", -1), ("size", "1"), ("kind", "other"), ("label", ""), ("label", 1),
        ("weights", {"01:00.0": 1.0}), ("weights", {"0000:01:00.0": "heavy"}), ("parts", []), ("parts", [{}]),
        ("either", "green"), ("either", None),
    ],
)  # fmt: skip
def test_a_member_of_another_type_or_form_does_not_fit(member: str, wrong: object) -> None:
    with pytest.raises(ValidationError):
        validator(Box).validate({**plain(BOX), member: wrong})


def test_an_action_fits_only_as_the_one_that_its_tag_names() -> None:
    actions = validator(SUM_TYPES["action"])
    bind = plain(BindToPciback(address=NIC, driver=None))
    actions.validate(bind)
    actions.validate(plain(LoadPciback()))
    with pytest.raises(ValidationError):
        actions.validate({**bind, "action": "unplug"})


def test_members_are_described_by_the_sentences_that_name_them() -> None:
    definitions = Definitions("#/components/schemas/")
    assert definitions.schema_of(Box) == {"$ref": "#/components/schemas/box"}
    properties = definitions.schemas["box"]["properties"]
    assert {name: schema.get("description") for name, schema in properties.items()} == {
        "color": "it has a `color`",
        "size": "in bytes, null if unknown",
        "kind": "`big` or `small`; null for the others",
        "weights": "With `weights` each part is weighed: by its address",
        "label": None,
        "parts": "what is in there",
        "either": "one of two",
    }
    assert properties["parts"]["items"] == {"$ref": "#/components/schemas/part"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Its docstring tells nothing of what it has."""

    what: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Strange:
    """Its `what` has no JSON."""

    what: complex


def test_a_member_that_nothing_describes_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Silent: no sentence of its docstring describes `what`"):
        Definitions().schema_of(Silent)


def test_a_type_without_json_is_an_error() -> None:
    for kind in (Strange, list[int], tuple[int, int]):
        with pytest.raises(TypeError, match="has no schema"):
            Definitions().schema_of(kind)


def test_two_types_of_one_name_are_an_error() -> None:
    definitions = Definitions()
    definitions.schema_of(Part)
    with pytest.raises(ValueError, match="part would be both"):
        definitions.schema_of(type("Part", (), {"__doc__": "Another."}))
