"""What `xl pci-detach` took out behind libvirt's back: put back, released, and never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.sysfs import Sysfs
from cede.domain_xml import document
from cede.errors import PermanentError
from cede.model.actions import PutBack
from cede.model.pci import Address
from cede.planner.release import release
from cede.services.observe import observe
from unit.test_executor import ATTACH, NIC, RELEASE
from unit.test_recheck import take

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.in_files import SimulatedHost

PUT_BACK = PutBack(address=NIC, domain="pv1")


@pytest.fixture
def half_gone(host: SimulatedHost) -> SimulatedHost:
    """libvirt lists it in pv1, Xen gives it to nobody."""
    assert take(host, *ATTACH).error is None
    host.happens(f"xl-detach {NIC}")
    host.journal.clear()
    return host


def test_it_is_put_back_and_then_taken_out_and_returned(half_gone: SimulatedHost) -> None:
    done = take(half_gone, PUT_BACK, *RELEASE)
    assert done.error is None
    assert half_gone.journal[:2] == [f"xl-attach 1 {NIC}", f"unplug pv1 {NIC}"]
    assert Sysfs(half_gone.tree.sys).driver(NIC) == "e1000e"


def test_a_detach_of_another_tool_that_is_just_ending_is_left_to_it(
    half_gone: SimulatedHost,
) -> None:
    """Between Xen's word and libvirt's it looks like what is half gone."""

    def ended() -> None:
        guest = half_gone.guests["pv1"]
        guest.live = document.without_hostdev(guest.live or "", NIC)

    half_gone.time.after(1.0, ended)
    failed = take(half_gone, PUT_BACK).error
    assert failed is not None
    assert (failed.name, half_gone.journal) == ("changed-meanwhile", [])


@pytest.mark.parametrize("what", ["dom0", "unknown", "given"])
def test_it_is_put_back_only_while_xen_has_it_free(half_gone: SimulatedHost, what: str) -> None:
    def dom0() -> None:
        half_gone.tree.bind(str(NIC), "e1000e")

    def unknown() -> None:
        half_gone.instead["in-guest"] = lambda *_: None

    def given() -> None:
        half_gone.backend[NIC] = 2

    happens: dict[str, Callable[[], None]] = {"dom0": dom0, "unknown": unknown, "given": given}
    done = take(half_gone, PUT_BACK, *RELEASE, at=PutBack, meanwhile=happens[what])
    assert done.error is not None
    assert done.error.name == "half-gone"
    assert half_gone.journal == []


def test_xl_that_says_it_attached_and_didnt_is_not_believed(half_gone: SimulatedHost) -> None:
    half_gone.instead["xl-attach"] = lambda *_: None
    failed = take(half_gone, PUT_BACK, *RELEASE).error
    assert isinstance(failed, PermanentError)
    assert failed.name == "not-in-backend"
    assert f"unplug pv1 {NIC}" not in half_gone.journal


def test_what_was_put_back_before_cede_was_killed_is_not_put_back_again(
    half_gone: SimulatedHost,
) -> None:
    card = half_gone.cards[NIC]

    def busy(attach: Callable[..., object], *about: object) -> object:
        attach(*about)
        raise PermanentError("xl was killed")

    half_gone.instead["xl-attach"] = busy
    assert take(half_gone, PUT_BACK, *RELEASE).error is not None
    assert card.owner == 1
    half_gone.instead.clear()
    planned = release(NIC, "release", observe(half_gone.adapters()))
    assert PUT_BACK not in getattr(planned, "actions", ())
    assert take(half_gone, *RELEASE).error is None


def test_the_device_of_a_detach_that_failed_is_still_cedes(host: SimulatedHost) -> None:
    """libvirt forgot it, as after a detach of virsh's that failed; Xen gives it to the guest yet."""
    assert take(host, *ATTACH).error is None
    (given,) = host.written.load_state().given
    assert (given.address, given.domain, given.domid) == (NIC, "pv1", 1)
    assert given.instance == host.adapters().sysfs.instance(NIC)
    guest = host.guests["pv1"]
    guest.live = document.without_hostdev(guest.live or "", NIC)
    inventory = observe(host.adapters())
    found = inventory.forgotten_in(NIC)
    assert found is not None
    assert (found.name, inventory.given_outside(NIC, ())) == ("pv1", None)


def test_what_another_boot_gave_is_nobodys_word_on_this_one(host: SimulatedHost) -> None:
    assert take(host, *ATTACH).error is None
    with host.written._writing() as connection:
        connection.execute("UPDATE given SET boot = 'another'")
    (given,) = host.written.load_state().given
    assert (given.address, given.domid, given.instance) == (Address(0, 1, 0, 0), None, None)
