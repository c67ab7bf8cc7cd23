"""What PCI ids are called, found in pci.ids without reading all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.pci_ids import PciIds
from cede.model.pci import Identity, Names

TEXT = """\
#	Maintained by
8086  Intel Corporation
	100e  82540EM Gigabit Ethernet Controller
		8086 001e  PRO/1000 MT Desktop Adapter
	10d3  82574L Gigabit Network Connection
# a comment in between
	2918  82801IB
8087  Intel
	10ff  Another
C 02  Network controller
	00  Ethernet controller
	80  Network controller
C 0c  Serial bus controller
	03  USB controller
		30  XHCI
"""


@pytest.fixture(params=["", "C 00  Unclassified device\n"])
def ids(request: pytest.FixtureRequest, tmp_path: Path) -> PciIds:
    """With the class that the real list's classes begin with, and without it."""
    path = tmp_path / "pci.ids"
    path.write_text(TEXT.replace("C 02", f"{request.param}C 02"))
    return PciIds([tmp_path / "nowhere", path])


@pytest.mark.parametrize(
    ("vendor", "device", "code", "names"),
    [
        ("8086", "10d3", "020000",
         ("Ethernet controller", "Intel Corporation", "82574L Gigabit Network Connection")),
        ("8086", "2918", "0c0330", ("USB controller", "Intel Corporation", "82801IB")),
        ("8086", "10ff", "020700", ("Network controller", "Intel Corporation", "")),
        ("8087", "10d3", "ff0000", ("", "Intel", "")),
        ("8086", "8086", "", ("", "Intel Corporation", "")),
        ("ffff", "10d3", "0c8000", ("Serial bus controller", "", "")),
    ],
)  # fmt: skip
def test_a_name_is_found_in_its_own_vendor_and_class(
    ids: PciIds, vendor: str, device: str, code: str, names: tuple[str, str, str]
) -> None:
    found = ids.names(Identity(vendor=vendor, device=device, class_code=code))
    assert (found.kind, found.vendor, found.device) == names


def test_without_the_list_nothing_has_a_name(tmp_path: Path) -> None:
    found = PciIds([tmp_path / "nowhere", tmp_path]).names(Identity(vendor="8086", device="10d3"))
    assert found == Names()


def test_a_name_is_printable_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "pci.ids"
    path.write_bytes(b"8086  \x1b[2J\xff" + b"x" * 5000 + b"\n")
    vendor = PciIds([path]).names(Identity(vendor="8086", device="10d3")).vendor
    assert vendor.startswith("?[2J")
    assert vendor.isprintable()
    assert len(vendor) == 80


@given(content=st.binary(max_size=200))
def test_no_content_makes_it_fail(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.ids"
    path.write_bytes(content + b"\n8086  Intel\n")
    names = PciIds([path]).names(Identity(vendor="8086", device="10d3", class_code="020000"))
    assert str(names).isprintable()
