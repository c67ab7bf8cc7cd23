"""What stands in for libvirt before it runs, over a tree of files in which a kernel answers to writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.libvirt.offline_libvirt import OfflineLibvirt
from cede.errors import HungError, PermanentError
from cede.model.pci import Address
from unit.raises import raises

if TYPE_CHECKING:
    from pathlib import Path

    from sim.sys_tree import SysTree

AT = "0000:01:00.0"
NIC = Address.parse(AT)
DOMAIN = (
    "<!-- written by libvirt -->\n<domain type='xen'><name>pv1</name><uuid>u</uuid>"
    "<os><type machine='xenpv'>linux</type></os><devices>"
    "<disk type='block' device='disk'><source dev='/dev/vg/pv1'/></disk>"
    "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0' function='0'/></source>"
    "</hostdev></devices></domain>"
)


class Kernel:
    """Binds as pci-sysfs.c and pci_stub.c do; `refuses` and `hangs` are the last parts of paths."""

    def __init__(self, tree: SysTree) -> None:
        self.tree = tree
        self.written: list[tuple[str, str]] = []
        self.refuses = ""
        self.hangs = ""
        self.override: str | None = None
        self.declines = False

    def write(self, path: str, said: str) -> None:
        last = path.rpartition("/")[2]
        self.written.append((last, said))
        if last == self.hangs:
            raise HungError(f"tee {path} has hung for 20 s")
        if last == self.refuses:
            raise PermanentError(f"tee {path} failed")
        if last == "driver_override":
            self.override = said.strip() or None
        elif last == "unbind":
            self.tree.bind(AT, None)
        elif last == "drivers_probe" and not self.declines:
            self.tree.bind(AT, self.override or "e1000e")


@pytest.fixture
def kernel(tree: SysTree) -> Kernel:
    tree.function(AT, driver="e1000e")
    tree.slots()
    return Kernel(tree)


@pytest.fixture
def adapter(kernel: Kernel, tmp_path: Path) -> OfflineLibvirt:
    return OfflineLibvirt(kernel.tree.sys, tmp_path / "libxl", kernel.write)


def driver(kernel: Kernel) -> str | None:
    link = kernel.tree.sys / "bus/pci/devices" / AT / "driver"
    return link.readlink().name if link.is_symlink() else None


def test_a_device_is_kept_for_pciback_before_its_driver_lets_go(
    adapter: OfflineLibvirt, kernel: Kernel
) -> None:
    adapter.bind_to_pciback(NIC)
    assert driver(kernel) == "pciback"
    assert kernel.written == [("driver_override", "pciback"), ("unbind", AT), ("drivers_probe", AT)]


def test_one_without_a_driver_is_only_probed(adapter: OfflineLibvirt, kernel: Kernel) -> None:
    kernel.tree.bind(AT, None)
    adapter.bind_to_pciback(NIC)
    assert [last for last, _ in kernel.written] == ["driver_override", "drivers_probe"]


def test_what_pciback_has_is_left(adapter: OfflineLibvirt, kernel: Kernel) -> None:
    kernel.tree.bind(AT, "pciback")
    adapter.bind_to_pciback(NIC)
    assert kernel.written == []


def test_what_was_taken_goes_back(adapter: OfflineLibvirt, kernel: Kernel) -> None:
    adapter.bind_to_pciback(NIC)
    adapter.reattach(NIC)
    assert driver(kernel) == "e1000e"
    assert kernel.written[3] == ("driver_override", "\n")


def test_a_driver_of_its_own_isnt_taken_from_it_on_the_way_back(
    adapter: OfflineLibvirt, kernel: Kernel
) -> None:
    adapter.reattach(NIC)
    assert kernel.written == [("driver_override", "\n")]


@pytest.mark.parametrize("file", ["driver_override", "unbind", "drivers_probe"])
def test_a_write_that_is_refused_says_for_which_device(
    adapter: OfflineLibvirt, kernel: Kernel, file: str
) -> None:
    kernel.refuses = file
    with pytest.raises(PermanentError) as failed:
        adapter.bind_to_pciback(NIC)
    assert failed.value.name == "rebind-failed"
    assert AT in failed.value.message
    assert "dmesg" in failed.value.remedy


def test_an_unbind_that_hangs_is_reported_as_that(adapter: OfflineLibvirt, kernel: Kernel) -> None:
    kernel.hangs = "unbind"
    with pytest.raises(HungError):
        adapter.bind_to_pciback(NIC)


def test_the_writes_are_real_ones(tree: SysTree) -> None:
    path = tree.function(AT)
    (tree.sys / "bus/pci/drivers_probe").write_text("")
    OfflineLibvirt(tree.sys, tree.root / "libxl").bind_to_pciback(NIC)
    assert (path / "driver_override").read_text() == "pciback"
    assert (tree.sys / "bus/pci/drivers_probe").read_text() == AT


def test_a_file_that_isnt_there_is_an_error(tree: SysTree) -> None:
    with raises(PermanentError, "rebind-failed"):
        OfflineLibvirt(tree.sys, tree.root / "libxl").bind_to_pciback(NIC)


def test_the_domains_are_those_of_libvirts_files_and_all_off(
    adapter: OfflineLibvirt, tmp_path: Path
) -> None:
    folder = tmp_path / "libxl"
    (folder / "autostart").mkdir(parents=True)
    (folder / "pv1.xml").write_text(DOMAIN)
    (folder / "notes.txt").write_text(DOMAIN)
    (folder / "folder.xml").mkdir()
    (domain,) = adapter.domains()
    assert not domain.unreadable
    assert domain.disks_unknown == ""
    assert (domain.name, domain.running, domain.host_disks) == ("pv1", False, ("/dev/vg/pv1",))
    assert [str(hostdev.address) for hostdev in domain.config] == [AT]


SPOILT = {
    "broken": DOMAIN.replace("</devices></domain>", "").encode(),
    "network": b"<network/>",
    "empty": b"",
    "latin": DOMAIN.replace("pv1", "pv\xe9").encode("latin-1"),
    "large": DOMAIN.encode() + b" " * 4 * 1024 * 1024,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_is_no_domain_that_can_be_read_is_an_unreadable_domain(
    adapter: OfflineLibvirt, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "libxl"
    folder.mkdir()
    (folder / f"{name}.xml").write_bytes(SPOILT[name])
    (folder / "pv1.xml").write_text(DOMAIN)
    bad, good = sorted(adapter.domains(), key=lambda domain: not domain.unreadable)
    assert (good.name, good.unreadable) == ("pv1", "")
    assert (bad.name, bool(bad.unreadable), bad.persistent, bad.running) == (
        name,
        True,
        True,
        False,
    )
    assert (bad.config_hostdev(NIC) is not None) is (name in {"broken", "latin"})


def test_a_link_to_nothing_is_an_unreadable_domain_and_is_never_waited_for(
    adapter: OfflineLibvirt, tmp_path: Path
) -> None:
    (tmp_path / "libxl").mkdir()
    (tmp_path / "libxl/lost.xml").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "libxl/pipe.xml")
    assert {(d.name, bool(d.unreadable)) for d in adapter.domains()} == {
        ("lost", True),
        ("pipe", True),
    }


def test_a_folder_that_cant_be_listed_is_no_folder_without_domains(
    adapter: OfflineLibvirt, tmp_path: Path
) -> None:
    (tmp_path / "libxl").write_text("")
    (unknown,) = adapter.domains()
    assert unknown.unreadable


def test_where_a_volume_is_stays_unknown_before_libvirt_runs(
    adapter: OfflineLibvirt, tmp_path: Path
) -> None:
    (tmp_path / "libxl").mkdir()
    volume = "<disk type='volume'><source pool='p' volume='v'/></disk>"
    (tmp_path / "libxl/pv1.xml").write_text(DOMAIN.replace("</devices>", f"{volume}</devices>"))
    (domain,) = adapter.domains()
    assert (domain.unreadable, domain.unknown_volumes) == ("", ("p/v",))
    assert domain.disks_unknown


def test_without_libvirts_files_there_are_no_domains(adapter: OfflineLibvirt) -> None:
    assert adapter.domains() == ()


def test_every_function_counts_as_listed(adapter: OfflineLibvirt) -> None:
    assert adapter.node_devices() == {"pci_0000_01_00_0"}


@given(said=st.binary(max_size=200) | st.text(alphabet="<domain/>name&'\" ", max_size=80))
def test_no_file_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, said: bytes | str) -> None:
    folder = tmp_path_factory.mktemp("libxl")
    (folder / "pv1.xml").write_bytes(said if isinstance(said, bytes) else said.encode())
    OfflineLibvirt(folder, folder).domains()
