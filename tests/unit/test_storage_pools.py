"""What storage pools and guests' further devices are made of, as libvirt's XML has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt
import pytest

from cede.adapters.libvirt.connection import Libvirt
from cede.adapters.libvirt.offline_libvirt import OfflineLibvirt
from cede.doctor import daemon_rules
from cede.doctor.finding import Facts
from cede.domain_xml import document
from cede.domain_xml.sources import pool_devices
from cede.errors import PermanentError, UnreachableError
from cede.model.domain import Domain, GuestKind
from cede.model.inventory import Inventory
from unit.raises import raises

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "<address domain='0' bus='1' slot='0x1f' function='2'/>"


@pytest.mark.parametrize(
    ("source", "devices"),
    [
        ("<device path='/dev/sdb'/><name>vg</name>", ("/dev/sdb",)),
        ("<device path='/dev/sdb1'/><device path='/dev/sdc1'/>", ("/dev/sdb1", "/dev/sdc1")),
        ("<host name='store'/><device path='iqn.2013-06.org:x'/>", ()),
        ("<host name='store'/><dir path='/srv'/>", ()),
        ("<adapter type='scsi_host' name='scsi_host3'/>", ("scsi_host:3",)),
        ("<adapter name='host3'/>", ("scsi_host:3",)),
        (f"<adapter type='scsi_host'><parentaddr>{ADDRESS}</parentaddr></adapter>", ("pci:0000:01:1f.2",)),
        (
            "<adapter type='fc_host' parent='scsi_host5' wwnn='20' wwpn='10000090FA1B2C3D'/>",
            ("scsi_host:5", "fc:10000090fa1b2c3d"),
        ),
        ("<adapter name='scsi_host3x' wwpn='10' parent=''/><adapter/>", ()),
        (f"<adapter><parentaddr>{ADDRESS.replace('0x1f', '0x2f')}</parentaddr></adapter>", ()),
    ],
)  # fmt: skip
def test_the_devices_of_a_storage_pool_are_told_however_it_names_them(
    source: str, devices: tuple[str, ...]
) -> None:
    xml = f"<pool><name>images</name><source>{source}</source><target><path>/srv</path></target></pool>"
    assert pool_devices(xml) == ("images", devices)


class Pool:
    def __init__(self, xml: str | libvirt.libvirtError) -> None:
        self._xml = xml

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        if isinstance(self._xml, libvirt.libvirtError):
            raise self._xml
        return self._xml

    def name(self) -> str:
        return "unnamed"


class Connection:
    def __init__(self, pools: list[Pool] | libvirt.libvirtError) -> None:
        self._pools = pools

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def listAllStoragePools(self, flags: int) -> list[Pool]:  # noqa: N802 - libvirt's name
        assert flags == libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        if isinstance(self._pools, libvirt.libvirtError):
            raise self._pools
        return self._pools


def _error(code: int, said: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(said)
    error.err = (code, 0, said, 0, "", "", "", 0, 0)
    return error


def _pools(
    monkeypatch: pytest.MonkeyPatch, pools: list[Pool] | libvirt.libvirtError
) -> dict[str, tuple[str, ...]]:
    monkeypatch.setattr(Libvirt, "_open", lambda _self: Connection(pools))
    return Libvirt("xen:///system").storage_pools()


DISK = "<pool><name>usb</name><source><device path='/dev/sdc'/></source></pool>"


def test_active_pools_have_their_devices_and_one_that_is_stopped_meanwhile_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools = [Pool(DISK), Pool("<pool><name>dir</name></pool>"), Pool(_error(49, "no such pool"))]
    assert _pools(monkeypatch, pools) == {"usb": ("/dev/sdc",)}


@pytest.mark.parametrize(
    "missing",
    [
        _error(3, "this function is not supported by the connection driver"),
        _error(38, "Failed to connect socket to '/run/libvirt/virtstoraged-sock': No such file or directory"),
    ],
    ids=["no driver", "no daemon"],
)  # fmt: skip
def test_a_libvirt_without_its_storage_driver_has_no_active_pool(
    monkeypatch: pytest.MonkeyPatch, missing: libvirt.libvirtError
) -> None:
    assert _pools(monkeypatch, missing) == {}


def test_pools_that_cant_be_told_are_an_error_and_never_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnreachableError):
        _pools(monkeypatch, _error(38, "Cannot recv data: Connection reset by peer"))
    for pool in (Pool(_error(1, "internal error")), Pool("<pool")):
        with pytest.raises(PermanentError):
            _pools(monkeypatch, [pool])


def test_before_libvirt_runs_the_pools_count_that_it_will_start(tmp_path: Path) -> None:
    folder = tmp_path / "storage/autostart"
    folder.mkdir(parents=True)
    offline = OfflineLibvirt(tmp_path / "sys", tmp_path / "libxl")
    assert offline.storage_pools() == {}
    (folder / "usb.xml").write_text(f"<!-- WARNING -->\n{DISK}")
    (folder / "gone.xml").symlink_to("nowhere")
    (folder / "other.txt").write_text("<")
    assert offline.storage_pools() == {"usb": ("/dev/sdc",)}
    (folder / "bad.xml").write_text("<pool")
    with raises(PermanentError, "pools-unknown"):
        offline.storage_pools()


IDS = "<vendor id='0x046d'/><product id='0xc52b'/>"


def _hostdev(kind: str, source: str) -> str:
    mode = "capabilities" if kind in {"misc", "storage"} else "subsystem"
    return f"<hostdev mode='{mode}' type='{kind}'><source>{source}</source></hostdev>"


@pytest.mark.parametrize(
    ("element", "devices"),
    [
        (_hostdev("usb", f"{IDS}"), ("usb:046d:c52b",)),
        (_hostdev("usb", f"{IDS}<address bus='1' device='7'/>"), ("usb:1.7",)),
        (_hostdev("usb", "<vendor id='0x1'/>"), ()),
        (_hostdev("scsi", "<adapter name='scsi_host3'/><address bus='0' target='1' unit='2'/>"), ("scsi:3:0:1:2",)),
        (_hostdev("scsi", "<host name='store'/>"), ()),
        (_hostdev("misc", "<char>/dev/input/event3</char>"), ("/dev/input/event3",)),
        (_hostdev("storage", "<block>/dev/sdb</block>"), ("/dev/sdb",)),
        ("<serial type='dev'><source path='/dev/ttyS4'/></serial>", ("/dev/ttyS4",)),
        ("<serial type='pty'><source path='/dev/pts/4'/></serial>", ()),
        ("<input type='evdev'><source dev='/dev/input/event1'/></input>", ("/dev/input/event1",)),
        ("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", ("/dev/tpm0",)),
    ],
)  # fmt: skip
def test_a_domains_other_devices_of_dom0s_are_told(element: str, devices: tuple[str, ...]) -> None:
    xml = f"<domain><name>web</name><devices>{element}</devices></domain>"
    assert document.domain(None, xml).host_devices == devices


def test_the_doctor_names_volumes_that_libvirt_cant_find() -> None:
    lost = Domain(name="db", uuid="u", kind=GuestKind.PV, unknown_volumes=("images/db.img",))
    well = Domain(name="web", uuid="v", kind=GuestKind.PV)
    facts = Facts(inventory=Inventory(domains=(lost, well)))
    (found,) = daemon_rules.unknown_volumes(facts)
    assert (found.name, found.subject) == ("guest-disks-unknown", "db")
    assert "pool-start images" in found.remedy
