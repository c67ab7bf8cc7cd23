"""`hide=` of xen-pciback: read as the kernel reads it, which refuses all of it for one wrong bracket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.model.hide_settings import settings
from cede.model.pci import Address
from cede.model.pciback_options import read

addresses = st.builds(
    Address, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)


@given(st.lists(st.tuples(addresses, st.booleans()), max_size=8))
def test_every_list_of_addresses_in_brackets_is_read_back(
    wanted: list[tuple[Address, bool]],
) -> None:
    value = "".join(
        f"({str(at).removeprefix('0000:') if at.segment == 0 and short else at})"
        for at, short in wanted
    )
    found = read(value, "here")
    assert found.bad == ""
    assert [h.covers(at) for h, (at, _) in zip(found.hidden, wanted, strict=True)] == [True] * len(wanted)  # fmt: skip


PIECES = st.sampled_from(
    [
        "(01:00.0)",
        "(0001:02:1f.7)",
        "(03:00.*)",
        "(04:*.*)",
        "(100:00.0)",
        "(",
        ")",
        "05:00.0",
        ",",
        " ",
    ]
)
VALUES = st.lists(PIECES, max_size=8).map("".join)


@given(VALUES | st.text(alphabet="(0123456789abcdef:.*) ,x", max_size=40))
def test_what_is_read_and_what_is_bad_make_up_the_whole(value: str) -> None:
    found = read(value, "here")
    assert value.endswith(found.bad)
    good = value[: len(value) - len(found.bad)]
    assert read(good, "here").bad == ""
    assert len(read(good, "here").hidden) == len(found.hidden)


@given(VALUES | st.text())
def test_nothing_that_is_there_breaks_it(value: str) -> None:
    read(value, "here")
    settings(f"xen-pciback.hide={value}", [("file", value)])


@pytest.mark.parametrize(
    ("entry", "covered", "others"),
    [
        ("(01:00.0)", ["0000:01:00.0"], ["0000:01:00.1", "0001:01:00.0"]),
        ("(0001:01:00.*)", ["0001:01:00.0", "0001:01:00.7"], ["0000:01:00.0", "0001:01:01.0"]),
        ("(01:*.*)", ["0000:01:00.0", "0000:01:1f.7"], ["0000:02:00.0"]),
        ("(0x1:0x0.0x0)", ["0000:01:00.0"], ["0000:10:00.0"]),
    ],
)
def test_a_star_covers_all_functions_or_all_slots(
    entry: str, covered: list[str], others: list[str]
) -> None:
    (hidden,) = read(entry, "here").hidden
    assert all(hidden.covers(Address.parse(at)) for at in covered)
    assert not any(hidden.covers(Address.parse(at)) for at in others)
