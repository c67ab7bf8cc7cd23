"""One domain that can't be read: it is told, what concerns it is refused, and the others are served."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libvirt
import pytest

from cede.adapters.libvirt.connection import Libvirt
from cede.domain_xml import document
from cede.errors import UnreachableError
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Unfinished
from cede.model.pci import Address
from sim.guest import new_guest
from unit.test_cli import Shown, cede, decisions, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
NIC = Address.parse("0000:01:00.0")
GOOD = new_guest("pv1", 1).config
LISTED = document.with_hostdev(GOOD, NIC, "ua-cede-nic0", policy="p.yaml")


class Handle:
    """A domain of libvirt's: its XML, or the error in its place."""

    def __init__(self, name: str, xml: str | libvirt.libvirtError, domid: int = -1) -> None:
        self._name, self._xml, self._domid = name, xml, domid

    def ID(self) -> int:  # noqa: N802 - libvirt's name
        return self._domid

    def UUID(self) -> bytes:  # noqa: N802 - libvirt's name
        return self._name.encode()

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return f"uuid-of-{self._name}"

    def name(self) -> str:
        return self._name

    def XMLDesc(self, _flags: int = 0) -> str:  # noqa: N802 - libvirt's name
        if isinstance(self._xml, libvirt.libvirtError):
            raise self._xml
        return self._xml


class Connection:
    def __init__(self, *handles: Handle) -> None:
        self._handles = handles

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def listAllDomains(self, flags: int = 0) -> list[Handle]:  # noqa: N802 - libvirt's name
        paused = flags == libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED
        return [] if paused else list(self._handles)

    def storagePoolLookupByName(self, _name: str) -> Connection:  # noqa: N802 - libvirt's name
        return self

    def storageVolLookupByName(self, _name: str) -> Connection:  # noqa: N802 - libvirt's name
        raise _error(50, "no such volume")

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        return "<pool"


class Pools(Connection):
    """A libvirt with the active pool `on`, the pool `off` that isn't active, and no other."""

    def __init__(self, *handles: Handle, missing: libvirt.libvirtError) -> None:
        super().__init__(*handles)
        self._missing = missing

    def storagePoolLookupByName(self, name: str) -> Pools:  # noqa: N802 - libvirt's name
        if name not in {"on", "off"}:
            raise self._missing
        self._pool = name
        return self

    def storageVolLookupByName(self, name: str) -> Pools:  # noqa: N802 - libvirt's name
        if self._pool == "off" or name != "there":
            raise _error(50, "no such volume")
        return self

    def path(self) -> str:
        return "/srv/on/there"

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        return f"<pool><target><path>/srv/{self._pool}</path></target></pool>"


def _error(code: int, said: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(said)
    error.err = (code, 0, said, 0, "", "", "", 0, 0)
    return error


def _seen(monkeypatch: pytest.MonkeyPatch, *handles: Handle) -> tuple[Domain, ...]:
    monkeypatch.setattr(Libvirt, "_open", lambda _self: Connection(*handles))
    return Libvirt("xen:///system").domains()


@pytest.mark.parametrize(
    ("volume", "unknown", "disks"),
    [
        ("on/there", (), ("/srv/on/there",)),
        ("on/gone", ("on/gone",), ("/srv/on",)),
        ("off/there", ("off/there",), ("/srv/off",)),
        ("none/there", ("none/there",), ()),
    ],
)
@pytest.mark.parametrize("code", [49, 29], ids=["no such pool", "denied"])
def test_a_volume_that_libvirt_does_not_find_is_an_unknown_disk(
    monkeypatch: pytest.MonkeyPatch,
    volume: str,
    unknown: tuple[str, ...],
    disks: tuple[str, ...],
    code: int,
) -> None:
    pool, _, name = volume.partition("/")
    disk = f"<disk type='volume'><source pool='{pool}' volume='{name}'/></disk>"
    xml = GOOD.replace("<devices/>", f"<devices>{disk}</devices>")
    pools = Pools(Handle("pv1", xml), missing=_error(code, "no"))
    monkeypatch.setattr(Libvirt, "_open", lambda _self: pools)
    (domain,) = Libvirt("xen:///system").domains()
    assert (domain.unknown_volumes, domain.host_disks) == (unknown, disks)
    assert (bool(domain.disks_unknown), domain.unreadable) == (bool(unknown), "")


def test_a_libvirt_that_goes_while_it_looks_for_a_volume_is_no_unknown_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    xml = _with("<disk type='volume'><source pool='p' volume='v'/></disk>")
    gone = _error(38, "Cannot recv data: Connection reset by peer")
    monkeypatch.setattr(Libvirt, "_open", lambda _self: Pools(Handle("a", xml), missing=gone))
    with pytest.raises(UnreachableError):
        Libvirt("xen:///system").domains()


def _with(element: str) -> str:
    return LISTED.replace("</devices>", f"{element}</devices>")


@pytest.mark.parametrize(
    ("xml", "made_out"),
    [
        (LISTED.replace("</domain>", ""), True),
        (LISTED.replace("</devices>", "\x00</devices>"), True),
        (_with("<hostdev mode='subsystem' type='pci'/>"), True),
        (_with("<interface type='hostdev'><source><address bus='0x100'/></source></interface>"), True),
        (_with("<disk type='volume'><source pool='p' volume='v'/></disk>"), True),
        ("", False),
        ("\ud800", False),
        (_error(1, "internal error: can't format it"), False),
        (_error(38, "Cannot allocate memory"), False),
    ],
)  # fmt: skip
def test_a_domain_that_cant_be_read_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, xml: str | libvirt.libvirtError, made_out: bool
) -> None:
    bad, good = _seen(monkeypatch, Handle("pv1", GOOD), Handle("bad", xml))
    assert (good.name, good.unreadable) == ("pv1", "")
    assert (bad.name, bad.uuid, bool(bad.unreadable)) == ("bad", "uuid-of-bad", True)
    assert (bad.config_hostdev(NIC) is not None) is made_out


def test_a_running_domain_without_a_number_keeps_the_one_that_its_handle_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = GOOD.replace("<domain ", f"<domain id='{'9' * 5000}' ", 1)
    (bad,) = _seen(monkeypatch, Handle("bad", running, domid=7))
    assert (bad.domid, bool(bad.unreadable)) == (7, True)


def test_what_libvirt_has_of_other_buses_is_no_pci_device(monkeypatch: pytest.MonkeyPatch) -> None:
    usb = _with(
        "<interface type='hostdev'><source><address type='usb' bus='1' device='2'/></source></interface>"
    )
    (one,) = _seen(monkeypatch, Handle("pv1", usb))
    assert (one.unreadable, [h.address for h in one.config]) == ("", [NIC])


def test_a_libvirt_that_is_gone_is_no_unreadable_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Handle("bad", _error(38, "Cannot recv data: Connection reset by peer"))
    with pytest.raises(UnreachableError):
        _seen(monkeypatch, Handle("pv1", GOOD), gone)


def test_a_domain_that_vanished_while_it_was_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = _seen(monkeypatch, Handle("pv1", GOOD), Handle("gone", _error(42, "no domain")))
    assert one.name == "pv1"


BAD = Domain(name="bad", uuid="u", kind=GuestKind.HVM, domid=2, unreadable="malformed")


@pytest.mark.parametrize(
    ("inventory", "holds"),
    [
        (Inventory(domains=(BAD,)), False),
        (Inventory(domains=(BAD,), backend=(BackendDevice(domid=3, address=NIC, index=0),)), False),
        (Inventory(domains=(BAD,), backend=(BackendDevice(domid=2, address=NIC, index=0),)), True),
        (Inventory(domains=(replace(BAD, config=(Hostdev(address=NIC),)),)), True),
        (Inventory(domains=(BAD,), unfinished=(
            Unfinished(subject="nic0 -> bad", address=NIC, domain="bad", attaching=True),)), True),
    ],
)  # fmt: skip
def test_what_an_unreadable_domain_may_have_is_known_by_other_words_than_its_own(
    inventory: Inventory, holds: bool
) -> None:
    assert (inventory.unreadable_holder(NIC) is not None) is holds
    assert inventory.interrupted_in(NIC) is None, "cede takes nothing out of it"


TWO = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
  nic1: {match: {address: "0000:02:00.0"}}
assignments:
  - {device: nic0, domain: pv1, verify: {guest: none}}
  - {device: nic1, domain: pv2, verify: {guest: none}}
"""


def test_a_pass_serves_the_others_and_every_command_tells_of_it(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(TWO)

    def spoilt(read: Callable[[], tuple[Domain, ...]]) -> tuple[Domain, ...]:
        return tuple(replace(d, unreadable="malformed") if d.name == "pv2" else d for d in read())

    host.instead["domains"] = spoilt
    planned = cede("plan", "--json")
    rules = {one["subject"]: one.get("rule") for one in planned.json("plan")["plan"]["decisions"]}
    assert rules["nic1 -> pv2"] == rules["domain pv2"] == "domain-unreadable"
    applied = cede("apply", "--yes", "--json")
    assert (applied.status, host.backend) == (4, {NIC: 1})
    assert decisions(applied.json("report")["checked"][0])["live XML"] == "passed"
    shown = cede("status", "--json")
    assert shown.status == 4
    said = {c["type"]: c["status"] for c in shown.json("status")["conditions"] if not c["subject"]}
    assert said["DomainsReadable"] == "False"
    of = [c["status"] for c in shown.json("status")["conditions"] if c["subject"] == "nic1 -> pv2"]
    assert of == ["Unknown", "Unknown", "Unknown", "False"], "it may be attached, and isn't in sync"
    found = cede("doctor", "--json").json("doctor")["findings"]
    assert "domain-unreadable" in {one["name"] for one in found}
