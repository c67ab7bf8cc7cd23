"""What is on in a card, read from its configuration space; a list of capabilities may run in a circle."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.config_space import isolation, makes_conventional, own_reset, switched_on
from cede.model.pci import Isolation, Reset, SwitchedOn

COMMAND, STATUS, FIRST = 0x04, 0x06, 0x34


def space(command: int, *capabilities: tuple[int, int], status: int = 0x10) -> bytes:
    """A header with these capabilities, each its kind and its control word, one behind the other."""
    said = bytearray(256)
    struct.pack_into("<HH", said, COMMAND, command, status)
    said[FIRST] = 0x40 if capabilities else 0
    for number, (kind, control) in enumerate(capabilities):
        at = 0x40 + 0x10 * number
        following = at + 0x10 if number + 1 < len(capabilities) else 0
        struct.pack_into("<BBH", said, at, kind, following, control)
    return bytes(said)


def reported(said: bytes) -> SwitchedOn | None:
    return switched_on(lambda offset, size: said[offset : offset + size])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (space(0), "memory off, bus master off, no MSI"),
        (space(0x107), "memory on, bus master on, no MSI"),
        (space(0x3), "memory on, bus master off, no MSI"),
        (space(0x6, (0x01, 0), (0x05, 0x81)), "memory on, bus master on, MSI on"),
        (space(0x6, (0x05, 0x80), (0x11, 0x8004)), "memory on, bus master on, MSI-X on"),
        (space(0x6, (0x05, 0x80), (0x11, 0x4004)), "memory on, bus master on, no MSI"),
        (space(0x6, (0x05, 0x81), status=0), "memory on, bus master on, no MSI"),
    ],
)
def test_command_and_message_interrupts_are_reported(said: bytes, expected: str) -> None:
    assert str(reported(said)) == expected


@pytest.mark.parametrize("said", [b"", b"\xff" * 256, b"\x00" * 5])
def test_a_card_that_does_not_answer_reports_nothing(said: bytes) -> None:
    assert reported(said) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (space(0, (0x10, 0x0072)), True),
        (space(0, (0x01, 0), (0x10, 0x0072)), True),
        (space(0, (0x0D, 0)), True),
        (space(0), True),
        (space(0, (0x10, 0x0042)), False),
        (space(0, (0x10, 0x0062)), False),
        (b"", None),
        (b"\xff" * 256, None),
    ],
    ids=[
        *(
            "from-express",
            "from-express-later",
            "conventional",
            "without-capabilities",
            "root-port",
        ),
        *("switch-port", "gone", "silent"),
    ],
)
def test_a_bridge_with_a_conventional_bus_behind_it_is_known(
    said: bytes, expected: bool | None
) -> None:
    assert makes_conventional(lambda offset, size: said[offset : offset + size]) is expected


@given(st.binary(max_size=256))
def test_any_bytes_are_read_to_an_end(said: bytes) -> None:
    reported(said)
    makes_conventional(lambda offset, size: said[offset : offset + size])


def test_a_circle_of_capabilities_ends() -> None:
    said = bytearray(space(0x6, (0x05, 0x80), (0x11, 0x8004)))
    said[0x51] = 0x40
    assert str(reported(bytes(said))).endswith("MSI-X on")


def with_acs(port: int, *acs: int) -> bytes:
    """A PCI Express function of that type; `acs` is its capability word and its control word, if it has any."""
    head = space(0, (0x01, 0), (0x10, port << 4 | 2)).ljust(256, b"\0")
    extended = bytearray(4096 - 256)
    if acs:
        struct.pack_into("<I", extended, 0, 0x1 | 1 << 16 | 0x140 << 20)
        struct.pack_into("<IHH", extended, 0x40, 0xD | 1 << 16, *acs)
    return head + bytes(extended)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (with_acs(4), Isolation(port=4, redirects=False)),
        (with_acs(4, 0x1F, 0x1D), Isolation(port=4, redirects=True)),
        (with_acs(6, 0x5F, 0x5D), Isolation(port=6, redirects=True)),
        (with_acs(6, 0x1F, 0x00), Isolation(port=6, redirects=False)),
        (with_acs(6, 0x1F, 0x15), Isolation(port=6, redirects=False)),
        (with_acs(0, 0x00, 0x00), Isolation(port=0, redirects=True)),
        (with_acs(4, 0x01, 0x01), Isolation(port=4, redirects=True)),
        (with_acs(7, 0x1F, 0x1D), Isolation(port=7, redirects=True)),
        (space(0, (0x01, 0)), Isolation(port=None, redirects=False)),
        (with_acs(4, 0x1F, 0x1D)[:256], None),
        (with_acs(4, 0x1F, 0x1D)[:64], None),
        (b"\xff" * 4096, None),
        (b"", None),
    ],
)
def test_what_keeps_peers_apart_is_found_or_unknown(
    said: bytes, expected: Isolation | None
) -> None:
    assert isolation(lambda offset, size: said[offset : offset + size]) == expected


@given(st.binary(max_size=600))
def test_the_search_for_what_keeps_peers_apart_ends_on_any_bytes(said: bytes) -> None:
    isolation(lambda offset, size: said[offset : offset + size])


@pytest.mark.parametrize(
    ("control", "masked"),
    [(0x8004, False), (0xC004, True), (0x4004, True), (0x0004, False)],
    ids=["Enable+ Masked-", "Enable+ Masked+", "Enable- Masked+", "Enable- Masked-"],
)
def test_the_mask_over_all_msix_interrupts_is_read(control: int, *, masked: bool) -> None:
    found = reported(space(0x6, (0x01, 0), (0x11, control)))
    assert found is not None
    assert found.msix_masked is masked


def test_capabilities_that_only_root_may_read_are_not_told() -> None:
    said = space(0x6, (0x11, 0xC004))[:64]
    assert reported(said) is None
    without = space(0x6, status=0)[:64]
    assert str(reported(without)) == "memory on, bus master on, no MSI"


# the first 256 bytes of real cards as they were published, and how each resets alone by what lspci printed of it:
# FLReset+ or AFCap's FLR+ is flr, NoSoftRst- is pm
PUBLISHED = json.loads(Path(__file__).with_name("published_config_spaces.json").read_text())


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: str(one["identity"]))
def test_how_a_published_card_resets_is_what_lspci_told_of_it(
    published: dict[str, str | list[str]],
) -> None:
    said = bytes.fromhex("".join(published["space"]))
    assert (
        f"{int.from_bytes(said[:2], 'little'):04x}:{int.from_bytes(said[2:4], 'little'):04x}"
        == (published["identity"])
    )
    assert own_reset(lambda at, size: said[at : at + size]) == Reset(str(published["reset"]))
