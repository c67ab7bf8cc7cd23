"""Guests that can't answer: known before, nothing begun, asked again right before the deed, tried again by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.adapters.xen.hypervisor import Hypervisor
from cede.adapters.xen.xenstore import Xenstore
from cede.daemon.backoff import Backoff
from cede.errors import FailureKind
from cede.model.actions import ForceDetach, HotPlug, Unplug
from cede.model.domain import Domain, GuestKind, Silence
from cede.model.plan import Refused
from cede.services.assess import assess
from cede.services.observe import observe
from sim.xenstore_nodes import Store
from unit.test_executor import ATTACH, NIC, RELEASE
from unit.test_recheck import take

if TYPE_CHECKING:
    from pathlib import Path

    from cede.model.actions import Action
    from sim.in_files import SimulatedHost

RUNS = {"dying": 0, "crashed": 0, "shutdown": 0, "paused": 0, "blocked": 1, "shutdown_reason": 255}


class Binding:
    """Xen's own, as it tells of domains."""

    def __init__(self, *domains: dict[str, int]) -> None:
        self.domains = list(domains)

    def domain_getinfo(self) -> list[dict[str, int]]:
        return self.domains


@pytest.mark.parametrize(
    ("flags", "silence"),
    [
        ({}, None),
        ({"paused": 1}, Silence.PAUSED),
        ({"crashed": 1, "shutdown": 1, "shutdown_reason": 3}, Silence.CRASHED),
        ({"shutdown": 1, "shutdown_reason": 2}, Silence.SAVING),
        ({"shutdown": 1, "shutdown_reason": 0}, Silence.SHUTTING_DOWN),
        ({"shutdown": 1}, Silence.SHUTTING_DOWN),
        ({"dying": 1, "paused": 1}, Silence.SHUTTING_DOWN),
    ],
)
def test_xen_tells_which_guests_dont_run(
    tmp_path: Path, flags: dict[str, int], silence: Silence | None
) -> None:
    xen = Hypervisor(tmp_path, lambda: Binding({"domid": 3, **RUNS, **flags}))
    assert xen.silences() == ({} if silence is None else {3: silence})


@pytest.mark.parametrize("domains", [None, {"domid": "x"}, {}])
def test_xen_that_tells_nonsense_or_nothing_says_of_no_guest_that_it_is_silent(
    tmp_path: Path, domains: dict[str, int] | None
) -> None:
    binding = None if domains is None else Binding(domains)
    assert Hypervisor(tmp_path, lambda: binding).silences() == {}


@pytest.mark.parametrize(
    ("word", "silence"),
    [
        ("poweroff", Silence.SHUTTING_DOWN),
        ("reboot", Silence.SHUTTING_DOWN),
        ("suspend", Silence.SAVING),
        ("", None),
        (None, None),
    ],
)
def test_xenstore_tells_which_guests_were_asked_to_end(
    word: str | None, silence: Silence | None
) -> None:
    nodes = {"/local/domain/3/name": "pv1", "/local/domain/0/name": "Domain-0"}
    if word is not None:
        nodes["/local/domain/3/control/shutdown"] = word
    assert Xenstore(Store(nodes)).silences() == ({} if silence is None else {3: silence})


def test_a_domain_that_is_off_is_asked_nothing() -> None:
    off = Domain(name="pv1", uuid="u", kind=GuestKind.PV, paused=True, silence=Silence.CRASHED)
    assert off.cannot_answer is None


@pytest.mark.parametrize("silence", list(Silence))
def test_what_keeps_a_guest_from_answering_is_observed(
    host: SimulatedHost, silence: Silence
) -> None:
    host.guests["pv1"].silence = silence
    assert {d.name: d.cannot_answer for d in observe(host.adapters()).domains} == {
        "pv1": silence,
        "pv2": None,
    }


@pytest.mark.parametrize("at", [HotPlug, Unplug, ForceDetach])
def test_a_guest_that_stops_after_the_plan_is_asked_nothing(
    host: SimulatedHost, at: type[Action]
) -> None:
    if at is not HotPlug:
        assert take(host, *ATTACH).error is None
    host.journal.clear()
    actions = {
        HotPlug: ATTACH,
        Unplug: RELEASE,
        ForceDetach: (ForceDetach(address=NIC, domain="pv1"),),
    }[at]
    done = take(host, *actions, at=at, meanwhile=lambda: host.happens("pause pv1"))
    assert done.error is not None
    assert (done.error.name, done.error.kind) == ("guest-cannot-answer", FailureKind.TRY_LATER)
    assert not [line for line in host.journal if "plug" in line or "xl-" in line]
    if at is HotPlug:  # and all before it is undone
        assert done.rollback_failed is None


def test_the_daemon_asks_again_soon_whether_the_guest_can_answer() -> None:
    """xl lets a guest run again without an event of libvirt's."""
    refused = Refused(
        subject="nic0 -> pv1",
        rule="guest-cannot-answer",
        kind=FailureKind.TRY_LATER,
        reason="pv1 is paused",
        remedy="resume it",
    )
    status, backoff = assess(None, refused), Backoff()
    assert status.reason == "GuestCannotAnswer"
    backoff.learn(status, 100.0)
    assert backoff.next_tries(100.0) == {"nic0 -> pv1": 105.0}
    assert backoff.waiting(100.0) == ()
    backoff.learn(status, 105.0)
    assert backoff.next_tries(105.0) == {"nic0 -> pv1": 115.0}
    backoff.done("nic0 -> pv1", 115.0)
    backoff.learn(status, 200.0)
    assert backoff.next_tries(200.0) == {"nic0 -> pv1": 205.0}
