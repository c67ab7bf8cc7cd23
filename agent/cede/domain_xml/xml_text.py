"""XML as a text in which the place of each element is known: an edit changes the bytes it is about, and no others.

A tree that is written anew loses quotes, the order of attributes, the declaration and white space outside the root. So
one parser says what the elements are, and another where they stand in the text.

What is added can be taken out again without a trace. For that the white space around the first child of an element
tells what the element was before: see `XmlText.with_child`.

Sources: https://www.w3.org/TR/xml/; expat.h (XML_GetCurrentByteIndex, XML_SetDefaultHandler).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.parsers import expat

from lxml import etree

from cede.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_BLANK = b" \t\r\n"  # white space as XML has it
_ATTRIBUTE = re.compile(rb"""\s([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG = re.compile(rb"<([^\s/>]+)")
# the standard library's xml.sax.saxutils would do it, and brings in urllib.request, a sixth of what a command imports
_ESCAPED = str.maketrans({
    "&": "&amp;", "<": "&lt;", ">": "&gt;",
    "\t": "&#9;", "\n": "&#10;", "\r": "&#13;", "'": "&apos;", '"': "&quot;",
})  # fmt: skip


def parsed(xml: str) -> etree._Element:
    """Parse XML from libvirt, without entities and without network. Raises PermanentError if malformed."""
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=False,
    )
    try:
        return etree.fromstring(xml.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _malformed(error) from error


def _malformed(error: object) -> PermanentError:
    return PermanentError(f"libvirt sent malformed XML: {error}", name="unreadable-xml")


def attribute(value: str) -> str:
    """Return the text as it stands between quotes of either kind. Raises ValueError for text that XML can't hold."""
    etree.Element("any", any=value)
    return value.translate(_ESCAPED)


def nested(tags: Sequence[str], child: str, depth: int) -> str:
    """Return the child in elements of these start tags (`features`, `a b='c'`), each on a line of its own.

    `depth` is that of the first of them below the root.
    """
    if not tags:
        return child
    first, *others = tags
    inner = nested(others, child, depth + 1)
    return f"<{first}>{_line(depth + 1)}{inner}{_line(depth)}</{_name(first)}>"


def _child(parent: etree._Element, tag: str) -> etree._Element | None:
    return next((child for child in parent if child.tag == _name(tag)), None)


def _name(tag: str) -> str:
    return tag.partition(" ")[0]


def _line(depth: int) -> str:
    """A line's end and the indentation of an element that is `depth` below the root, as libvirt has it."""
    return "\n" + "  " * depth


def _line_below(child: str, parent: etree._Element) -> bytes:
    return _line_beside("  " + child, parent)


def _line_beside(text: str, element: etree._Element) -> bytes:
    return (_line(sum(1 for _ in element.iterancestors())) + text).encode()


@dataclass(slots=True)
class _Place:
    """Where an element stands, in bytes: `<a>` from `start` to `inside`, `</a>` from `until` to `end`.

    In `<a/>` the last three are one.
    """

    start: int
    inside: int = -1
    until: int = -1
    end: int = -1


class XmlText:
    """An XML document; `root` is its tree, and each edit returns the text that it makes of it.

    Raises PermanentError if it is malformed.
    """

    def __init__(self, xml: str) -> None:
        self.root = parsed(xml)
        self._text = xml.encode()
        elements, places = list(self.root.iter(etree.Element)), _places(self._text)
        if len(elements) != len(places):
            raise _malformed("two parsers find different elements in it")
        self._places = dict(zip(elements, places, strict=True))

    def with_next(self, element: etree._Element, following: str) -> str:
        """Add `following` right after an element, on a line of its own."""
        end = self._places[element].end
        return self._with(end, end, _line_beside(following, element))

    def with_child(self, parent: etree._Element, child: str) -> str:
        """Add `child` as the last one, on a line of its own.

        The first child of an empty element stands so that `without` knows what to leave of the element:
        `<p/>` is now `<p><child/></p>`, `<p></p>` has a line's end before the child, and `<p> </p>` none. In an element
        that came with it (`nested`) there are line's ends before and after.
        """
        place = self._places[parent]
        content = self._text[place.inside : place.until]
        left = len(content.rstrip(_BLANK))
        if place.inside == place.end:
            tag = _TAG.match(self._text, place.start)
            name = b"" if tag is None else tag[1]
            opened = b">" + child.encode() + b"</" + name + b">"
            return self._with(place.inside - len(b"/>"), place.end, opened)
        at = place.inside + left
        alone = content and not left
        return self._with(at, at, child.encode() if alone else _line_below(child, parent))

    def with_descendant(
        self, tags: Sequence[str], child: str, *, after: Collection[str] = ()
    ) -> str:
        """Add `child` below the root in elements of these start tags, of which missing ones are made.

        The first of them, if missing, comes after those children of the root that are named in `after`.
        """
        parent, missing = self.root, list(tags)
        while missing and (found := _child(parent, missing[0])) is not None:
            parent = found
            del missing[0]
        made = nested(missing, child, 1 + len(tags) - len(missing))
        before = [one for one in parent if one.tag in after] if parent is self.root else []
        return self.with_next(before[-1], made) if before else self.with_child(parent, made)

    def without(self, element: etree._Element) -> str:
        """Remove the element with the white space before it, and parents that came with it; the root stays."""
        parent = element.getparent()
        if parent is None:
            return self._text.decode()
        place, around = self._places[element], self._places[parent]
        before = len(self._text[: place.start].rstrip(_BLANK))
        after = place.end + _blanks(self._text[place.end : around.until])
        if before != around.inside or after != around.until:  # it has neighbours
            leads = before == place.start == around.inside
            return self._with(before, after if leads else place.end, b"")
        if before < place.start and place.end < after and parent is not self.root:
            return self.without(parent)
        if before == place.start and place.end == after:
            return self._with(around.inside - len(b">"), around.end, b"/>")
        return self._with(before, place.end, b"")

    def with_attribute(self, element: etree._Element, name: str, value: str) -> str:
        """Set the attribute, in its quotes if it is there. Raises ValueError for text that XML can't hold."""
        place, text = self._places[element], attribute(value).encode()
        for found in _ATTRIBUTE.finditer(self._text, place.start, place.inside):
            if found[1] == name.encode():
                return self._with(found.start(2) + 1, found.end(2) - 1, text)
        tag = self._text[place.start : place.inside]
        end = place.start + len(tag.removesuffix(b">").removesuffix(b"/").rstrip(_BLANK))
        return self._with(end, end, b" " + name.encode() + b"='" + text + b"'")

    def shown(self, element: etree._Element) -> str:
        """Return the element as it stands in the text."""
        place = self._places[element]
        return self._text[place.start : place.end].decode()

    def _with(self, start: int, end: int, text: bytes) -> str:
        return (self._text[:start] + text + self._text[end:]).decode()


def _blanks(text: bytes) -> int:
    return len(text) - len(text.lstrip(_BLANK))


def _places(text: bytes) -> list[_Place]:
    """Return where each element stands, in the order of their starts; entities are left as they are."""
    parser = expat.ParserCreate("utf-8")
    places: list[_Place] = []
    opened: list[_Place] = []

    def content(_text: str = "") -> None:
        """A start tag ends where the next thing begins."""
        if places and places[-1].inside < 0:
            places[-1].inside = parser.CurrentByteIndex

    def start(_name: str, _attributes: object) -> None:
        content()
        places.append(_Place(parser.CurrentByteIndex))
        opened.append(places[-1])

    def end(_name: str) -> None:
        content()
        place, at = opened.pop(), parser.CurrentByteIndex
        place.until = place.end = at
        if at != place.inside or text[at - 2 : at] != b"/>":  # else the tag was an empty element's
            place.end = text.index(b">", at) + 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.DefaultHandler = content
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError) as error:
        raise _malformed(error) from error
    return places
