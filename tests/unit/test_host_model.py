"""The host in memory has the traps of the real one; without them the histories would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.errors import PermanentError, UnreachableError, WorldMovedError
from unit.faults_model import ALL, Among, Fault, Killed, Kind, Scheduled
from unit.history_model import NIC, ROOT, THEIRS, host
from unit.host_model import DOM0, QUARANTINE, ModelJournal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cede.adapters.composition import Doors
    from unit.host_model import Card, Host

ALIAS = "ua-cede-nic"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Host]:
    journal = ModelJournal(tmp_path / "journal.db")
    yield host(journal)
    journal.close()


@pytest.fixture
def doors(made: Host) -> Doors:
    return made.doors()


@pytest.fixture
def card(made: Host) -> Card:
    return made.cards[NIC]


def plug(doors: Doors) -> None:
    doors.kernel.load_pciback()
    doors.libvirt.seize(NIC)
    assert doors.hypervisor.in_guest(NIC) is False
    doors.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    assert [given.address for given in doors.xenstore.backend()] == [NIC, THEIRS]


def unplug(doors: Doors) -> bool:
    doors.xenstore.backend()
    return doors.libvirt.unplug("pv1", NIC)


def interrupted(made: Host, fault: Fault) -> None:
    """The next deed meets that fault."""
    made.gate.start([Scheduled(fault, Among.DEEDS, 0)])


def test_libvirt_cannot_load_pciback_itself(doors: Doors, card: Card) -> None:
    with pytest.raises(PermanentError):
        doors.libvirt.seize(NIC)
    assert card.at_home


def test_what_left_a_guest_is_dead_in_dom0_until_its_quarantine_is_lifted(
    doors: Doors, card: Card
) -> None:
    plug(doors)
    assert unplug(doors)
    doors.sysfs.remove_pciback_slot(NIC)
    doors.libvirt.reattach(NIC)
    assert (card.driver, card.owner, card.in_dom0) == ("e1000e", QUARANTINE, False)


def test_a_slot_that_is_kept_binds_pciback_again(doors: Doors, card: Card) -> None:
    doors.kernel.load_pciback()
    doors.libvirt.seize(NIC)
    assert not doors.xl.assignable_remove(NIC), "it never was in a guest"
    doors.libvirt.reattach(NIC)
    assert (card.driver, card.override) == ("pciback", None)


def test_in_the_right_order_it_comes_back_with_its_interface_down(doors: Doors, card: Card) -> None:
    plug(doors)
    assert unplug(doors)
    assert doors.xl.assignable_remove(NIC)
    doors.libvirt.reattach(NIC)
    assert (card.in_dom0, card.at_home) == (True, False)
    assert card.wired is not None
    assert card.link is not None
    doors.links.restore(card.wired, card.link)
    assert card.at_home


def test_a_libvirtd_that_dies_in_an_attach_leaves_what_only_xen_knows_of(
    made: Host, doors: Doors, card: Card
) -> None:
    plug(doors)
    assert unplug(doors)
    doors.hypervisor.in_guest(NIC)
    interrupted(made, Fault(Kind.DIES, done=1, away=1))
    with pytest.raises(UnreachableError):
        doors.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    with pytest.raises(UnreachableError):
        doors.libvirt.domains()
    assert (card.in_guest, NIC in made.backend) == (True, False)
    assert made.domain(made.guests["pv1"]).live == ()


def test_what_crashes_libvirtd_or_takes_what_is_anothers_is_no_error_of_cedes(
    made: Host, doors: Doors, card: Card
) -> None:
    plug(doors)
    made.happens(f"xl-detach {NIC}")
    with pytest.raises(AssertionError, match="libvirtd crashes"):
        unplug(doors)
    card.owner = 1
    made.guests["pv1"].live = made.guests["pv1"].config
    doors.hypervisor.in_guest(NIC)
    with pytest.raises(AssertionError, match="in use"):
        doors.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    with pytest.raises(AssertionError, match="dom0 lives on"):
        doors.libvirt.seize(ROOT)
    doors.xenstore.backend()
    with pytest.raises(AssertionError, match="somebody else's"):
        doors.libvirt.unplug("their1", THEIRS)


def test_a_vanished_card_is_asked_of_libvirt_once_at_most(made: Host, doors: Doors) -> None:
    made.happens(f"vanish {NIC}")
    with pytest.raises(WorldMovedError):
        doors.libvirt.seize(NIC)
    made.pauses()
    with pytest.raises(AssertionError, match="long gone"):
        doors.libvirt.seize(NIC)


def test_a_paused_guest_lets_go_when_it_runs_again(made: Host, doors: Doors, card: Card) -> None:
    plug(doors)
    made.happens("pause pv1")
    assert unplug(doors)
    assert NIC in made.backend
    made.happens("resume pv1")
    assert (NIC in made.backend, card.owner) == (False, QUARANTINE)


def test_a_guest_that_ends_gives_up_what_it_has_and_has_what_its_xml_says_when_it_starts(
    made: Host, doors: Doors, card: Card
) -> None:
    plug(doors)
    made.happens("destroy pv1")
    assert (card.owner, sorted(made.backend)) == (QUARANTINE, [THEIRS])
    made.happens("start pv1")
    assert (card.owner, made.domain(made.guests["pv1"]).live) == (QUARANTINE, ())


def test_a_kill_leaves_what_was_done_by_then(made: Host, doors: Doors, card: Card) -> None:
    doors.kernel.load_pciback()
    interrupted(made, Fault(Kind.KILLED, done=ALL))
    with pytest.raises(Killed):
        doors.libvirt.seize(NIC)
    assert (card.driver, card.slot, card.owner) == ("pciback", True, DOM0)
    interrupted(made, Fault(Kind.KILLED))
    with pytest.raises(Killed):
        doors.libvirt.reattach(NIC)
    assert card.driver == "pciback"
