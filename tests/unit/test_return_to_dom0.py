"""Giving back: a device lives in dom0 again only if all that it was is there again, as it was before it was taken."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.sysfs import Sysfs
from cede.errors import CedeError, FailureKind, PermanentError, UnsafeError
from cede.executor.actions import original_state, read_prestate
from cede.executor.executor import Executor
from cede.executor.return_to_dom0 import DeviceReturn
from cede.model.actions import (
    Action,
    AddToConfig,
    BindToPciback,
    HotPlug,
    LoadPciback,
    RemoveFromConfig,
    ReturnToDom0,
    SwitchOff,
    SwitchOn,
)
from cede.model.pci import Address, Identity, Link, Node, OriginalState
from cede.model.plan import Change, Purpose
from cede.planner.recovery import rollback_actions
from cede.planner.release import release
from cede.services.observe import look_again, observe
from cede.state.journal import Requester
from sim.card import DOM0, QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

NIC = Address(0, 1, 0, 0)
IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
BIND = BindToPciback(address=NIC, driver="e1000e")
WORK = Change(
    subject="nic0 -> pv1", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=(BIND,)
)
ETH1 = Link(
    name="eth1", mac="52:54:00:00:00:01", up=True, carrier=True, mtu=9000,
    addresses=("192.0.2.1/24",),
)  # fmt: skip
ETH2 = replace(ETH1, name="eth2", mac="52:54:00:00:00:02", addresses=())
ORIGIN = OriginalState(identity=IDENTITY, driver="e1000e", boot="this")
FREED = ["assignable-remove 0000:01:00.0", "remove-slot 0000:01:00.0", "reattach 0000:01:00.0"]


@pytest.fixture
def host(host: SimulatedHost) -> SimulatedHost:
    """The card has been taken from dom0, and lies on pciback."""
    host.kernel.load_pciback()
    host.libvirt.bind_to_pciback(NIC)
    host.journal.clear()
    return host


def card(host: SimulatedHost) -> Path:
    return host.tree.sys / "bus/pci/devices" / str(NIC)


def remember(host: SimulatedHost, was: OriginalState) -> None:
    task = host.written.begin_change(WORK, Requester())
    host.written.begin_action(task, BIND, {}, original_state=was)


def with_links(host: SimulatedHost, *links: Link) -> None:
    """The card comes back with these interfaces."""
    host.cards[NIC].fresh = links


def return_action(
    host: SimulatedHost, driver: str | None = "e1000e", *, undriven: bool = False
) -> CedeError | None:
    try:
        DeviceReturn(
            host.adapters(), ReturnToDom0(address=NIC, driver=driver, undriven=undriven)
        ).do()
    except CedeError as error:
        return error
    return None


# -- its interfaces


def test_what_a_return_does_not_bring_back_is_said_before_the_device_is_taken_and_again_after(
    host: SimulatedHost,
) -> None:
    with_links(host, ETH1)
    assert return_action(host) is None
    eth = ETH1.name
    host.unrestored = {eth: ("the vlan on it",), "eth9": ("another card's",)}
    bound = observe(host.adapters()).device(NIC)
    assert bound is not None
    assert bound.unrestored == (f"the vlan on it ({eth})",)
    was = original_state(host.adapters(), NIC)
    assert was is not None
    assert was.unrestored == bound.unrestored
    remember(host, was)
    host.libvirt.bind_to_pciback(NIC)
    host.unrestored = {}
    for boot, unrestored in (("this", bound.unrestored), ("another", ())):
        inventory = replace(observe(host.adapters()), boot=boot)
        change = release(NIC, f"release {NIC}", inventory)
        assert isinstance(change, Change)
        (back,) = change.actions
        assert isinstance(back, ReturnToDom0)
        assert back.unrestored == unrestored
        assert all(phrase in str(back) for phrase in unrestored)


def test_what_a_rollback_does_not_bring_back_is_said_too() -> None:
    bind = replace(BIND, unrestored=("the vlan on it (eth1)",))
    (back,) = rollback_actions([bind])
    assert isinstance(back, ReturnToDom0)
    assert back.unrestored == bind.unrestored
    assert bind.unrestored[0] in str(bind)


def test_its_interface_is_made_what_it_was_once_dom0_has_it(host: SimulatedHost) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, replace(ETH1, up=False, mtu=1500, addresses=()))
    assert return_action(host) is None
    assert host.journal == [*FREED, "restore eth1 as eth1"]
    assert host.cards[NIC].links == (ETH1,)


def test_an_interface_is_found_by_its_mac_whatever_it_is_called_now(host: SimulatedHost) -> None:
    remember(host, replace(ORIGIN, links=(ETH1, ETH2)))
    with_links(host, replace(ETH2, name="rename3"), replace(ETH1, name="eth0"))
    assert return_action(host) is None
    assert host.journal[3:] == ["restore eth0 as eth1", "restore rename3 as eth2"]


def test_an_interface_that_udev_is_about_to_rename_is_given_the_time_for_that(
    host: SimulatedHost,
) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, replace(ETH1, name="eth0"))

    def renamed() -> None:
        host.cards[NIC].links = (ETH1,)

    host.time.after(2.0, renamed)
    assert return_action(host) is None
    assert host.journal[3:] == ["restore eth1 as eth1"]


@pytest.mark.parametrize("boot", ["another", ""])
def test_what_an_interface_had_before_a_reboot_is_not_restored(
    host: SimulatedHost, boot: str
) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,), boot=boot))
    with_links(host, replace(ETH1, mtu=1500, addresses=()))
    assert return_action(host) is None
    assert not [action for action in host.journal if action.startswith("restore")]
    assert host.cards[NIC].links == (replace(ETH1, mtu=1500, addresses=()),)


def test_an_interface_whose_mac_the_driver_makes_up_is_the_only_one_of_its_device(
    host: SimulatedHost,
) -> None:
    remember(host, replace(ORIGIN, links=(replace(ETH1, random=True),)))
    with_links(host, replace(ETH1, mac="02:00:00:00:00:09", mtu=1500))
    assert return_action(host) is None
    assert [action.split()[0] for action in host.journal][-1] == "restore"


def test_an_interface_of_another_card_with_its_name_is_not_touched(host: SimulatedHost) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    host.cards[Address(0, 2, 0, 0)].links = (ETH1,)
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert error.name == "interface-missing"
    assert ETH1.mac in error.message
    assert (host.journal, error.remedy != "") == (FREED, True)


def test_what_the_kernel_refuses_at_first_is_tried_again(host: SimulatedHost) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, ETH1)
    host.fails["restore"] = [PermanentError("busy"), PermanentError("busy")]
    assert return_action(host) is None
    assert host.journal[3:] == ["restore eth1 as eth1"] * 3


def test_what_the_kernel_refuses_for_good_is_its_error(host: SimulatedHost) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, ETH1)
    refused = PermanentError("RTNETLINK answers: Invalid argument")
    host.fails["restore"] = [refused] * 100
    assert return_action(host) is refused


@pytest.mark.parametrize(("before", "now"), [(True, True), (False, True), (False, False)])
def test_a_carrier_is_only_wanted_where_one_was(
    host: SimulatedHost, before: bool, now: bool
) -> None:
    remember(host, replace(ORIGIN, links=(replace(ETH1, carrier=before),)))
    with_links(host, replace(ETH1, carrier=now))
    host.instead["restore"] = lambda *_: None
    assert return_action(host) is None


def test_a_carrier_that_was_there_and_is_not_is_reported(
    host: SimulatedHost,
) -> None:
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, replace(ETH1, carrier=False), ETH2)
    host.instead["restore"] = lambda *_: None
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert error.name == "no-carrier"
    assert "eth1" in error.message
    assert "`ethtool eth1`" in error.remedy


# -- what hung on it

SDA = Node(kind="disk", name="sda", about="8.0 GiB, a disk", id="naa.5000")
SDB = replace(SDA, name="sdb", id="naa.6000")
NAMELESS = Node(kind="disk", name="sdc", about="4.0 GiB, a reader")
STICK = Node(kind="USB", name="1-2", about="a stick", id="0951:1666:60A44C", pluggable=True)
STICKS_DISK = replace(SDA, name="sdd", id="t10.stick", pluggable=True)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """What hangs on the card once dom0 has it back."""
    found: list[Node] = []
    monkeypatch.setattr(Sysfs, "nodes", lambda _: {NIC: tuple(found)})
    return found


@pytest.mark.parametrize(
    ("before", "now", "missing"),
    [
        ((), (), ()),
        ((SDA,), (SDA,), ()),
        ((SDA,), (SDB, replace(SDA, name="sdz")), ()),  # another name, and it is back
        ((SDA,), (replace(SDA, id="naa.7000"),), (SDA,)),  # the name, and another disk
        ((NAMELESS, NAMELESS), (replace(NAMELESS, name="sde"), NAMELESS), ()),
        ((NAMELESS, NAMELESS), (NAMELESS,), (NAMELESS,)),
        ((SDA, SDB), (SDB,), (SDA,)),
        ((SDA, STICK), (SDA, replace(STICK, name="3-2")), ()),
        ((SDA, STICK), (SDA, replace(STICK, id="0951:1666:OTHER")), (STICK,)),
        ((SDA, STICK), (), (SDA, STICK)),
    ],
)
def test_every_disk_and_usb_device_that_hung_on_it_is_awaited(
    host: SimulatedHost,
    hanging: list[Node],
    before: tuple[Node, ...],
    now: tuple[Node, ...],
    missing: tuple[Node, ...],
) -> None:
    remember(host, replace(ORIGIN, nodes=before))
    hanging += now
    error = return_action(host)
    if not missing:
        assert error is None
        return
    assert isinstance(error, PermanentError)
    disk = any(node.kind == "disk" for node in missing)
    assert error.name == ("disks-missing" if disk else "usb-missing")
    assert [node for node in before if str(node) in error.message] == list(before) or all(
        str(node) in error.message for node in missing
    )


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ((SDA,), (SDA,)),
        ((SDA, NAMELESS), (SDA, NAMELESS)),
        ((), ()),
    ],
)
def test_what_is_missing_for_good_is_reported_once_and_what_came_back_is_awaited_still(
    host: SimulatedHost, hanging: list[Node], left: tuple[Node, ...], kept: tuple[Node, ...]
) -> None:
    """A stick that was pulled out, a volume that the guest deleted, a disk that died."""
    before = (SDA, STICK, STICKS_DISK, NAMELESS, NAMELESS)
    remember(host, replace(ORIGIN, nodes=before))
    hanging += left
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert all(str(node) in error.message for node in (STICK, STICKS_DISK))
    assert host.written.original_state(NIC) == replace(ORIGIN, nodes=kept)
    hanging.clear()
    assert (return_action(host) is None) is (kept == ())
    hanging += kept
    assert return_action(host) is None
    assert host.written.original_state(NIC) is None


def test_a_usb_device_takes_its_time_to_come_back(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([(), (), (STICK,), (STICK, STICKS_DISK)])
    monkeypatch.setattr(Sysfs, "nodes", lambda _: {NIC: next(seen)})
    remember(host, replace(ORIGIN, nodes=(STICK, STICKS_DISK)))
    assert return_action(host) is None
    assert next(seen, None) is None


# -- what the journal knows of it


def test_what_it_was_is_forgotten_only_once_it_is_that_again(host: SimulatedHost) -> None:
    was = replace(ORIGIN, links=(ETH1,))
    remember(host, was)
    assert return_action(host) is not None
    assert host.written.original_state(NIC) == was
    host.cards[NIC].links = (ETH1,)
    assert return_action(host) is None
    assert host.written.original_state(NIC) is None


def test_another_card_in_its_place_is_not_made_what_it_was(host: SimulatedHost) -> None:
    remember(
        host, OriginalState(identity=replace(IDENTITY, device="100e"), links=(ETH1,), nodes=(SDA,))
    )
    with_links(host, ETH1)
    assert return_action(host) is None
    assert host.journal == FREED


# -- its driver


def test_a_driver_that_is_not_the_one_from_before_is_reported_with_both(
    host: SimulatedHost,
) -> None:
    host.cards[NIC].native = "vfio-pci"
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert error.name == "other-driver"
    assert all(name in error.message for name in (str(NIC), "vfio-pci", "e1000e"))
    assert error.remedy
    assert return_action(host, driver=None) is None  # where that isn't known, any will do


def test_a_driver_whose_module_is_not_loaded_is_loaded_by_what_the_device_is(
    host: SimulatedHost,
) -> None:
    host.cards[NIC].module_loaded = False
    (card(host) / "modalias").write_text("pci:v00008086d000010D3\n")
    assert return_action(host) is None
    assert host.journal == [*FREED, "load-driver pci:v00008086d000010D3"]


def test_a_module_that_cannot_be_loaded_is_reported_as_the_driver_that_is_missing(
    host: SimulatedHost,
) -> None:
    host.cards[NIC].native = None
    host.fails["load-driver"] = [PermanentError("no such module")]
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert error.name == "no-driver"
    assert "e1000e" in error.remedy
    assert f"echo {NIC} > /sys/bus/pci/drivers_probe" in error.remedy


def test_a_device_that_had_no_driver_is_only_let_go(host: SimulatedHost) -> None:
    host.cards[NIC].native = None
    assert return_action(host, None, undriven=True) is None
    assert host.journal == FREED
    assert Sysfs(host.tree.sys).driver(NIC) is None


def test_a_device_that_pciback_does_not_let_go_is_reported(
    host: SimulatedHost,
) -> None:
    host.instead["reattach"] = lambda *_: None
    error = return_action(host, None, undriven=True)
    assert isinstance(error, PermanentError)
    assert error.name == "bound-to-pciback"
    wanted = return_action(host)
    assert wanted is not None
    assert wanted.name == "no-driver"
    assert "pciback" in wanted.message


# -- Xen's word


def test_a_device_that_xen_says_a_guest_owns_is_not_touched(host: SimulatedHost) -> None:
    host.cards[NIC].owner = 1
    error = return_action(host)
    assert isinstance(error, UnsafeError)
    assert error.name == "assigned-to-guest"
    assert "`xl debug-keys Q; xl dmesg`" in error.remedy
    assert host.journal == []


def test_a_device_that_stays_in_quarantine_is_not_given_back(
    host: SimulatedHost,
) -> None:
    host.cards[NIC].owner = QUARANTINE
    host.instead["assignable-remove"] = lambda *_: False
    error = return_action(host)
    assert isinstance(error, PermanentError)
    assert error.name == "quarantined"
    assert f"`cede release {NIC}`" in error.remedy


@pytest.mark.parametrize(("before", "new"), [(0, 0), (5, 0), (0, 1), (5, 1)])
def test_only_new_faults_are_held_against_it(host: SimulatedHost, before: int, new: int) -> None:
    host.logged_faults = before

    def reattach_and_fault(reattach: Callable[[Address], None], address: Address) -> None:
        reattach(address)
        host.logged_faults += new

    host.instead["reattach"] = reattach_and_fault
    error = return_action(host)
    assert isinstance(error, PermanentError) is bool(new)
    if error is not None:
        assert error.name == "dma-faults"


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("in-guest", "owner-unknown"),
        ("quarantined", "quarantine-unknown"),
        ("faults", "faults-unknown"),
    ],
)
def test_a_return_is_not_called_good_where_xen_cannot_be_asked(
    host: SimulatedHost, question: str, name: str
) -> None:
    remember(host, ORIGIN)
    host.instead[question] = lambda *_: None
    error = return_action(host)
    assert error is not None
    assert (error.name, error.kind) == (name, FailureKind.OUT_OF_SYNC)
    assert host.written.original_state(NIC) is not None
    assert ("reattach 0000:01:00.0" in host.journal) is (question != "in-guest")


# -- cut off, and done again


@pytest.mark.parametrize(
    ("quarantined", "slot", "actions"),
    [
        (False, False, []),
        (False, True, ["bind_to_pciback", "assignable-remove", "remove-slot", "reattach"]),
    ],
)
def test_a_driver_is_not_taken_from_a_device_that_is_known_to_be_free(
    host: SimulatedHost,
    quarantined: bool | None, slot: bool, actions: list[str],
) -> None:  # fmt: skip
    remember(host, replace(ORIGIN, links=(ETH1,)))
    with_links(host, replace(ETH1, mtu=1500))
    host.tree.slots()
    host.libvirt.reattach(NIC)
    host.cards[NIC].slot = slot
    host.journal.clear()
    host.instead["quarantined"] = lambda *_: quarantined
    assert return_action(host) is None
    assert [action.split()[0] for action in host.journal] == [*actions, "restore"]
    assert host.written.original_state(NIC) is None


# -- what is looked at before


@pytest.mark.parametrize(
    ("action", "in_domain"),
    [
        (BIND, {}),
        (HotPlug(address=NIC, domain="pv1", alias="a"), {"boot": "this", "domid": 1}),
        (HotPlug(address=NIC, domain="gone", alias="a"), {"boot": "this", "domid": 0}),
    ],
)
def test_the_prestate_of_an_action_says_what_has_the_device(
    host: SimulatedHost, action: Action, in_domain: dict[str, object]
) -> None:
    host.cards[NIC].owner = 1
    assert read_prestate(host.adapters(), action) == {
        "driver": "pciback", "driver_override": "pciback", "in_pciback_slots": True,
        "in_guest": True, **in_domain,
    }  # fmt: skip
    host.cards[NIC].owner = DOM0
    host.cards[NIC].slot = False
    host.libvirt.reattach(NIC)
    assert read_prestate(host.adapters(), action) == {
        "driver": "e1000e", "driver_override": None, "in_pciback_slots": False, **in_domain,
    }  # fmt: skip


@pytest.mark.parametrize(
    "action",
    [
        AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="p"),
        RemoveFromConfig(address=NIC, domain="pv1"),
        SwitchOn(domain="pv1", features=("passthrough",)),
        SwitchOff(domain="pv1", features=("passthrough",)),
    ],
)
def test_the_prestate_of_an_edit_is_the_persistent_xml(host: SimulatedHost, action: Action) -> None:
    assert read_prestate(host.adapters(), action)["xml"] == host.guests["pv1"].config

    host.fails["persistent_xml"] = [PermanentError("no domain pv1")]
    assert "xml" not in read_prestate(host.adapters(), action)


def test_an_action_about_no_device_and_no_domain_has_no_prestate(
    host: SimulatedHost,
) -> None:
    assert read_prestate(host.adapters(), LoadPciback()) == {}


def test_what_dom0_has_in_a_device_is_seen_before_it_is_taken(host: SimulatedHost) -> None:
    host.tree.bind(str(NIC), "e1000e")
    host.cards[NIC].links = (ETH1, ETH2)
    host.cards[Address(0, 2, 0, 0)].links = (replace(ETH1, name="eth9"),)
    (host.tree.disk("sda", card(host).resolve()) / "size").write_text("2048")
    assert original_state(host.adapters(), NIC) == replace(
        ORIGIN,
        links=(ETH1, ETH2),
        nodes=(Node(kind="disk", name="sda", about="1.0 MiB"),),
    )
    host.tree.bind(str(NIC), None)
    assert getattr(original_state(host.adapters(), NIC), "driver", "?") is None


def test_of_a_device_on_pciback_or_gone_it_can_no_longer_be_seen(host: SimulatedHost) -> None:
    assert original_state(host.adapters(), NIC) is None
    assert original_state(host.adapters(), Address(0, 9, 0, 0)) is None


# -- nothing without the journal


def test_without_its_journal_nothing_is_done(host: SimulatedHost) -> None:
    remember(host, ORIGIN)
    assert host.written._open is not None
    host.written._open.execute("PRAGMA query_only = 1")
    (done,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute(
        [replace(WORK, actions=(ReturnToDom0(address=NIC),))]
    )
    assert isinstance(done.error, PermanentError)
    assert done.error.name == "journal-unusable"
    assert (host.journal, done.tried) == ([], ())


def test_an_action_that_cannot_be_written_down_is_not_done(
    host: SimulatedHost,
) -> None:
    def fills_up(*_: object) -> None:
        assert host.written._open is not None
        host.written._open.execute("PRAGMA query_only = 1")

    (done,) = Executor(
        host.adapters(), partial(look_again, host.adapters()), progress=fills_up
    ).execute([replace(WORK, actions=(ReturnToDom0(address=NIC),))])
    assert isinstance(done.error, PermanentError)
    assert "the journal" in done.error.message
    assert (host.journal, len(done.tried)) == ([], 1)
