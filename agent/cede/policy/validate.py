"""Check a tree by the JSON Schema, with diagnostics that the administrator understands.

The schema is the one that editors use too; each part's `description` there completes the sentence
"found this, expected ...".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cede.model.policy import Place
from cede.policy.diagnostics import Diagnostics, Path, quoted
from cede.policy.parse import Tree

# What other files, and other YAML readers, write for true and false.
_TRUTHS = {"yes": "true", "y": "true", "on": "true", "1": "true"}
_TRUTHS |= {"no": "false", "n": "false", "off": "false", "0": "false"}


def check_shape(tree: Tree, schema: Mapping[str, Any], diagnostics: Diagnostics) -> bool:
    """Add a diagnostic for everything in the tree that `schema` does not allow; return whether the tree is right."""
    from jsonschema import Draft202012Validator

    incomplete: set[Path] = set()
    right = True
    for error in Draft202012Validator(schema).iter_errors(tree.data):
        right = False
        path = tuple(error.absolute_path)
        found: Any = error.instance
        part: Any = error.schema
        match error.validator:
            case "additionalProperties":
                _unknown_keys(found, part, path, tree, diagnostics)
            case "required":
                # jsonschema reports each missing key, but names the key in its message only.
                if path not in incomplete:
                    _missing_keys(found, part, path, tree, diagnostics)
                incomplete.add(path)
            case "dependentRequired":
                _half_pairs(found, part, path, tree, diagnostics)
            case _ if "propertyNames" in error.absolute_schema_path:
                path = (*path, found)
                _unexpected(found, part, path, tree.keys[path], diagnostics)
            case "not":
                text = f"found only {quoted(*found)}, expected {part['description']}"
                diagnostics.add(tree.places[path], "incomplete-value", text, path)
            case "uniqueItems":
                _repeated(found, part, path, tree, diagnostics)
            case _:
                _unexpected(found, part, path, tree.places[path], diagnostics)
    return right


def _unknown_keys(
    found: dict[str, Any], schema: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> None:
    known = schema["properties"]
    for key in found:
        if key not in known:
            near = diagnostics.suggest(key, known)
            diagnostics.add(
                tree.keys[*path, key],
                "unknown-key",
                f"found the unknown key {quoted(key)}, expected one of {', '.join(known)}{near}",
                (*path, key),
            )


def _missing_keys(
    found: dict[str, Any], schema: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> None:
    for key in schema["required"]:
        if key not in found:
            what = schema["properties"][key]["description"]
            text = f"the key '{key}' is missing, expected {what}"
            diagnostics.add(tree.key_or_value(path), "missing-key", text, path)


def _half_pairs(
    found: dict[str, Any], schema: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> None:
    for key, others in schema["dependentRequired"].items():
        for other in others:
            if key in found and other not in found:
                text = f"found {quoted(key)} without {quoted(other)}, expected both or neither"
                diagnostics.add(tree.keys[*path, key], "half-pair", text, (*path, key))


def _repeated(
    found: list[Any], schema: dict[str, Any], path: Path, tree: Tree, diagnostics: Diagnostics
) -> None:
    again = next((i for i, item in enumerate(found) if item in found[:i]), len(found) - 1)
    text = f"found {_worded(found[again])} again, expected {schema['description']}"
    diagnostics.add(tree.places[*path, again], "repeated-value", text, (*path, again))


def _unexpected(
    found: object, schema: dict[str, Any], path: Path, place: Place, diagnostics: Diagnostics
) -> None:
    near = _suggest(found, schema, diagnostics) if isinstance(found, str) else ""
    text = f"found {_worded(found)}, expected {schema['description']}{near}"
    diagnostics.add(place, "unexpected-value", text, path)


def _suggest(found: str, schema: dict[str, Any], diagnostics: Diagnostics) -> str:
    if schema.get("type") != "boolean":
        return diagnostics.suggest(found, schema.get("enum", ()))
    if found in {"true", "false"}:
        return ""
    return diagnostics.suggest(_TRUTHS.get(found.lower(), found.lower()), ("true", "false"))


def _worded(found: object) -> str:
    match found:
        case None:
            return "nothing"
        case dict():
            return "a mapping" if found else "an empty mapping"
        case list():
            return "a list" if found else "an empty list"
        case str():
            return quoted(found)
        case _:
            return str(found)
