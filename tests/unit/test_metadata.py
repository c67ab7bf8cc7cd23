"""cede's notes in a domain's metadata: whose a device is, beside what others keep there."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from cede.domain_xml import document as domain_xml_document
from cede.domain_xml import metadata
from cede.errors import PermanentError
from cede.model.domain import Ownership
from cede.model.pci import Address
from unit.raises import raises

SCHEMA = Path(__file__).parents[2] / "schemas/metadata.rng"
NIC, OTHER = Address(0, 1, 0, 0), Address(0, 2, 0, 1)
NOTE = Ownership(name="nic0", address=NIC, policy="/etc/cede/policy.yaml")
FOREIGN = '<boxes:box xmlns:boxes="urn:boxes"><boxes:name>mine</boxes:name></boxes:box>'
BARE = "<domain>{}<name>g</name><uuid>u</uuid><devices/></domain>"
DOCUMENTS = st.sampled_from(
    [
        BARE.format(""),
        BARE.format("\n  "),
        BARE.format(f"<metadata>{FOREIGN}</metadata>"),
        BARE.format(f"\n  <metadata>\n    {FOREIGN}\n  </metadata>\n  "),
        BARE.format(f"<metadata>{FOREIGN}<!-- ours --></metadata>"),
        BARE.format("<metadata>\n    <!-- a comment alone -->\n  </metadata>"),
        (Path(__file__).parent.parent / "golden/crowded.xml").read_text(encoding="utf-8"),
        (Path(__file__).parent.parent / "golden/pv_inactive.xml").read_text(encoding="utf-8"),
    ]
)
ADDRESSES = st.builds(Address, st.just(0), st.integers(0, 3), st.integers(0, 3), st.integers(0, 7))
# all that XML 1.0 can hold in an attribute, and some that looks like more than it is
TEXTS = st.text(
    st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")
)
HOSTILE = st.sampled_from(["'\"<>&", "]]>", "&lt;", "<!--", "../../etc", "ä€😀", "a\tb\nc", " "])
NOTES = st.lists(
    st.builds(
        Ownership,
        name=st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z"),
        address=ADDRESSES,
        policy=TEXTS | HOSTILE,
    ),
    unique_by=lambda mark: mark.address,
    max_size=4,
)


def tree_of(text: str) -> etree._Element:
    return etree.fromstring(text.encode())


def with_notes(text: str, *notes: Ownership) -> str:
    for note in notes:
        text = metadata.added(text, note)
    return text


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMA))


@given(DOCUMENTS, NOTES)
def test_what_was_mentioned_is_read_again(document: str, notes: list[Ownership]) -> None:
    assert metadata.read(tree_of(with_notes(document, *notes))) == tuple(notes)


@given(DOCUMENTS, NOTES)
def test_what_was_mentioned_fits_the_schema(
    schema: etree.RelaxNG, document: str, notes: list[Ownership]
) -> None:
    tree = tree_of(with_notes(document, *notes))
    elements = tree.findall(f"./metadata/{{{metadata.NAMESPACE}}}assignments")
    assert len(elements) == bool(notes)
    for element in elements:
        schema.assertValid(element)


@given(DOCUMENTS, NOTES, st.randoms(use_true_random=False))
def test_what_was_mentioned_is_removed_in_any_order_without_a_trace(
    document: str, notes: list[Ownership], order: Random
) -> None:
    text = with_notes(document, *notes)
    order.shuffle(notes)
    for note in notes:
        left = metadata.removed(text, note.address)
        assert left != text
        assert metadata.removed(left, note.address) is left
        text = left
    assert text == document


@pytest.mark.parametrize("body", [f"<metadata>{FOREIGN}</metadata>", ""])
def test_a_hostdev_comes_and_goes_with_its_ownership_metadata_and_leaves_what_others_keep(
    body: str,
) -> None:
    before = BARE.format(body)
    added = domain_xml_document.with_hostdev(before, NIC, "ua-cede-nic0", policy=NOTE.policy)
    assert domain_xml_document.domain(None, added).ownership == (NOTE,)
    assert FOREIGN in added or not body
    removed = domain_xml_document.without_hostdev(added, NIC)
    assert removed == before


def test_ownership_metadata_goes_even_if_the_administrator_took_the_hostdev() -> None:
    text = with_notes(BARE.format(""), NOTE)
    assert domain_xml_document.without_hostdev(text, NIC) == BARE.format("")


def test_later_ownership_metadata_takes_the_place_of_earlier_on_the_same_address() -> None:
    other = Ownership(name="nic1", address=OTHER, policy="a")
    text = with_notes(BARE.format(""), NOTE, other, NOTE)
    assert [mark.name for mark in metadata.read(tree_of(text))] == ["nic1", "nic0"]


@pytest.mark.parametrize("policy", ["a\0b", "a\x1bb", "a\udcffb", "\ufffe"])
def test_a_path_that_xml_cant_hold_is_an_error_that_says_so(policy: str) -> None:
    with raises(PermanentError, "unprintable") as raised:
        domain_xml_document.with_hostdev(BARE.format(""), NIC, "ua-cede-nic0", policy=policy)
    assert raised.value.remedy


@pytest.mark.parametrize(
    "owned",
    [
        "<c:device name='nic0' address='nonsense' policy='p'/>",
        "<c:device name='nic0' address='0000:01:1f.8' policy='p'/>",
        "<c:device name='nic0' policy='p'/>",
        "<c:device name='' address='0000:01:00.0' policy='p'/>",
        "<c:device address='0000:01:00.0' policy='p'/>",
        "<device name='nic0' address='0000:01:00.0' policy='p'/>",
        "<c:other name='nic0' address='0000:01:00.0' policy='p'/>",
        "<c:device><c:device name='nic0' address='0000:01:00.0'/></c:device>",
    ],
)
def test_what_cant_be_read_is_no_ownership_metadata_and_stays(
    schema: etree.RelaxNG, owned: str
) -> None:
    element = f"<c:assignments xmlns:c='{metadata.NAMESPACE}'>{owned}</c:assignments>"
    text = BARE.format(f"<metadata>{element}</metadata>")
    assert metadata.read(tree_of(text)) == ()
    assert domain_xml_document.without_hostdev(text, NIC) is text
    assert not schema.validate(tree_of(element))


def test_ownership_metadata_of_another_namespace_or_elsewhere_in_the_document_is_none() -> None:
    device = "<c:device name='nic0' address='0000:01:00.0' policy='p'/>"
    for namespace, where in (
        ("urn:cede:assignments:2", "<metadata>{}</metadata>"),
        (metadata.NAMESPACE, "<description>{}</description>"),
        (metadata.NAMESPACE, "{}"),
        (metadata.NAMESPACE, "<devices><metadata>{}</metadata></devices>"),
    ):
        inside = where.format(f"<c:assignments xmlns:c='{namespace}'>{device}</c:assignments>")
        assert metadata.read(tree_of(BARE.format(inside))) == ()
