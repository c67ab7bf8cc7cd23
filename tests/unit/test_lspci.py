"""What a guest's lspci prints, read strictly: a stranger wrote it, and a line may be cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.address import Address
from cede.guest.lspci import GuestDevice, parse

NIC = """\
Slot:\t0000:00:00.0
Class:\t0200
Vendor:\t8086
Device:\t10d3
SVendor:\t8086
SDevice:\t0000
PhySlot:\t0
ProgIf:\t00
Driver:\te1000e
Module:\te1000e

"""
TWO_PORTS = """\
Slot:\t0000:02:00.0
Class:\t0200
Vendor:\t8086
Device:\t100e
SVendor:\t1af4
SDevice:\t1100
PhySlot:\t0-2
Rev:\t03
ProgIf:\t00
Driver:\te1000
Module:\te1000
Module:\te1000_compat

Slot:\t0000:02:00.1
Class:\t0200
Vendor:\t8086
Device:\t100e
SVendor:\t1af4
SDevice:\t1100
Rev:\t03

"""
RECORDED = {
    NIC: [GuestDevice(slot=Address(0, 0, 0, 0), vendor="8086", device="10d3", driver="e1000e")],
    TWO_PORTS: [
        GuestDevice(slot=Address(0, 2, 0, 0), vendor="8086", device="100e", driver="e1000"),
        GuestDevice(slot=Address(0, 2, 0, 1), vendor="8086", device="100e", driver=None),
    ],
    "": [],
}
BOTH = NIC + TWO_PORTS


@pytest.mark.parametrize("text", RECORDED)
def test_what_lspci_printed_is_what_the_guest_has(text: str) -> None:
    assert list(parse(text)) == RECORDED[text]


def test_line_ends_of_a_console_change_nothing() -> None:
    assert parse(BOTH.replace("\n", "\r\n")) == parse(BOTH)


@pytest.mark.parametrize("length", range(len(BOTH)))
def test_what_is_cut_off_is_left_out_and_nothing_else_is_made_of_it(length: int) -> None:
    whole = parse(BOTH)
    cut = parse(BOTH[:length])
    assert cut == whole[: len(cut)]


@pytest.mark.parametrize("start", range(len(BOTH)))
def test_what_begins_in_the_middle_is_left_out_too(start: int) -> None:
    whole = parse(BOTH)
    rest = parse(BOTH[start:])
    assert rest == whole[len(whole) - len(rest) :]


@pytest.mark.parametrize("at", range(len(NIC)))
def test_a_kernel_message_in_the_middle_makes_no_other_device(at: int) -> None:
    message = "[   12.345678] e1000e 0000:00:00.0 eth0: NIC Link is Up\n"
    assert set(parse(NIC[:at] + message + NIC[at:])) <= set(parse(NIC))


def test_two_records_that_ran_together_lend_each_other_nothing() -> None:
    without_driver = "Slot:\t0000:00:00.0\nVendor:\t8086\nDevice:\t10d3\n"
    assert parse(without_driver + TWO_PORTS) == parse(TWO_PORTS)[1:]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("Slot:\t0000:00:00.0", "Slot:\t0000:00:00.9"),
        ("Slot:\t0000:00:00.0", "Slot:\t\x1b[2J"),
        ("Vendor:\t8086", "Vendor:\tIntel Corporation [8086]"),
        ("Vendor:\t8086", "Vendor:\t808"),
        ("Device:\t10d3", "Device:\t"),
        ("Device:\t10d3", "Device:\t10D3"),
        ("Driver:\te1000e", "Driver:\te1000e; rm -rf /"),
        ("Driver:\te1000e", "Driver:\t" + "x" * 65),
        ("Driver:\te1000e", "Driver:\t\u202ee1000e"),
        ("Driver:\te1000e", "Driver: e1000e"),
        ("Driver:\te1000e\n", "Driver:\tvfio-pci\nDriver:\te1000e\n"),
    ],
)
def test_a_record_that_is_malformed_is_left_out(field: str, said: str) -> None:
    assert field in NIC
    assert parse(NIC.replace(field, said)) == ()


@given(st.text())
def test_arbitrary_text_raises_nothing(text: str) -> None:
    parse(text)


FIELDS = st.lists(
    st.sampled_from([*BOTH.splitlines(keepends=True), "\n", "rubbish\n", "Driver:\tx", "\t", "é"])
)


@given(FIELDS)
def test_lines_in_any_order_give_only_devices_whose_every_field_was_said(
    lines: list[str],
) -> None:
    text = "".join(lines)
    for device in parse(text):
        assert f"Slot:\t{device.slot}\n" in text
        assert f"Vendor:\t{device.vendor}\n" in text
        assert device.driver is None or f"Driver:\t{device.driver}\n" in text
