"""libxl's own words, found in the logs that libvirt leaves them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.adapters.libvirt.libxl_logs import first_error, last_line, log_sizes

if TYPE_CHECKING:
    from pathlib import Path

NOW = "2026-11-24 04:17:06.846+0000: libxl: "
REFUSED = (
    f"{NOW}libxl_pci.c:1688:libxl__device_pci_add: Domain 1:PCI device 0:1:0.0 is not assignable\n"
)
FAILED = f"{NOW}libxl_pci.c:1820:device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device\n"
UNABLE = f"{NOW}libxl_device.c:1500:device_addrm_aocomplete: unable to add device\n"


def _say(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_the_first_error_about_the_domain_is_the_reason(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    _say(tmp_path / "pv1.log", REFUSED + FAILED)
    assert first_error(before) == "PCI device 0:1:0.0 is not assignable"


def test_where_the_domain_has_no_log_the_common_one_will_do(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    assert first_error(before) == "unable to add device"


def test_what_was_said_before_is_not_the_reason(tmp_path: Path) -> None:
    _say(tmp_path / "pv1.log", REFUSED)
    before = log_sizes(tmp_path, "pv1")
    assert first_error(before) == ""
    _say(tmp_path / "pv1.log", '    "on_reboot": "restart"\n}\n\n' + FAILED)
    assert first_error(before).startswith("libxl__device_pci_add failed")


def test_a_log_without_end_is_read_from_its_end(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "pv1.log", UNABLE + "noise\n" * 50_000 + REFUSED)
    assert first_error(before) == "PCI device 0:1:0.0 is not assignable"


@pytest.mark.parametrize("hostile", ["\x1b]0;owned\x07", "\x1b[2J", "\x00\x08"])
def test_no_terminal_escape_comes_through(tmp_path: Path, hostile: str) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "pv1.log", f"{NOW}libxl_pci.c:1:f: Domain 1:bad {hostile}thing\n")
    assert first_error(before).isprintable()
    assert first_error(before).endswith("thing")


def test_the_last_words_on_a_domain_are_those_at_the_end_of_its_log(tmp_path: Path) -> None:
    assert last_line(tmp_path, "pv1") == ""
    _say(tmp_path / "pv1.log", REFUSED + FAILED + '    "on_reboot": "restart"\n}\n')
    assert last_line(tmp_path, "pv1").startswith("libxl__device_pci_add failed")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    assert "unable" not in last_line(tmp_path, "pv1")
