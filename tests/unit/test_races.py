"""Whatever others do between a plan and its actions, cede does nothing that would be refused at that moment.

A race is one or two commands, and what happens on the host while they are at work: as they plan, as the person is
asked, as a try of an action begins, at any call of an adapter. `sim.oracle` checks each action by the host's own state.
A hundred or two are tried each time, and as many as CEDE_HISTORIES says, which `contrib/test` raises to 10,000.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cede.errors import CedeError
from cede.model.actions import Action
from cede.model.domain import GuestKind
from cede.model.pci import Address, Link, Reset
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Match,
    Place,
    Policy,
    Verification,
    When,
)
from cede.planner.recheck import recheck
from cede.services import maintenance
from cede.services.one_off import plan_detach, plan_release, take_out
from cede.services.reconcile import RequestContext, carry_out_pass, replan
from sim.card import Card
from sim.faults import ALL, Among, Fault, Killed, Kind, Scheduled, asserted
from sim.guest import new_guest
from sim.in_memory import MemoryJournal
from sim.raced_host import RacedHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.plan import ActionOutcome, Change

RACES = int(os.environ.get("CEDE_HISTORIES", "200"))
IN_MEMORY = Path("/dev/shm")
_PLACE = Place(file="policy.yaml", line=1, column=1)
_ON = "<passthrough state='on'/><e820_host state='on'/>"

ROOT, NIC, LAN, DISK, LEFT, RIGHT, VIRTUAL = (
    Address.parse(text)
    for text in ("00:03.0", "01:00.0", "02:00.0", "03:00.0", "05:00.0", "05:00.1", "02:10.0")
)
MOVING = (NIC, LAN, DISK, LEFT)
_SERIAL = "00-00-00-00-00-00-00-01"
_MATCHES = {
    "nic": Match(serial=_SERIAL),
    "lan": Match(mac="52:54:00:00:00:02"),
    "disk": Match(address=DISK),
    "left": Match(address=LEFT),
    "right": Match(address=RIGHT),
}


def _policy(*assigned: tuple[str, str] | tuple[str, str, When]) -> Policy:
    return Policy(
        devices=tuple(
            DevicePolicy(name=name, match=match, expect=Expect(), place=_PLACE)
            for name, match in _MATCHES.items()
        ),
        assignments=tuple(
            Assignment(
                device=one[0],
                domain=one[1],
                verification=Verification(guest=Channel.NONE),
                when=one[2] if len(one) > 2 else When.NOW,
                place=_PLACE,
            )
            for one in assigned
        ),
        source="policy.yaml",
    )


POLICIES = {
    "A": _policy(("nic", "pv1"), ("lan", "hvm1"), ("disk", "pv1")),
    "B": _policy(("nic", "hvm1"), ("left", "pv1"), ("disk", "hvm1", When.NEXT_START)),
    "none": _policy(),
}


def _wired(number: int) -> tuple[Link, ...]:
    return (Link(name=f"eth{number}", mac=f"52:54:00:00:00:0{number}", up=True, mtu=1500),)


def host(journal: MemoryJournal) -> RacedHost:
    """Cards with a serial number, with a MAC alone, a controller, two that share a reset, a virtual function."""
    journal.wipe()
    cards = (
        Card(address=ROOT, native="virtio-pci", guarded=True),
        Card(address=NIC, wired=_wired(1), serial=_SERIAL),
        Card(address=LAN, wired=_wired(2)),
        Card(address=DISK, native="nvme", disks=("eui.1",), serial="00-00-00-00-00-00-00-02"),
        Card(address=LEFT, wired=_wired(3), reset=Reset.BUS),
        Card(address=RIGHT, native="snd", reset=Reset.BUS),
        Card(address=VIRTUAL, native="igbvf", physical_function=LAN),
    )
    guests = (
        new_guest("pv1", 1, features=_ON),
        new_guest("hvm1", 2, GuestKind.HVM, features=_ON),
        new_guest("their1", 4, features=_ON, theirs=True),
    )
    made = RacedHost(cards, guests, journal)
    made.watch_foreign()
    for guest in guests:
        made.happens(f"start {guest.name}")
    made.happens(f"assignable-add {RIGHT}")
    return made


COMMANDS = (
    *(f"apply {name}" for name in POLICIES),
    *(f"{verb} {card}" for verb in ("release", "detach") for card in (NIC, DISK, LEFT)),
    "drain",
    "resume",
)
EVENTS = (
    *(f"mount {DISK}" for _ in range(2)),
    *(f"{verb} {card}" for verb in ("route", "enslave") for card in (NIC, LAN, LEFT)),
    *(f"open {card}" for card in (*MOVING, RIGHT)),
    *(f"let-go {card}" for card in (NIC, DISK)),
    *(
        f"{verb} {card}"
        for verb in ("assignable-add", "rebind", "reset", "swap", "xl-detach", "virsh-detach")
        for card in (*MOVING, RIGHT)
    ),
    *(
        f"{verb} {card} in {guest}"
        for verb in ("xl-attach", "virsh-attach", "virsh-config")
        for card in (NIC, DISK, RIGHT, VIRTUAL)
        for guest in ("their1", "pv1", "hvm1")
    ),
    *(f"{verb} {guest}" for verb in ("destroy", "reboot", "start") for guest in ("pv1", "hvm1")),
    "reboot-host",
)
events = st.sampled_from(EVENTS)
faults = st.one_of(
    st.builds(
        lambda event, done: Fault(Kind.HAPPENS, happens=event, done=done),
        events,
        st.sampled_from((0, ALL)),
    ),
    st.sampled_from((Fault(Kind.BUSY), Fault(Kind.REFUSES), Fault(Kind.KILLED, done=1))),
)


@dataclass(frozen=True, slots=True)
class Raced:
    """A command, what happens while the person is asked, at which tries of actions, and at which calls."""

    command: str
    asked: tuple[str, ...] = ()
    tries: tuple[tuple[int, str], ...] = ()
    calls: tuple[Scheduled, ...] = ()


raced = st.builds(
    Raced,
    st.sampled_from(COMMANDS),
    st.lists(events, max_size=2).map(tuple),
    st.lists(st.tuples(st.integers(0, 9), events), max_size=3).map(tuple),
    st.lists(
        st.builds(Scheduled, faults, st.sampled_from(Among), st.integers(0, 60)), max_size=2
    ).map(tuple),
)


class Race:
    """cede and others on one host."""

    def __init__(self, made: RacedHost) -> None:
        self.host, self.adapters = made, made.adapters()
        self.policy = POLICIES["none"]

    def run(self, race: Raced) -> None:
        """One command, come what may."""
        host = self.host
        host.pauses()
        host.gate.start(race.calls)
        host.at = dict(race.tries)
        host.oracle.plans()
        host.inside(cede=True)
        try:
            with asserted(), suppress(CedeError, Killed):
                self._command(*race.command.split(), asked=race.asked)
        finally:
            host.inside(cede=False)
            host.gate.start(())
        host.check_foreign()

    def _command(self, verb: str, what: str = "", *, asked: tuple[str, ...]) -> None:
        host, adapters = self.host, self.adapters
        context = RequestContext(progress=self._progress, stop=host.gate.stop, side_by_side=1)

        def confirmed() -> None:
            host.oracle.planned()
            for event in asked:
                host.happens(event)

        if verb == "apply":
            self.policy = POLICIES[what]
            targets, planned = replan(adapters, self.policy)
            confirmed()
            carry_out_pass(adapters, targets, planned, context)
        elif verb == "drain":
            drained = maintenance.plan_drain(adapters, self.policy, "", context)
            confirmed()
            maintenance.drain(adapters, drained, context)
        elif verb == "resume":
            resumed = maintenance.plan_resume(adapters, self.policy, "")
            confirmed()
            maintenance.resume(adapters, resumed, context)
        else:
            way = plan_release if verb == "release" else plan_detach
            out = way(adapters, lambda: self.policy, what)
            confirmed()
            take_out(adapters, out, context)

    def _progress(self, change: Change, event: Action | ActionOutcome) -> None:
        if isinstance(event, Action):
            self.host.a_try_begins()
            self.host.oracle.begins(change, event)


@pytest.fixture(scope="module")
def journal() -> Iterator[MemoryJournal]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        made = MemoryJournal(Path(folder))
        yield made
        made.close()


@settings(max_examples=RACES, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.sampled_from(("", "apply A", "apply B")),
    between=st.lists(events, max_size=2),
    races=st.lists(raced, min_size=1, max_size=3),
)
def test_no_action_is_done_that_would_be_refused_at_that_moment(
    journal: MemoryJournal, before: str, between: list[str], races: list[Raced]
) -> None:
    race = Race(host(journal))
    if before:
        race.run(Raced(before))
    for event in between:
        race.host.happens(event)
    for one in races:
        race.run(one)


def test_the_oracle_sees_every_kind_of_action(journal: MemoryJournal) -> None:
    race = Race(host(journal))
    race.run(Raced("apply A"))
    race.run(Raced("drain"))
    allowed = race.host.oracle.allowed
    assert {"bind_to_pciback", "plug", "redefine", "unplug", "reattach"} <= {
        v for v, n in allowed.items() if n
    }


@pytest.mark.parametrize(
    ("before", "race"),
    [
        ("", Raced("apply A", asked=(f"mount {DISK}",))),
        ("", Raced("apply A", tries=((2, f"virsh-config {NIC} in their1"),))),
        ("apply A", Raced(f"release {DISK}", tries=((1, f"virsh-config {DISK} in their1"),))),
    ],
    ids=["guards", "ownership", "return"],
)
def test_the_oracle_finds_a_cede_that_does_not_ask_again(
    journal: MemoryJournal, before: str, race: Raced
) -> None:
    """A race that is lost without the second look, and won with it."""
    for blind in (False, True):
        at_work = Race(host(journal))
        if before:
            at_work.run(Raced(before))
            at_work.host.happens("destroy pv1")
        answers: dict[str, Any] = {"return_value": None} if blind else {"wraps": recheck}
        with mock.patch("cede.executor.executor.recheck", **answers):
            if blind:
                with pytest.raises(AssertionError):
                    at_work.run(race)
            else:
                at_work.run(race)
