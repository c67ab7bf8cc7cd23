"""PCI addresses in every spelling that people and tools use."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.model.pci import Address

ADDRESSES = st.builds(
    Address,
    segment=st.integers(0, 0xFFFF) | st.integers(0, 0xFFFFFFFF),
    bus=st.integers(0, 0xFF),
    slot=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)


@pytest.mark.parametrize(
    ("spelling", "resolve_assignment"),
    [
        ("0000:01:00.0", Address(0, 1, 0, 0)),
        ("01:00.0", Address(0, 1, 0, 0)),
        ("1:0.0", Address(0, 1, 0, 0)),
        ("(01:00.0)", Address(0, 1, 0, 0)),
        ("(0000:01:00.0)", Address(0, 1, 0, 0)),
        ("pci_0000_01_00_0", Address(0, 1, 0, 0)),
        ("0000:00:00.00", Address(0, 0, 0, 0)),
        ("0000:00:1f.07", Address(0, 0, 0x1F, 7)),
        (" 0000:0A:1F.7 \n", Address(0, 0x0A, 0x1F, 7)),
        ("ABCD:EF:1e.3", Address(0xABCD, 0xEF, 0x1E, 3)),
        ("10000:e1:00.0", Address(0x10000, 0xE1, 0, 0)),  # behind Intel's VMD
        ("pci_10000_e1_00_0", Address(0x10000, 0xE1, 0, 0)),
    ],
)
def test_a_spelling_means_one_address(spelling: str, resolve_assignment: Address) -> None:
    assert Address.parse(spelling) == resolve_assignment


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "nic0",
        "01:00",
        "01:00.8",
        "01:00.00",
        "01-00.0",
        "0x01:00.0",
        "100000000:01:00.0",
        "0000:001:00.0",
        "(01:00.0",
        "(01:00.00",
        "01:00.0)",
        "pci_0000_1_00_0",
        "pci_0000_01_00_0_extra",
        "0000:01:00.0\n0000:02:00.0",
        "01:00.٣",
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(spelling: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(spelling))):
        Address.parse(spelling)


def test_a_slot_that_no_bus_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"slot 0x20\b.*\b0x1f"):
        Address.parse("01:20.0")


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ((-1, 0, 0, 0), "segment -0x1"), ((1 << 32, 0, 0, 0), "segment 0x100000000"), ((0, 0x100, 0, 0), "bus 0x100"),
        ((0, 0, 0x20, 0), "slot 0x20"), ((0, 0, 0, 8), "function 0x8"),
    ],
)  # fmt: skip
def test_no_address_is_made_of_parts_out_of_range(
    parts: tuple[int, int, int, int], wrong: str
) -> None:
    with pytest.raises(ValueError, match=wrong):
        Address(*parts)


@given(ADDRESSES)
def test_its_own_spelling_reads_back(address: Address) -> None:
    assert Address.parse(str(address)) == address


@given(ADDRESSES)
def test_libvirts_name_reads_back(address: Address) -> None:
    assert Address.parse(address.node_device) == address


@given(ADDRESSES)
def test_capitals_and_brackets_change_nothing(address: Address) -> None:
    assert Address.parse(f"({str(address).upper()})") == address


@given(ADDRESSES, ADDRESSES)
def test_addresses_of_xens_segments_sort_as_their_spellings_do(
    one: Address, other: Address
) -> None:
    if not (one.beyond_xen or other.beyond_xen):
        assert (one < other) == (str(one) < str(other))


@given(st.text())
def test_arbitrary_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    with suppress(ValueError):
        Address.parse(text)


def test_a_devfn_is_slot_and_function_on_bus_0() -> None:
    assert Address.from_devfn(0x0F) == Address(0, 0, 1, 7)


def test_one_bus_is_shared_only_within_one_segment() -> None:
    address = Address(0, 2, 0, 0)
    assert address.same_bus(Address(0, 2, 0, 1))
    assert not address.same_bus(Address(0, 3, 0, 0))
    assert not address.same_bus(Address(1, 2, 0, 0))


def test_xen_has_no_number_for_a_segment_above_its_16_bits() -> None:
    assert not Address(0xFFFF, 0, 0, 0).beyond_xen
    assert Address(0x10000, 0, 0, 0).beyond_xen
