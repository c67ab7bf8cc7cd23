"""dom0's kernel log, read as /dev/kmsg gives it: records, continuation lines, and bytes that nobody vouches for."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.kernel_log import KernelLog

RING = (
    b"6,1041,26914382,-;pciback 0000:01:00.0: xen_pciback: seizing device\n"
    b" SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"
    b"6,1042,27100001,-,caller=T1;xen_pciback: vpci: assign to virtual slot 0\n"
)


def _lines(tmp_path: Path, ring: bytes) -> list[tuple[float, str]]:
    log = tmp_path / "kmsg"
    log.write_bytes(ring)
    return [(line.seconds_since_boot, line.text) for line in KernelLog(log).lines() or ()]


def test_each_record_is_a_line_and_its_dictionary_is_none(tmp_path: Path) -> None:
    assert _lines(tmp_path, RING) == [
        (26.914382, "pciback 0000:01:00.0: xen_pciback: seizing device"),
        (27.100001, "xen_pciback: vpci: assign to virtual slot 0"),
    ]


def test_only_what_is_about_something_is_reported_where_that_is_asked(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(RING)
    (about,) = KernelLog(log).lines("0000:01:00.0") or ()
    assert about.seconds_since_boot == 26.914382
    assert KernelLog(log).lines("0000:02:00.0") == ()


def test_what_a_terminal_would_act_on_is_cleaned(tmp_path: Path) -> None:
    assert _lines(tmp_path, rb"6,1,1000000,-;usb: \x1b[2Jcard\x0aname" + b"\n") == [
        (1.0, "usb: ?[2Jcard | name")
    ]


def test_a_log_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert KernelLog(tmp_path / "none").lines() is None
    assert KernelLog(tmp_path).lines() is None, "a read fails"
    assert KernelLog(Path("/dev/null")).lines() is None, "as containers have it in its place"
    assert KernelLog(Path("/dev/zero")).lines() is None, "it has no end"


def test_the_end_of_the_ring_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO that somebody holds open answers as the ring does at its end: try again later."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    try:
        os.write(held, RING)
        assert len(KernelLog(path).lines() or ()) == 2
    finally:
        os.close(held)


RECORDS = st.binary(max_size=60).map(lambda said: b"6,1041,26914382,-;" + said + b"\n")


@given(ring=st.lists(RECORDS | st.binary(max_size=60), max_size=5).map(b"".join))
def test_any_bytes_give_printable_lines_and_nothing_is_raised(ring: bytes) -> None:
    read, write = os.pipe()
    os.write(write, ring)
    os.close(write)
    try:
        for line in KernelLog(Path(f"/dev/fd/{read}")).lines() or ():
            assert line.text.isprintable()
    finally:
        os.close(read)
