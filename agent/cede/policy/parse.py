"""Policy text -> a tree of plain data, with the place of each part.

YAML's guesses would turn an unquoted `8086` into a number, `01:00.0` into sixty-based seconds and `off` into false; a
policy means what was written, so every scalar stays text, except null and the few keys that take a number or `true` and
`false`. Tags, anchors and aliases have no use here and can do harm, so they are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from cede.model.policy import Place
from cede.policy.diagnostics import Diagnostics, Path, quoted
from cede.util.text import is_plain

MAX_BYTES = 1 << 20
_MAX_DEPTH = 20
_NULLS = {"", "~", "null", "Null", "NULL"}
# Without zeros in front: YAML would take those for octal.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_BOOLEANS = {"true": True, "false": False}


@dataclass(slots=True)
class Tree:
    """Plain data (mappings, lists, text, None, numbers and booleans) with the place of every key and value by path."""

    data: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def key_or_value(self, path: Path) -> Place:
        """Return the place of the key at `path`; for list items, which have no key, where the item begins."""
        return self.keys.get(path) or self.places[path]


class _TextError(Exception):
    """The text is not the YAML that cede reads; line and column count from 0."""

    def __init__(self, name: str, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(problem)
        self.name = name
        self.line = line
        self.column = column

    @classmethod
    def after(cls, name: str, problem: str, before: str) -> _TextError:
        """Return a problem that begins right after the text `before`."""
        line_start = before.rfind("\n") + 1
        return cls(name, problem, before.count("\n"), len(before) - line_start)


class _Loader(yaml.SafeLoader):
    """Composes nodes, never objects; limits nesting and refuses what YAML adds to mappings, lists and text."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._refuse(
                "alias",
                f"found the alias *{event.anchor}",
                "write the value out: a policy has no aliases",
            )
        if getattr(event, "anchor", None) is not None:
            self._refuse("anchor", f"found the anchor &{event.anchor}", "a policy has no anchors")
        if getattr(event, "tag", None) is not None:
            self._refuse("tag", f"found the tag {quoted(event.tag)}", "a policy has no tags")
        if self.depth >= _MAX_DEPTH:
            self._refuse(
                "nested-too-deep",
                f"nested more than {_MAX_DEPTH} deep",
                "a policy needs no more than 5",
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, name: str, found: str, expected: str) -> NoReturn:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        raise _TextError(name, f"{found}; {expected}", mark.line, mark.column)


def _plain(text: str, path: Path) -> str | int | None:
    """Return the value of `text`, written at `path` without quotes."""
    if text in _NULLS:
        return None
    match path:
        case (
            ("version",)
            | ("devices", _, "match", "function")
            | ("devices", _, "virtual_functions", "count" | "vlan" | "rate")
            | ("protect", _, "function")
            | ("assignments", _, "verify", "timeout")
        ):
            return int(text) if _NUMBER.fullmatch(text) else text
        case (
            ("devices", _, "match", "any")
            | ("devices", _, "virtual_functions", "spoof_check" | "trust")
            | ("assignments", _, "permissive" | "adopt" | "optional")
        ):
            return _BOOLEANS.get(text, text)
    return text


def _decode(text: str | bytes) -> str:
    """Decode the text, if it is not too large."""
    if len(text) > MAX_BYTES:
        raise _TextError(
            "too-large", f"the file is larger than {MAX_BYTES >> 20} MiB, which no policy is"
        )
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        raise _TextError.after(
            "no-text", f"found the byte {text[error.start]:#04x}, expected UTF-8 text", before
        ) from error


def _compose(content: str) -> yaml.Node:
    """Return the root node of the only document in `content`."""
    try:
        loader = _Loader(content)
    except yaml.reader.ReaderError as error:
        raise _TextError.after(
            "no-text",
            f"found the character U+{ord(content[error.position]):04X}, which no text file has",
            content[: error.position],
        ) from error
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise _TextError("no-yaml", _worded(error), mark.line, mark.column) from error
    except (ValueError, OverflowError) as error:
        # PyYAML turns "\UFFFFFFFF" and %YAML directives into numbers without looking.
        mark = loader.get_mark()
        raise _TextError(
            "no-yaml", "this is not YAML: a number is too large", mark.line, mark.column
        ) from error
    if node is None:
        raise _TextError("empty-file", "the file is empty, expected at least `version: 1`")
    return node


def _worded(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's diagnostic as one line, with the remedy for the most common one."""
    said = ", ".join(part for part in (error.context, error.problem) if part)
    said = " ".join(said.split())
    return f"{said}; indent with spaces" if "'\\t'" in said else said


class _Reading:
    """Turns the nodes of one file into a tree."""

    def __init__(self, file: str, diagnostics: Diagnostics) -> None:
        self.file = file
        self.diagnostics = diagnostics
        self.tree = Tree()

    def place(self, mark: yaml.Mark) -> Place:
        return Place(file=self.file, line=mark.line + 1, column=mark.column + 1)

    def take(self, node: yaml.Node, path: Path) -> Any:  # noqa: ANN401  # plain data of any shape
        self.tree.places[path] = self.place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self.take_mapping(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self.take_scalar(node, path)
        return [self.take(item, (*path, index)) for index, item in enumerate(node.value)]

    def take_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.diagnostics.add(
                    place, "no-key", "found a list or mapping, expected a key", path
                )
                continue
            key = key_node.value
            here = (*path, key)
            if key in mapping:
                self.diagnostics.add(
                    place,
                    "repeated-key",
                    f"the key {quoted(key)} is already at {self.tree.keys[here]}",
                    here,
                )
                continue
            self.tree.keys[here] = place
            self.check_printable(key, place, here)
            mapping[key] = self.take(value_node, here)
        return mapping

    def take_scalar(self, node: yaml.ScalarNode, path: Path) -> str | int | None:
        text = str(node.value)
        self.check_printable(text, self.tree.places[path], path)
        return _plain(text, path) if node.style is None else text

    def check_printable(self, text: str, place: Place, path: Path) -> None:
        # Names go into XML, terminals and logs, and `$` in a pattern overlooks a final line break.
        if not is_plain(text):
            self.diagnostics.add(
                place,
                "unprintable",
                f"found {quoted(text)}, expected text without line breaks and control characters",
                path,
            )


def read_tree(text: str | bytes, file: str, diagnostics: Diagnostics) -> Tree | None:
    """Parse `text`; None, and a diagnostic, if it is not the YAML that cede reads."""
    try:
        node = _compose(_decode(text))
    except _TextError as error:
        place = Place(file=file, line=error.line + 1, column=error.column + 1)
        diagnostics.add(place, error.name, str(error))
        return None
    reading = _Reading(file, diagnostics)
    reading.tree.data = reading.take(node, ())
    return reading.tree
