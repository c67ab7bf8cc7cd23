"""A look into the guest: what is told of one virtual slot, and that a spoilt one tells nothing."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.guest import probe
from cede.model.pci import Address
from sim import probe_answers

SLOT = Address.parse("0000:00:00.0")
WHOLE = probe_answers.whole()
BUSYBOX = '00:00.0 "Class 0200" "8086" "10d3" "8086" "0000" "e1000e"\n'
NOISE = "[   12.345678] e1000e 0000:00:00.0 eth0: NIC Link is Up\n"


def sources(said: str) -> list[str]:
    return [view.source for view in probe.parse(said, SLOT).views]


def test_a_whole_probe_answer_reports_what_lspci_sysfs_and_the_kernel_say() -> None:
    found = probe.parse(WHOLE, SLOT)
    assert found.whole
    assert sources(WHOLE) == ["guest lspci", "guest sysfs"]
    assert found.claims == ((0xFE800000, 0xFE81FFFF), (0x7000, 0x701F))
    assert found.log is not None
    assert len(found.log) == 5


def test_busybox_lspci_and_none_at_all_are_distinguished() -> None:
    assert sources(probe_answers.by_busybox(BUSYBOX)) == ["guest busybox lspci", "guest sysfs"]
    assert sources(probe_answers.by_busybox("")) == ["guest sysfs"]


def test_without_sysfs_the_details_of_lspci_are_taken() -> None:
    details = "0000:00:00.0 0200: 8086:10d3\nKernel driver in use: e1000e\n"
    text = f"==lspci\n{probe_answers.RECORD}==details\n{details}==sysfs\n"
    assert sources(probe_answers.framed(text)) == ["guest lspci", "guest lspci -vv"]


def test_a_tool_that_talks_nonsense_has_no_view() -> None:
    assert sources(probe_answers.whole(record="Slot: none\n")) == ["guest sysfs"]


def test_a_slot_where_nothing_is_is_seen_to_be_empty() -> None:
    found = probe.parse(probe_answers.whole("", "", ""), SLOT)
    assert [view.function for view in found.views] == [None, None]
    assert (found.claims, found.log) == ((), None)


def test_claims_are_not_reported_to_others_than_root() -> None:
    hidden = "00000000-00000000 : 0000:00:00.0\n"
    assert probe.parse(probe_answers.whole(kernel=hidden), SLOT).claims is None


def test_line_ends_of_a_console_change_nothing() -> None:
    assert probe.parse(WHOLE.replace("\n", "\r\n"), SLOT) == probe.parse(WHOLE, SLOT)


def test_a_probe_answer_that_is_truncated_anywhere_reports_nothing() -> None:
    for length in range(len(WHOLE)):
        assert probe.parse(WHOLE[:length], SLOT) == probe.ProbeResult()
        assert probe.parse(WHOLE[length + 1 :], SLOT) == probe.ProbeResult()


def test_a_kernel_message_between_lines_is_left_out_and_within_one_it_spoils_the_probe_answer() -> (
    None
):
    for at in range(len(WHOLE)):
        found = probe.parse(WHOLE[:at] + NOISE + WHOLE[at:], SLOT)
        between = at == 0 or WHOLE[at - 1] == "\n"
        assert found == (probe.parse(WHOLE, SLOT) if between else probe.ProbeResult())


@given(st.integers(0, len(WHOLE)), st.integers(1, 400))
def test_a_piece_that_got_lost_spoils_the_probe_answer(start: int, length: int) -> None:
    cut = WHOLE[:start] + WHOLE[start + length :]
    assert probe.parse(cut, SLOT) in (probe.ProbeResult(), probe.parse(WHOLE, SLOT))
    assert cut == WHOLE or probe.parse(cut, SLOT) == probe.ProbeResult()


@given(st.text())
def test_arbitrary_text_reports_nothing_and_raises_nothing(said: str) -> None:
    assert probe.parse(said, SLOT) == probe.ProbeResult()


PARTS = [
    *probe_answers.KERNEL.splitlines(),
    *probe_answers.RECORD.splitlines(),
    *probe_answers.SYSFS.splitlines(),
]
TITLES = ["==lspci", "==details", "==sysfs", "==busybox", "==x"]


@given(st.lists(st.sampled_from([*PARTS, *TITLES, "x"]).filter(bool)))
def test_whole_lines_in_any_order_make_a_probe_answer_or_none_and_raise_nothing(
    lines: list[str],
) -> None:
    said = probe_answers.framed("\n".join(lines))
    found = probe.parse(said, SLOT)
    assert found.whole or found == probe.ProbeResult()
    assert probe.parse(said.replace("==end ", "==end 1"), SLOT) == probe.ProbeResult()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_is_one_line_that_a_shell_answers_with_a_whole_probe_answer(shell: str) -> None:
    """Whatever this machine has: the slot is one where nothing can be."""
    nowhere = Address.parse("ffff:ff:1f.7")
    command = probe.command(nowhere)
    assert len(command) < 700
    assert "\n" not in command
    said = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True).stdout
    found = probe.parse(said, nowhere)
    assert found.whole
    assert all(view.function is None for view in found.views)
