"""Editing a domain's persistent XML while another tool edits it, too: neither one's change is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

import pytest

from cede.adapters.libvirt.connection import Libvirt
from cede.domain_xml import document
from cede.errors import WorldMovedError
from cede.model.pci import Address
from sim.changed_xml import attached, detached, owned
from unit.raises import raises

NIC = Address(0, 1, 0, 0)
PV1 = """\
<domain type='xen'>
  <name>pv1</name>
  <memory unit='KiB'>262144</memory>
  <devices>
    <console type='pty'/>
  </devices>
</domain>
"""
Edit = Callable[[str], str]


class Connection:
    """One domain; `edits` are another person's, one before each call."""

    def __init__(self, *edits: Edit) -> None:
        self.xml = PV1
        self.edits = deque(edits)
        self.flags: set[int] = set()
        self.calls: list[str] = []

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def lookupByName(self, _name: str) -> Connection:  # noqa: N802 - libvirt's name
        return self

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 - libvirt's name
        self.flags.add(flags)
        self._somebody()
        return self.xml

    def defineXML(self, text: str) -> None:  # noqa: N802 - libvirt's name
        self.calls.append("define")
        self.xml = text

    def attachDeviceFlags(self, text: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        assert flags == 2, "VIR_DOMAIN_AFFECT_CONFIG"
        self._does("attach", lambda: attached(self.xml, text))

    def detachDeviceFlags(self, text: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        assert flags == 2, "VIR_DOMAIN_AFFECT_CONFIG"
        self._does("detach", lambda: detached(self.xml, text))

    def setMetadata(  # noqa: N802 - libvirt's name
        self, kind: int, text: str | None, prefix: str, uri: str, flags: int
    ) -> None:
        assert (kind, prefix, uri, flags) == (2, "cede", "urn:cede:assignments:1", 2)
        self._does("note", lambda: owned(self.xml, text))

    def _does(self, name: str, change: Callable[[], str]) -> None:
        self.calls.append(name)
        self._somebody()
        self.xml = change()

    def _somebody(self) -> None:
        if self.edits:
            self.xml = self.edits.popleft()(self.xml)


def adapter(connection: Connection) -> Libvirt:
    made = Libvirt.__new__(Libvirt)
    made._opened = connection
    made._opening = Lock()
    return made


def given(read: str) -> str:
    return document.with_hostdev(read, NIC, "ua-cede-nic0", permissive=True, policy="policy.yaml")


def taken(read: str) -> str:
    return document.without_hostdev(read, NIC)


def switched_on(read: str) -> str:
    return document.with_features(read, ["passthrough"])


def nothing(read: str) -> str:
    return read


def retitled(read: str) -> str:
    return read.replace("<devices>", "<title>theirs</title><devices>")


def grown(read: str) -> str:
    return read.replace("262144", "2621440")


@pytest.mark.parametrize("before", range(4))
def test_a_hostdev_is_added_whatever_another_tool_changes_at_any_moment(before: int) -> None:
    connection = Connection(*[nothing] * before, retitled)
    assert adapter(connection).redefine("pv1", given)
    assert connection.calls == ["note", "attach"]
    assert "theirs" in connection.xml or before == 3
    found = document.domain(None, connection.xml)
    assert [(h.address, h.alias, h.write_filtering) for h in found.config] == [
        (NIC, "ua-cede-nic0", False)
    ]
    assert [(m.name, m.policy) for m in found.ownership] == [("nic0", "policy.yaml")]


@pytest.mark.parametrize("before", range(4))
def test_a_hostdev_is_removed_whatever_another_tool_changes_at_any_moment(before: int) -> None:
    connection = Connection(*[nothing] * before, retitled)
    connection.xml = given(PV1)
    assert adapter(connection).redefine("pv1", taken)
    assert connection.calls == ["detach", "note"]
    assert "theirs" in connection.xml or before == 3
    found = document.domain(None, connection.xml)
    assert (found.config, found.ownership) == ((), ())


def test_a_hostdev_that_comes_back_to_its_note_is_announced_all_the_same() -> None:
    """Of hostdevs libvirt's Xen driver has no event, and other tools look again at that of the metadata."""
    connection = Connection()
    connection.xml = given(PV1)
    hostdev = document.hostdev_as_shown(connection.xml, NIC)
    assert hostdev is not None
    connection.xml = connection.xml.replace(hostdev, "")
    assert adapter(connection).redefine("pv1", given)
    assert connection.calls == ["attach", "note"]


def test_another_edit_defines_what_was_read_right_before() -> None:
    connection = Connection(nothing, retitled)
    assert adapter(connection).redefine("pv1", switched_on)
    assert connection.calls == ["define"]
    assert "theirs" in connection.xml
    assert document.domain(None, connection.xml).passthrough


def test_a_hostdev_that_is_adopted_takes_a_definition_for_it_must_not_be_gone_in_between() -> None:
    connection = Connection()
    connection.xml = document.with_hostdev(PV1, NIC, "ua-theirs")
    assert adapter(connection).redefine(
        "pv1", lambda read: document.adopted(read, NIC, "ua-cede-nic0", "policy.yaml")
    )
    assert connection.calls == ["define"]


def test_another_tool_that_makes_the_same_edit_meanwhile_has_made_it() -> None:
    connection = Connection(nothing, switched_on)
    assert not adapter(connection).redefine("pv1", switched_on)
    assert connection.calls == []


def test_an_xml_that_keeps_changing_is_left_alone() -> None:
    connection = Connection(*[grown] * 100)
    with raises(WorldMovedError, "xml-keeps-changing", "pv1"):
        adapter(connection).redefine("pv1", switched_on)
    assert connection.calls == []


def test_secrets_stay_in_what_is_defined() -> None:
    connection = Connection()
    adapter(connection).redefine("pv1", switched_on)
    assert connection.flags == {1 | 2}, "VIR_DOMAIN_XML_SECURE and VIR_DOMAIN_XML_INACTIVE"
