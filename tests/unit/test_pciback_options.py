"""What xen-pciback is told to hide, in every spelling that the kernel takes and in many that it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.address import Address
from cede.host.boot_options import command_line, modprobe_files
from cede.pciback_options import hidden, in_modprobe, on_command_line

PRESENT = [
    Address.parse(a) for a in ("0000:02:00.1", "0000:02:00.0", "0000:02:03.0", "0001:02:00.0")
]


def _hidden(text: str) -> list[str]:
    addresses, complaints = hidden(text, PRESENT)
    assert not complaints
    return [str(address) for address in addresses]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        ("(01:00.0)", ["0000:01:00.0"]),
        ("(0000:01:00.0)", ["0000:01:00.0"]),
        ("(0001:0A:1f.7)", ["0001:0a:1f.7"]),
        ("(01:00.0)(0000:02:00.1)", ["0000:01:00.0", "0000:02:00.1"]),
        (" (01:00.0)  ( 02:00.1) ", ["0000:01:00.0", "0000:02:00.1"]),
        ("(01:00.0)(0000:01:00.0)", ["0000:01:00.0"]),
        ("(02:00.*)", ["0000:02:00.0", "0000:02:00.1"]),
        ("(0001:02:00.*)", ["0001:02:00.0"]),
        ("(02:*.*)", ["0000:02:00.0", "0000:02:00.1", "0000:02:03.0"]),
        ("(0000:02:*.*)", ["0000:02:00.0", "0000:02:00.1", "0000:02:03.0"]),
        ("(05:00.*)", []),
    ],
)
def test_every_spelling_that_the_kernel_takes_is_read(text: str, addresses: list[str]) -> None:
    assert _hidden(text) == addresses


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("01:00.0", "'01:00.0' is no address in brackets"),
        ("(01:00.0", "'(01:00.0' is no address in brackets"),
        ("(01:00.0),(02:00.0)", "',' is no address in brackets"),
        ("(01:00)", "'(01:00)' is no address"),
        ("(01:*.0)", "'(01:*.0)' is no address"),
        ("(100:00.0)", "PCI bus 0x100 is not between"),
        ("(01:20.0)", "PCI slot 0x20 is not between"),
        ("(01:00.8)", "PCI function 0x8 is not between"),
        ("(12345:01:00.0)", "PCI segment 0x12345 is not between"),
        ("\x1b[2J" + "x" * 5000, r"'\x1b[2J"),
    ],
)
def test_what_keeps_the_module_from_loading_is_complained_about(text: str, named: str) -> None:
    _, complaints = hidden(text, PRESENT)
    assert len(complaints) == 1
    assert named in complaints[0]
    assert complaints[0].isprintable()
    assert len(complaints[0]) < 200


def test_the_sound_entries_around_a_malformed_one_are_still_named() -> None:
    addresses, complaints = hidden("(01:00.0)(oops)(02:00.0)")
    assert [str(a) for a in addresses] == ["0000:01:00.0", "0000:02:00.0"]
    assert len(complaints) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("root=/dev/vda ro quiet", None),
        ("ro xen-pciback.hide=(01:00.0) quiet", "(01:00.0)"),
        ("xen_pciback.hide=(01:00.0)(02:00.0)\n", "(01:00.0)(02:00.0)"),
        ('ro xen-pciback.hide="(01:00.0) (02:00.0)" quiet', "(01:00.0) (02:00.0)"),
        ('"xen-pciback.hide=(01:00.0) (02:00.0)"', "(01:00.0) (02:00.0)"),
        ("xen-pciback.permissive=1", None),
        ("xen-pciback.hide", None),
        ("xen-pciback.hide=", ""),
        ("quiet -- xen-pciback.hide=(01:00.0)", None),
    ],
)
def test_the_command_line_is_read_as_the_kernel_does(text: str, value: str | None) -> None:
    assert on_command_line(text) == (value, ())


def test_the_last_of_several_counts_and_that_is_said() -> None:
    value, complaints = on_command_line("xen-pciback.hide=(01:00.0) xen-pciback.hide=(02:00.0)")
    assert value == "(02:00.0)"
    assert "only the last one counts" in complaints[0]


def test_the_old_name_of_the_module_is_told_apart() -> None:
    value, complaints = on_command_line("pciback.hide=(01:00.0)")
    assert value is None
    assert "no effect" in complaints[0]
    assert "no effect" in in_modprobe("options pciback hide=(01:00.0)")[1][0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# options xen-pciback hide=(01:00.0)", None),
        ("options xen-pciback hide=(01:00.0)", "(01:00.0)"),
        ("options xen_pciback permissive=1 hide=(01:00.0)(02:00.0)\n", "(01:00.0)(02:00.0)"),
        ("options xen-pciback \\\n  hide=(01:00.0)\n", "(01:00.0)"),
        ("options snd hide=(01:00.0)", None),
        ("install xen-pciback /sbin/true\noptions", None),
    ],
)
def test_modprobe_options_are_read(text: str, value: str | None) -> None:
    assert in_modprobe(text) == (value, ())


def test_a_modprobe_file_hides_its_namesakes_in_lower_folders(tmp_path: Path) -> None:
    for folder, text in (("etc", "one"), ("lib", "two")):
        (tmp_path / folder / "modprobe.d").mkdir(parents=True)
        (tmp_path / folder / "modprobe.d/xen.conf").write_text(text)
    (tmp_path / "lib/modprobe.d/a.conf").write_text("three")
    (tmp_path / "lib/modprobe.d/note.txt").write_text("four")
    assert list(modprobe_files(tmp_path).values()) == ["three", "one"]


def test_a_host_without_any_of_these_files_has_nothing_to_say(tmp_path: Path) -> None:
    assert command_line(tmp_path) == ""
    assert modprobe_files(tmp_path) == {}


@given(st.text(alphabet='()*:.0x1f,"\\ \n-=hideoptns', max_size=80) | st.text(max_size=80))
def test_no_text_makes_it_fail(text: str) -> None:
    addresses, _ = hidden(text, PRESENT)
    assert len(set(addresses)) == len(addresses)
    on_command_line(text)
    in_modprobe(text)


@given(st.lists(st.builds(Address, *(st.integers(0, top) for top in (0xFFFF, 0xFF, 0x1F, 7)))))
def test_what_is_written_is_what_is_read(addresses: list[Address]) -> None:
    told = "".join(f"({address})" for address in addresses)
    assert hidden(told) == (tuple(dict.fromkeys(addresses)), ())
