"""Editing a domain's persistent XML while somebody else edits it, too: neither one's change is lost."""

from __future__ import annotations

from collections import deque
from threading import Lock

import pytest

from cede.errors import WorldMovedError
from cede.host.libvirt import Libvirt


class Connection:
    """One domain, whose XML is a list of words; `edits` are another person's, one before each time it is read."""

    def __init__(self, *edits: str) -> None:
        self.xml = "<domain/>"
        self.edits = deque(edits)
        self.flags: set[int] = set()
        self.defined: list[str] = []

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def lookupByName(self, _name: str) -> Connection:  # noqa: N802 - libvirt's name
        return self

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 - libvirt's name
        self.flags.add(flags)
        if self.edits:
            self.xml += self.edits.popleft()
        return self.xml

    def defineXML(self, text: str) -> None:  # noqa: N802 - libvirt's name
        self.xml = text
        self.defined.append(text)


def door(connection: Connection) -> Libvirt:
    made = Libvirt.__new__(Libvirt)
    made._opened = connection
    made._opening = Lock()
    return made


def with_ours(read: str) -> str:
    return read if "ours" in read else f"{read} ours"


def test_what_somebody_changes_while_the_edit_is_made_is_in_it() -> None:
    connection = Connection("", " theirs")
    assert door(connection).redefine("pv1", with_ours)
    assert connection.defined == ["<domain/> theirs ours"]


def test_somebody_who_makes_the_same_edit_meanwhile_has_made_it() -> None:
    connection = Connection("", " ours")
    assert not door(connection).redefine("pv1", with_ours)
    assert connection.defined == []


def test_an_xml_that_keeps_changing_is_left_alone() -> None:
    connection = Connection(*(f" {number}" for number in range(100)))
    with pytest.raises(WorldMovedError, match="somebody keeps changing the XML of pv1"):
        door(connection).redefine("pv1", with_ours)
    assert connection.defined == []


def test_secrets_stay_in_what_is_defined() -> None:
    connection = Connection()
    door(connection).redefine("pv1", with_ours)
    assert connection.flags == {1 | 2}, "VIR_DOMAIN_XML_SECURE and VIR_DOMAIN_XML_INACTIVE"
