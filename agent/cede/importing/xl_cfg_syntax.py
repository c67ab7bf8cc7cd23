"""The text of an xl.cfg -> its settings, each value with its place.

The grammar is xl's own: `name = value` or `name += value`, ended by a line's end or a semicolon; a value is a string in
either quotes, a number, or a list in brackets, which may go over several lines. What xl refuses
is refused here too: a line that can't be parsed may be the one that matters.
Source: tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y, libxlu_cfg.c (xlu__cfgl_dequote).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from cede.model.policy import Place
from cede.policy.diagnostics import Diagnostics, quoted

_DEEPEST = 16
# More lenient than xl where the meaning is plain: the last comment needs no newline, a line may end with CR LF.
_TOKEN = re.compile(
    r"(?P<blank>[ \t]+|\r(?=\n))"
    r"|(?P<newline>(?:\#[^\n]*)?\n|\#[^\n]*\Z)"
    r"|(?P<ident>[a-z][._0-9a-z]*)"
    r"|(?P<number>[0-9][0-9a-fx]*)"
    r"|(?P<string>'(?:[^'\\\n]|\\[^\n])*'|\"(?:[^\"\\\n]|\\[^\n])*\")"
    r"|(?P<sign>\+=|[,\[\]=;])"
    r"|(?P<other>['\"][^\n]*|[^\s,\[\]=;#'\"]+|[\s\S])"
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {
    '"': '"', "'": "'", "\\": "\\",
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """A string or a number, as text; xl does not distinguish them."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list of atoms and lists."""

    items: tuple[Atom | Listed, ...]
    place: Place


Value = Atom | Listed


class _Kind(Enum):
    IDENT = auto()
    NUMBER = auto()
    STRING = auto()
    NEWLINE = auto()
    SIGN = auto()
    OTHER = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    place: Place

    def __str__(self) -> str:
        if self.kind is _Kind.END:
            return "the end of the file"
        return "the end of the line" if self.kind is _Kind.NEWLINE else quoted(self.text)

    def is_sign(self, *signs: str) -> bool:
        return self.kind is _Kind.SIGN and self.text in signs

    @property
    def ends_statement(self) -> bool:
        return self.kind in {_Kind.NEWLINE, _Kind.END} or self.is_sign(";")


class _SyntaxError(Exception):
    """Caught where a statement begins."""

    def __init__(self, token: _Token, name: str, text: str) -> None:
        super().__init__(text)
        self.token = token
        self.name = name


def read_settings(text: str, file: str, diagnostics: Diagnostics) -> dict[str, Value]:
    """Return the value of each name set in `text`: that of the last `=`, with what `+=` adds.

    What can't be parsed is left out with a diagnostic, and parsing goes on in the next line, as in xl. Raises nothing.
    """
    return _Reader(_tokens(text, file), diagnostics).settings()


def _tokens(text: str, file: str) -> Iterator[_Token]:
    line, start = 1, 0
    for match in _TOKEN.finditer(text):
        name = match.lastgroup or "other"
        if name != "blank":
            place = Place(file=file, line=line, column=match.start() - start + 1)
            yield _Token(_Kind[name.upper()], match.group(), place)
        if name == "newline":
            line, start = line + 1, match.end()
    yield _Token(_Kind.END, "", Place(file=file, line=line, column=len(text) - start + 1))


class _Reader:
    """Recursive descent, with one token seen ahead."""

    def __init__(self, tokens: Iterator[_Token], diagnostics: Diagnostics) -> None:
        self._tokens = tokens
        self._ahead = next(tokens)
        self._diagnostics = diagnostics
        self._found: dict[str, Value] = {}

    def settings(self) -> dict[str, Value]:
        while self._ahead.kind is not _Kind.END:
            try:
                self._statement()
            except _SyntaxError as wrong:
                self._diagnostics.add(wrong.token.place, wrong.name, str(wrong))
                while self._ahead.kind not in {_Kind.NEWLINE, _Kind.END}:
                    self._take()
        return self._found

    def _take(self) -> _Token:
        token = self._ahead
        if token.kind is not _Kind.END:
            self._ahead = next(self._tokens)
        return token

    def _statement(self) -> None:
        if self._ahead.ends_statement:
            self._take()
            return
        name, sign = self._take(), self._ahead
        if name.kind is not _Kind.IDENT:
            raise _SyntaxError(
                name, "no-setting", f"{name} is not a setting; xl reads only `name = value`"
            )
        if not sign.is_sign("=", "+="):
            raise _SyntaxError(
                sign, "no-sign", f"{sign} after {name}, where xl expects `=` or `+=`"
            )
        self._take()
        value = self._value(_DEEPEST)
        if not self._ahead.ends_statement:
            raise _SyntaxError(
                self._ahead, "unended-setting", f"{self._ahead} after the value of {name}"
            )
        before = self._found.get(name.text)
        self._found[name.text] = value
        if sign.text == "+=" and before is not None:
            self._found[name.text] = _added(before, value, sign)

    def _value(self, depth: int) -> Value:
        token = self._take()
        if token.kind is _Kind.NUMBER:
            return Atom(text=token.text, place=token.place)
        if token.kind is _Kind.STRING:
            return Atom(text=_unquoted(token), place=token.place)
        if not token.is_sign("["):
            raise _SyntaxError(
                token,
                "no-value",
                f"{token} is not a value; xl reads quoted strings, numbers and lists",
            )
        if depth == 0:
            raise _SyntaxError(token, "nested-too-deep", f"lists within more than {_DEEPEST} lists")
        return Listed(items=tuple(self._items(token, depth - 1)), place=token.place)

    def _items(self, opened: _Token, depth: int) -> Iterator[Value]:
        self._skip_newlines()
        while not self._ahead.is_sign("]"):
            if self._ahead.kind is _Kind.END:
                raise _SyntaxError(opened, "unclosed-list", "this list is never closed")
            yield self._value(depth)
            self._skip_newlines()
            if self._ahead.is_sign(","):
                self._take()
                self._skip_newlines()
            elif not self._ahead.is_sign("]") and self._ahead.text:
                raise _SyntaxError(
                    self._ahead, "no-comma", f"{self._ahead} in a list, where xl expects `,` or `]`"
                )
        self._take()

    def _skip_newlines(self) -> None:
        while self._ahead.kind is _Kind.NEWLINE:
            self._take()


def _added(before: Value, value: Value, sign: _Token) -> Value:
    match before, value:
        case Listed(), Listed():
            return Listed(items=before.items + value.items, place=before.place)
        case Atom(), Atom():
            return Atom(text=before.text + value.text, place=before.place)
    raise _SyntaxError(
        sign, "mixed-types", "a list can't be added to a string, nor a string to a list"
    )


def _unquoted(token: _Token) -> str:
    """Return the text within the quotes. Raises _SyntaxError for an escape that xl refuses or reads wrongly.

    xl drops the very character that a numeric escape stands for.
    """

    def unescape(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise _SyntaxError(
                token, "unknown-escape", f"{quoted(found[0])} in a string, which xl can't read"
            )
        return _ESCAPES[found[1]]

    return _ESCAPE.sub(unescape, token.text[1:-1])
