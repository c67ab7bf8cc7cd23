"""Xen's own word on a device, over a fake of its Python binding (tools/python/xen/lowlevel/xc/xc.c)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cede.adapters.xen import hypervisor
from cede.adapters.xen.hypervisor import Hypervisor
from cede.errors import PermanentError
from cede.model.pci import Address
from unit.raises import raises

NIC = Address(0, 1, 0, 0)
NO_FILES = Path("/nowhere")
SBDF = 0x100  # what test_assign_device returns for a device that can't be given
# as xen/drivers/passthrough/pci.c lists devices, Xen 4.17
LISTED = """\
(XEN) [Q: dump PCI devices]
(XEN) ==== PCI devices ====
(XEN) ==== segment 0000 ====
(XEN) 0000:02:00.0 - d0 - node -1  - MSIs < 30 >
(XEN) 0000:01:00.1 - d0 - node -1
(XEN) 0000:01:00.0 - {owner} - node -1  - MSIs < 31 32 >
(XEN) 0000:00:00.0 - d0 - node -1
"""


class XenError(Exception):
    """xen.lowlevel.xc.Error: no OSError, though it is made from an errno."""


class Binding:
    """The calls that are used; `log` is what stands in the ring, `listed` what the debug key adds to it."""

    def __init__(self, log: str = "", listed: str = "") -> None:
        self.asked: list[tuple[object, ...]] = []
        self.log, self.listed = log, listed
        self.answer = 0
        self.broken = False

    def _call(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.broken:
            raise XenError(1, "Operation not permitted")

    def test_assign_device(self, domid: int, device: str) -> int:
        self._call("test", domid, device)
        return self.answer

    def deassign_device(self, domid: int, device: str) -> int:
        self._call("deassign", domid, device)
        return self.answer

    def send_debug_keys(self, keys: str) -> None:
        self._call("keys", keys)
        self.log += self.listed

    def physinfo(self) -> dict[str, object]:
        self._call("physinfo")
        return {"nr_cpus": 2, "virt_caps": "hvm pv hvm_directio pv_directio"}

    def xeninfo(self) -> dict[str, object]:
        self._call("xeninfo")
        return {"xen_major": 4, "xen_commandline": "console=com1 iommu=on"}

    def readconsolering(self) -> bytes | str:
        self._call("log")
        return self.log


def over(binding: Binding) -> Hypervisor:
    """On a host whose kernel tells nothing of Xen, with that binding."""
    return Hypervisor(NO_FILES, lambda: binding)


@pytest.fixture
def nowhere() -> Hypervisor:
    """On a host whose Xen has no binding, or that runs no Xen."""
    return Hypervisor(NO_FILES, lambda: None)


# -- who owns a device


@pytest.mark.parametrize(("answer", "in_guest"), [(0, False), (SBDF, True), (-1, None)])
def test_a_device_that_no_guest_could_be_given_is_with_one(
    answer: int, in_guest: bool | None
) -> None:
    binding = Binding()
    binding.answer = answer  # -1 says that this Xen has no IOMMU to ask, not that a guest has it
    assert over(binding).in_guest(NIC) is in_guest
    assert binding.asked == [("test", 0x7FF4, "0x0,0x1,0x0,0x0")]


def test_an_address_is_spelt_in_four_hexadecimal_numbers() -> None:
    binding = Binding()
    over(binding).in_guest(Address.parse("0001:af:1f.7"))
    assert binding.asked == [("test", 0x7FF4, "0x1,0xaf,0x1f,0x7")]


@pytest.mark.parametrize(
    ("owner", "quarantined"),
    [("d0", False), ("d7", False), ("d123", False), ("d[IO]", True), ("DomIO:7ff0", True)],
)
def test_a_device_is_in_quarantine_when_no_numbered_domain_has_it(
    owner: str, quarantined: bool
) -> None:
    binding = Binding(listed=LISTED.format(owner=owner))
    assert over(binding).quarantined(NIC) is quarantined
    assert binding.asked == [("keys", "Q"), ("log",)]


def test_the_latest_list_of_devices_counts_and_time_stamps_do_no_harm() -> None:
    stamped = LISTED.replace("(XEN) ", "(XEN) [2026-01-31 03:00:00.123] ")
    binding = Binding(log=LISTED.format(owner="d[IO]"), listed=stamped.format(owner="d0"))
    assert over(binding).quarantined(NIC) is False


@pytest.mark.parametrize(
    "log",
    [
        "",
        LISTED.replace("0000:01:00.0", "0000:03:00.0"),
        "(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:01:00.0] fault addr fff00000\n",
        "d3 said: 0000:01:00.0 - d[IO] -\n",  # a guest writes there, too
    ],
)
def test_a_device_that_is_not_listed_is_not_known_to_be_anywhere(log: str) -> None:
    assert over(Binding(listed=log)).quarantined(NIC) is None


# -- what Xen logged


@pytest.mark.parametrize("log", ["(XEN) \xfcber\n", b"(XEN) \xc3\xbcber\n", b"(XEN) \xff\n"])
def test_the_log_is_text_whatever_the_binding_makes_of_it(log: str | bytes) -> None:
    binding = Binding()
    binding.log = log  # type: ignore[assignment]
    said = over(binding).log()
    assert said == ("(XEN) \ufffd\n" if log == b"(XEN) \xff\n" else "(XEN) \xfcber\n")


def test_only_what_xen_itself_logged_counts() -> None:
    fault = "[VT-D]DMAR:[DMA Write] Request device [0000:01:00.0] fault addr fff\n"
    binding = Binding()
    binding.log = f"(XEN) {fault}(d3) {fault}(d3) (XEN) {fault}{fault} (XEN) {fault}"
    assert over(binding).log() == f"(XEN) {fault}"
    assert over(binding).faults(NIC) == 1


VTD = """\
(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:01:00.0] fault addr fffff000
(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set
(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:01:00.1] fault addr 0
(XEN) [VT-D]INTR-REMAP: Request device [0000:01:00.0] fault index 18
(XEN) [VT-D]INTR-REMAP: reason 22 - Present field in the IRTE entry is clear
"""
AMD = """\
(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:01:00.0 d5 addr 00000000deadb000 flags 0x30 RW PR
(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d5 addr 00000000deadb000 flags 0x30 RW PR
(XEN) AMD-Vi: Setup I/O page table: device id = 0x100, type = 0x1, 0000:01:00.0
"""


@pytest.mark.parametrize(
    ("log", "faults"),
    [("", 0), (VTD, 2), (AMD, 1), (VTD + AMD, 3), (LISTED.format(owner="d0"), 0)],
    ids=["nothing", "VT-d", "AMD-Vi", "both", "no fault"],
)
def test_the_faults_of_that_device_are_counted(log: str, faults: int) -> None:
    assert over(Binding(log)).faults(NIC) == faults


# -- the last way out


def test_a_device_is_taken_from_the_guest_that_was_named() -> None:
    binding = Binding()
    over(binding).deassign(7, NIC)
    assert binding.asked == [("deassign", 7, "0x0,0x1,0x0,0x0")]


@pytest.mark.parametrize(
    ("answer", "broken", "said"),
    [
        (SBDF, False, ""),
        (-1, False, ""),
        (0, True, "(1, 'Operation not permitted')"),
    ],
)
def test_a_refusal_to_take_it_is_an_error_with_a_remedy(
    answer: int, broken: bool, said: str
) -> None:
    binding = Binding()
    binding.answer, binding.broken = answer, broken
    with raises(PermanentError, "deassign-failed", NIC, "domain 7") as reported:
        over(binding).deassign(7, NIC)
    assert reported.value.message.endswith(said)
    assert reported.value.remedy


# -- where it can't be asked


def test_without_a_binding_nothing_is_known_and_nothing_breaks(nowhere: Hypervisor) -> None:
    assert (nowhere.in_guest(NIC), nowhere.quarantined(NIC)) == (None, None)
    assert (nowhere.log(), nowhere.faults(NIC)) == (None, None)
    with raises(PermanentError, "xen-binding-missing") as reported:
        nowhere.deassign(7, NIC)
    assert reported.value.remedy


def test_a_binding_that_fails_is_as_none() -> None:
    binding = Binding(listed=LISTED.format(owner="d[IO]"))
    binding.broken = True
    xen = over(binding)
    assert (xen.in_guest(NIC), xen.quarantined(NIC)) == (None, None)
    assert (xen.log(), xen.faults(NIC)) == (None, None)


def test_the_binding_is_imported_once() -> None:
    found: list[Binding] = []
    xen = Hypervisor(NO_FILES, lambda: found.append(Binding()))
    assert found == []
    xen.in_guest(NIC)
    xen.log()
    assert len(found) == 1


@pytest.fixture
def xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose Xen says that it is 4.17."""
    monkeypatch.syspath_prepend(tmp_path)  # so that what is put there is taken away again
    for name in ("xen", "xen.lowlevel", "xen.lowlevel.xc"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "version").mkdir()
    (tmp_path / "version/major").write_text("4\n")
    (tmp_path / "version/minor").write_text("17\n")
    return tmp_path


def install(xen: Path, version: str, code: str) -> None:
    folder = xen / f"xen-{version}/lib/python/xen/lowlevel"
    folder.mkdir(parents=True)
    (folder / "xc.py").write_text(code)


def test_the_binding_is_that_of_the_xen_that_runs(
    xen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(xen, "4.16", "class xc: version = '4.16'")
    install(xen, "4.17", "class xc: version = '4.17'")
    assert hypervisor.binding(xen, xen / "version").version == "4.17"
    for name in ("xen", "xen.lowlevel", "xen.lowlevel.xc"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("code", ["raise OSError", "no Python", "", "class xc: xc = xc.xc", "xc=7"])
def test_a_binding_that_cannot_be_used_is_none(xen: Path, code: str) -> None:
    install(xen, "4.17", code)
    assert hypervisor.binding(xen, xen / "version") is None


def test_where_no_xen_runs_there_is_no_binding(xen: Path) -> None:
    install(xen, "4.17", "class xc: pass")
    assert hypervisor.binding(xen, xen / "nowhere") is None


# -- what it is


def test_what_is_below_this_system_is_read_from_sysfs(tmp_path: Path) -> None:
    assert (
        Hypervisor(tmp_path, lambda: None).kind(),
        Hypervisor(tmp_path, lambda: None).is_dom0(),
    ) == ("", None)
    (tmp_path / "properties").mkdir()
    (tmp_path / "type").write_text("xen\n")
    for features, is_dom0 in (("000228f0", True), ("000220f0", False), ("no number", None)):
        (tmp_path / "properties/features").write_text(features + "\n")
        found = Hypervisor(tmp_path, lambda: None)
        assert (found.kind(), found.is_dom0()) == ("xen", is_dom0)


def test_what_xen_can_do_and_was_booted_with_is_asked_of_the_binding(nowhere: Hypervisor) -> None:
    binding = Binding()
    found = over(binding)
    assert found.virtualisation() == ("hvm", "pv", "hvm_directio", "pv_directio")
    assert found.command_line() == "console=com1 iommu=on"
    binding.broken = True
    assert (found.virtualisation(), found.command_line()) == ((), "")
    assert (nowhere.virtualisation(), nowhere.command_line()) == ((), "")


def test_of_a_segment_that_it_has_no_number_for_xen_is_not_asked() -> None:
    """The binding cuts 10000:01:00.0 off to 0000:01:00.0, which a guest may have."""
    binding = Binding(LISTED.format(owner="d1"))
    binding.answer = SBDF
    xen = Hypervisor(NO_FILES, lambda: binding)
    beyond = Address(0x10000, 1, 0, 0)
    assert (xen.in_guest(beyond), xen.quarantined(beyond)) == (False, False)
    assert binding.asked == []
