"""The host in memory has the traps of the real one; without them the histories would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.errors import PermanentError, UnreachableError, WorldMovedError
from sim.card import DOM0, QUARANTINE
from sim.faults import ALL, Among, Fault, Forbidden, Killed, Kind, Scheduled
from sim.in_memory import MemoryJournal
from unit.history_model import NIC, ROOT, THEIRS, host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cede.adapters.ports import Adapters
    from sim.card import Card
    from sim.host import Host

ALIAS = "ua-cede-nic"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Host]:
    journal = MemoryJournal(tmp_path)
    yield host(journal)
    journal.close()


@pytest.fixture
def adapters(made: Host) -> Adapters:
    return made.adapters()


@pytest.fixture
def card(made: Host) -> Card:
    return made.cards[NIC]


def plug(adapters: Adapters) -> None:
    adapters.kernel.load_pciback()
    adapters.libvirt.bind_to_pciback(NIC)
    assert adapters.hypervisor.in_guest(NIC) is False
    adapters.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    assert [given.address for given in adapters.xenstore.backend()] == [NIC, THEIRS]


def unplug(adapters: Adapters) -> bool:
    adapters.xenstore.backend()
    return adapters.libvirt.unplug("pv1", NIC)


def interrupted(made: Host, fault: Fault) -> None:
    """The next action meets that fault."""
    made.gate.start([Scheduled(fault, Among.ACTIONS, 0)])


def test_libvirt_cannot_load_pciback_itself(adapters: Adapters, card: Card) -> None:
    with pytest.raises(PermanentError):
        adapters.libvirt.bind_to_pciback(NIC)
    assert card.at_home


def test_what_left_a_guest_is_dead_in_dom0_until_its_quarantine_is_lifted(
    adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    assert unplug(adapters)
    adapters.sysfs.remove_pciback_slot(NIC)
    adapters.libvirt.reattach(NIC)
    assert (card.driver, card.owner, card.in_dom0) == ("e1000e", QUARANTINE, False)


def test_a_slot_that_is_kept_binds_pciback_again(adapters: Adapters, card: Card) -> None:
    adapters.kernel.load_pciback()
    adapters.libvirt.bind_to_pciback(NIC)
    assert not adapters.xl.assignable_remove(NIC), "it never was in a guest"
    adapters.libvirt.reattach(NIC)
    assert (card.driver, card.override) == ("pciback", None)


def test_in_the_right_order_it_comes_back_with_its_interface_down(
    adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    assert unplug(adapters)
    assert adapters.xl.assignable_remove(NIC)
    adapters.libvirt.reattach(NIC)
    assert (card.in_dom0, card.at_home) == (True, False)
    adapters.links.restore(card.wired[0], card.links[0])
    assert card.at_home


def test_a_libvirtd_that_dies_in_an_attach_leaves_what_only_xen_knows_of(
    made: Host, adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    assert unplug(adapters)
    adapters.hypervisor.in_guest(NIC)
    interrupted(made, Fault(Kind.DIES, done=1, away=1))
    with pytest.raises(UnreachableError):
        adapters.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    with pytest.raises(UnreachableError):
        adapters.libvirt.domains()
    assert (card.in_guest, NIC in made.backend) == (True, False)
    assert made.guests["pv1"].domain.live == ()


def test_what_crashes_libvirtd_or_takes_what_is_anothers_is_no_error_of_cedes(
    made: Host, adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    made.happens(f"xl-detach {NIC}")
    with pytest.raises(Forbidden, match="libvirtd crashes"):
        unplug(adapters)
    card.owner = 1
    made.guests["pv1"].run(1)
    adapters.hypervisor.in_guest(NIC)
    with pytest.raises(Forbidden, match="in use"):
        adapters.libvirt.plug("pv1", NIC, ALIAS, permissive=False)
    with pytest.raises(Forbidden, match="dom0 lives on"):
        adapters.libvirt.bind_to_pciback(ROOT)
    adapters.xenstore.backend()
    with pytest.raises(Forbidden, match="another tool's"):
        adapters.libvirt.unplug("their1", THEIRS)


def test_a_vanished_card_is_asked_of_libvirt_once_at_most(made: Host, adapters: Adapters) -> None:
    made.happens(f"vanish {NIC}")
    with pytest.raises(WorldMovedError):
        adapters.libvirt.bind_to_pciback(NIC)
    made.pauses()
    with pytest.raises(Forbidden, match="long gone"):
        adapters.libvirt.bind_to_pciback(NIC)


def test_a_paused_guest_lets_go_when_it_runs_again_and_its_nodes_stay(
    made: Host, adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    made.happens("pause pv1")
    assert unplug(adapters), "libxl reports success"
    (given,) = (one for one in adapters.xenstore.backend() if one.address == NIC)
    assert (given.closing, given.backend_state, card.owner) == (True, 7, QUARANTINE)
    with pytest.raises(Forbidden, match="stuck"):
        adapters.xl.detach(given.domid, NIC)
    with pytest.raises(Forbidden, match="may still have"):
        adapters.xenstore.remove_given_up(given)
    made.happens("resume pv1")
    (given,) = (one for one in adapters.xenstore.backend() if one.address == NIC)
    assert given.detach_given_up
    with pytest.raises(Forbidden, match="let go"):
        adapters.libvirt.reattach(NIC)
    adapters.xenstore.remove_given_up(given)
    assert NIC not in made.backend


def test_a_guest_that_ends_gives_up_what_it_has_and_has_what_its_xml_says_when_it_starts(
    made: Host, adapters: Adapters, card: Card
) -> None:
    plug(adapters)
    made.happens("destroy pv1")
    assert (card.owner, sorted(made.backend)) == (QUARANTINE, [THEIRS])
    made.happens("start pv1")
    assert (card.owner, made.guests["pv1"].domain.live) == (QUARANTINE, ())


def test_a_kill_leaves_what_was_done_by_then(made: Host, adapters: Adapters, card: Card) -> None:
    adapters.kernel.load_pciback()
    interrupted(made, Fault(Kind.KILLED, done=ALL))
    with pytest.raises(Killed):
        adapters.libvirt.bind_to_pciback(NIC)
    assert (card.driver, card.slot, card.owner) == ("pciback", True, DOM0)
    interrupted(made, Fault(Kind.KILLED))
    with pytest.raises(Killed):
        adapters.libvirt.reattach(NIC)
    assert card.driver == "pciback"
