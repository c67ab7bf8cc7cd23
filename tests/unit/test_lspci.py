"""What a guest's lspci prints, read strictly: a stranger wrote it, and a line may be cut anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.guest import pci_function
from cede.guest.pci_function import Interrupt
from cede.model.pci import Address
from sim.probe_answers import RECORD, SYSFS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.guest.pci_function import Function

SLOT = Address(0, 0, 0, 0)
CORPUS = Path(__file__).parents[1] / "corpus"
BUSYBOX = '00:00.0 "Class 0200" "8086" "10d3" "8086" "0000" "e1000e"'
DETAILS = """\
0000:00:00.0 Ethernet controller [0200]: Intel Corporation 82574L Gigabit Network Connection [8086:10d3]
\tSubsystem: Intel Corporation Device [8086:0000]
\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR+ FastB2B- DisINTx+
\tRegion 0: Memory at fe800000 (32-bit, non-prefetchable) [size=128K]
\tRegion 2: I/O ports at 7000 [size=32]
\tCapabilities: [d0] MSI: Enable- Count=1/1 Maskable- 64bit+
\tCapabilities: [a0] MSI-X: Enable+ Count=5 Masked-
\tCapabilities: [140 v1] Device Serial Number 52-54-00-ff-ff-01-00-00
\tKernel driver in use: e1000e
\tKernel modules: e1000e
"""
PLACES = ((0xFE800000, 0xFE81FFFF), (0x7000, 0x701F))
READERS: dict[str, tuple[Callable[[list[str], Address], Function | None], str]] = {
    "records": (pci_function.of_records, RECORD),
    "busybox": (pci_function.of_busybox, BUSYBOX + "\n"),
    "details": (pci_function.of_details, DETAILS),
    "sysfs": (pci_function.of_sysfs, SYSFS),
}


def read(name: str, text: str | None = None, slot: Address = SLOT) -> Function | None:
    reader, whole = READERS[name]
    return reader([line for line in (whole if text is None else text).splitlines() if line], slot)


@pytest.mark.parametrize("name", READERS)
def test_every_tool_reports_the_same_of_one_card(name: str) -> None:
    found = read(name)
    assert found is not None
    assert (found.slot, found.vendor, found.device) == (SLOT, "8086", "10d3")
    assert found.subsystem == "8086:0000"
    assert "020000".startswith(found.class_code or "?")
    assert found.driver in {None, "e1000e"}


@pytest.mark.parametrize("name", ["details", "sysfs"])
def test_what_is_under_the_hood_is_reported_by_details_and_by_sysfs(name: str) -> None:
    found = read(name)
    assert found is not None
    assert (found.regions, found.unassigned) == (PLACES, 0)
    assert found.interrupt is Interrupt.MSIX


@pytest.mark.parametrize("name", READERS)
def test_another_slot_is_another_device(name: str) -> None:
    assert read(name, slot=Address(0, 0, 1, 0)) is None


@pytest.mark.parametrize("name", READERS)
def test_a_truncated_answer_never_reports_another_card_or_another_driver(name: str) -> None:
    whole, text = read(name), READERS[name][1]
    assert whole is not None
    for length in range(len(text)):
        cut = read(name, text[:length])
        if cut is not None:
            assert (cut.vendor, cut.device) == (whole.vendor, whole.device)
            assert whole.driver is None or whole.driver.startswith(cut.driver or "")


@pytest.mark.parametrize(
    ("name", "said", "instead"),
    [
        ("records", "Slot:\t0000:00:00.0", "Slot:\t0000:00:00.9"),
        ("records", "Slot:\t0000:00:00.0", "Slot:\t\x1b[2J"),
        ("records", "Vendor:\t8086", "Vendor:\tIntel Corporation [8086]"),
        ("records", "Vendor:\t8086", "Vendor:\t808"),
        ("records", "Device:\t10d3", "Device:\t10D3"),
        ("records", "Driver:\te1000e", "Driver:\te1000e; rm -rf /"),
        ("records", "Driver:\te1000e", "Driver:\t" + "x" * 65),
        ("records", "Driver:\te1000e", "Driver:\t\u202ee1000e"),
        ("records", "Driver:\te1000e\n", "Driver:\tvfio-pci\nDriver:\te1000e\n"),
        ("records", "Driver:\te1000e\n", "[ 1.0] some message\n"),
        ("busybox", '"e1000e"', '"e1000e" "x"'),
        ("busybox", '"Class 0200"', '"0200"'),
        ("details", "[8086:10d3]\n", "[8086:10d3] really\n"),
        ("details", "in use: e1000e", "in use: $(reboot)"),
        ("sysfs", "PCI_ID=8086:10D3", "PCI_ID=8086:10D3\nPCI_ID=8086:10D3"),
        ("sysfs", "PCI_CLASS=20000", "PCI_CLASS=network"),
        ("sysfs", "DRIVER=e1000e", "DRIVER=e1000e/../x"),
        ("sysfs", "D0\n", "D0\nD3hot\n"),
        ("sysfs", "D0\n", "some other line\n"),
        ("sysfs", "msix\nmsix\n", "msix\nmsi\n"),
    ],
)
def test_what_is_malformed_is_left_out(name: str, said: str, instead: str) -> None:
    text = READERS[name][1]
    assert said in text
    assert read(name, text.replace(said, instead, 1)) is None


@pytest.mark.parametrize(
    ("said", "instead", "unassigned"),
    [
        ("at fe800000", "at <unassigned>", 1),
        ("at fe800000", "at <ignored>", 1),
        ("[size=128K]", "[disabled] [size=128K]", 1),
        ("at fe800000", "at fe800000 [virtual]", 1),
    ],
)
def test_a_region_without_a_place_that_counts_is_unassigned(
    said: str, instead: str, unassigned: int
) -> None:
    found = read("details", DETAILS.replace(said, instead, 1))
    assert found is not None
    assert (found.regions, found.unassigned) == (PLACES[1:], unassigned)


@pytest.mark.parametrize(
    ("line", "unassigned"),
    [
        ("0x0000000000000000 0x000000000001ffff 0x0000000020040200", 1),
        ("0x00000000fe800000 0x00000000fe81ffff 0x0000000020040200", 1),
        ("0x0000000000000000 0x000000000000001f 0x0000000000040101", 0),
    ],
)
def test_a_resource_that_is_unset_has_no_place_and_ports_need_none(
    line: str, unassigned: int
) -> None:
    first = "0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200"
    found = read("sysfs", SYSFS.replace(first, line))
    assert found is not None
    assert (found.regions, found.unassigned) == (PLACES[1:], unassigned)


def test_a_mac_that_the_administrator_set_is_not_the_cards_own() -> None:
    own = read("sysfs")
    changed = read("sysfs", SYSFS.replace("00:00\n0\n", "00:00\n3\n"))
    assert own is not None
    assert changed is not None
    assert (own.macs, changed.macs) == (("52:54:00:01:00:00",), ())


@pytest.mark.parametrize("name", READERS)
@given(text=st.text())
def test_arbitrary_text_raises_nothing(name: str, text: str) -> None:
    read(name, text)


LINES = [line for _, text in READERS.values() for line in text.splitlines()]


@pytest.mark.parametrize("name", READERS)
@given(
    gone=st.sets(st.integers(0, 40), max_size=3),
    put=st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([*LINES, "Driver:\tx", "\t", "é"])),
        max_size=3,
    ),
)
def test_lines_that_are_gone_or_too_many_give_only_what_was_said(
    name: str, gone: set[int], put: list[tuple[int, str]]
) -> None:
    lines = [line for n, line in enumerate(READERS[name][1].splitlines()) if n not in gone]
    for at, line in put:
        lines.insert(at, line)
    found = read(name, "\n".join(lines))
    if found is not None:
        text = "\n".join(lines).lower()
        assert found.vendor in text
        assert (found.driver or "") in text


@pytest.mark.parametrize(
    "instead",
    [
        ["Capabilities: <access denied>"],
        ["Capabilities: <available only to root>"],
        ["Capabilities: [40] Power Management version 2", "Capabilities: <chain broken>"],
        ["Capabilities: [a0] MSI-X: Enable+ Count=5 Masked-", "Capabilities: [100 v1] <chain looped>"],
        ["Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-"],
        ["!!! Unknown header type 7f"],
    ],
)  # fmt: skip
def test_capabilities_that_lspci_could_not_read_are_unknown(instead: list[str]) -> None:
    lines = [line for line in DETAILS.splitlines() if "Capabilities:" not in line]
    found = pci_function.of_details(
        [*lines[:3], *(f"\t{line}" for line in instead), *lines[3:]], SLOT
    )
    assert found is not None
    assert (found.interrupt, found.serial, found.driver) == (None, None, "e1000e")


def test_a_function_that_lists_no_capabilities_has_none() -> None:
    lines = [line for line in DETAILS.splitlines() if "Capabilities:" not in line]
    status = "\tStatus: Cap- 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort-"
    found = pci_function.of_details([*lines[:3], status, *lines[3:]], SLOT)
    assert found is not None
    assert found.interrupt is Interrupt.INTX


BATTLEMAGE = """\
07:00.0 VGA compatible controller [0300]: Intel Corporation Device [8086:e20b] (prog-if 00 [VGA controller])
\tRegion 0: Memory at 380800000000 (64-bit, prefetchable) [size=16M]
\tRegion 2: Memory at 380000000000 (64-bit, prefetchable) [size=32G]
\tExpansion ROM at ef200000 [disabled] [size=2M]
"""


def test_a_bar_that_was_resized_beyond_4_gib_is_a_region_and_a_rom_is_none() -> None:
    """After a listing in https://github.com/xCuri0/ReBarUEFI/issues/384; the same by sysfs' lines of that card."""
    slot = Address(0, 7, 0, 0)
    regions = ((0x380800000000, 0x380800FFFFFF), (0x380000000000, 0x3807FFFFFFFF))
    told = pci_function.of_details(f"0000:{BATTLEMAGE}".splitlines(), slot)
    assert told is not None
    assert (told.regions, told.unassigned) == (regions, 0)
    shown = pci_function.of_sysfs(
        [
            "PCI_CLASS=30000", "PCI_ID=8086:E20B", "PCI_SUBSYS_ID=8086:1701", "PCI_SLOT_NAME=0000:07:00.0",
            "0x0000380800000000 0x0000380800ffffff 0x000000000014220c",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x0000380000000000 0x00003807ffffffff 0x000000000014220c",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x00000000ef200000 0x00000000ef3fffff 0x0000000000046200",
        ],
        slot,
    )  # fmt: skip
    assert shown is not None
    assert (shown.regions, shown.unassigned) == (regions, 0)
