"""Histories: what people ask of cede and what happens meanwhile, run on the host in memory, and judged."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import CedeError, FailureKind, HungError, UnsafeError
from cede.model.domain import GuestKind
from cede.model.pci import PCIBACK, Address, Link
from cede.model.plan import Deferred, Plan
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
from cede.services import maintenance
from cede.services.one_off import plan_detach, plan_release, take_out
from cede.services.pass_report import Report
from cede.services.reconcile import (
    RequestContext,
    carry_out_pass,
    replan,
)
from cede.services.verification import status
from sim.card import Card
from sim.faults import Adapter, Killed, Kind, asserted
from sim.guest import new_guest
from sim.in_memory import MemoryHost

if TYPE_CHECKING:
    from cede.model.plan import Outcome
    from cede.planner.resolve import Targets
    from sim.faults import Scheduled
    from sim.guest import Guest
    from sim.in_memory import MemoryJournal

SOURCE = "policy.yaml"
_PLACE = Place(file=SOURCE, line=1, column=1)

ROOT, NIC, BARE, DISK, THEIRS = (
    Address.parse(text) for text in ("00:03.0", "01:00.0", "02:00.0", "03:00.0", "04:00.0")
)
OURS = (NIC, BARE, DISK)
_NAMES = {ROOT: "root", NIC: "nic", BARE: "bare", DISK: "disk", THEIRS: "theirs"}


_ANY = ("any0", "any1")


def _policy(*assigned: tuple[Address | str, str] | tuple[Address | str, str, When]) -> Policy:
    return Policy(
        devices=tuple(
            DevicePolicy(name=name, match=match, expect=Expect(), place=_PLACE)
            for name, match in (
                *((name, Match(address=address)) for address, name in _NAMES.items()),
                *((name, Match(vendor="8086", any_one=True)) for name in _ANY),
            )
        ),
        assignments=tuple(
            Assignment(
                device=one[0] if isinstance(one[0], str) else _NAMES[one[0]],
                domain=one[1],
                verification=Verification(guest=Channel.NONE),
                when=one[2] if len(one) > 2 else When.NOW,
                place=_PLACE,
            )
            for one in assigned
        ),
        source=SOURCE,
    )


POLICIES = {
    "A": _policy((NIC, "pv1"), (BARE, "hvm1"), (ROOT, "pv1")),
    "B": _policy((NIC, "hvm1"), (DISK, "pv1"), (THEIRS, "hvm1")),
    "C": _policy((NIC, "pv1"), (DISK, "old1"), (BARE, "pv1", When.NEXT_START)),
    "any": _policy(("any0", "pv1"), ("any1", "hvm1")),
    "none": _policy(),
}
_ON = "<passthrough state='on'/><e820_host state='on'/>"


def host(journal: MemoryJournal) -> MemoryHost:
    """A root disk, three cards of different kinds, one more that a person gave to their guest; guests that run."""
    journal.wipe()
    wired = Link(
        name="enp1s0", mac="52:54:00:00:00:01", up=True, carrier=True, mtu=1400,
        addresses=("192.0.2.9/24",),
    )  # fmt: skip
    cards = (
        Card(address=ROOT, native="virtio-pci", guarded=True),
        Card(address=NIC, wired=(wired,)),
        Card(address=BARE, native=None),
        Card(address=DISK, native="nvme", lazy=True, disks=("eui.1",)),
        Card(address=THEIRS),
    )
    guests = (
        new_guest("pv1", 1, features=_ON),
        new_guest("hvm1", 2, GuestKind.HVM, features=_ON),
        new_guest("old1", 3, features=""),
        new_guest("their1", 4, features=_ON, theirs=True),
    )
    made = MemoryHost(cards, guests, journal)
    made.watch_foreign()
    for guest in guests:
        made.happens(f"start {guest.name}")
    made.happens(f"virsh-attach {THEIRS} in their1")
    made.loaded = False
    return made


@dataclass(frozen=True, slots=True)
class Operation:
    """A command of cede's, or an event of the host's by its name.

    `apply POLICY`, `release ADDRESS`, `detach ADDRESS`, `cede-pause` or `drain` of an address, a guest or everything,
    `cede-resume`.
    """

    what: str
    schedule: tuple[Scheduled, ...] = ()


class History:
    """What was asked of cede on one host, and what is known from it."""

    def __init__(self, made: MemoryHost) -> None:
        self.host = made
        self.adapters = made.adapters()
        self.policy = POLICIES["none"]
        # idle on pciback, since the administrator wants it so, or the policy wants it elsewhere next time
        self.detached: set[Address] = set()
        self.keep_bound: set[Address] = set()
        self.hung: set[Address] = set()

    @property
    def context(self) -> RequestContext:
        """One change after the other, the same each time."""
        return RequestContext(stop=self.host.gate.stop, side_by_side=1)

    def run(self, operation: Operation) -> None:
        """One operation, come what may, and the host judged after it."""
        verb, _, what = operation.what.partition(" ")
        self.hung = set()
        self.host.pauses()
        self.host.gate.start(operation.schedule)
        with asserted(), suppress(CedeError, Killed):
            if verb == "apply":
                self.apply(POLICIES[what])
            elif verb in _WAYS:
                self.take(verb, Address.parse(what))
            elif verb in {"cede-pause", "drain"}:
                self.leave_alone(what, drained=verb == "drain")
            elif verb == "cede-resume":
                self.resume()
            else:
                self.host.happens(operation.what)
        unwritten = (Kind.REFUSES, Adapter.JOURNAL) in self.host.gate.met
        self.host.gate.start(())
        self.plan_assignment()
        held = {held.address for held in self.host.written.load_state().held}
        assert self.hung <= held or unwritten, "what hangs isn't left alone"

    def apply(self, policy: Policy) -> Report:
        """As `cede apply` does it."""
        self.policy = policy
        targets, planned = replan(self.adapters, policy)
        inventory = targets.inventory
        self.keep_bound = _waiting(targets, planned)
        held = {held.address for held in inventory.held}
        assert not held & {change.address for change in planned.changes}, "what hangs is touched"
        done = carry_out_pass(self.adapters, targets, planned, self.context)
        self._hung(done.outcomes)
        if not self.host.gate.met:
            self._recorded({(left.address, left.domain) for left in inventory.last_applied})
        paused = {one.address for one in done.plan.changes if not one.detaching} & {
            Address.parse(pause.device) for pause in inventory.pauses if pause.device
        }
        assert not paused, "what is paused is given away"
        blind = (Kind.REFUSES, Adapter.HYPERVISOR) in self.host.gate.met
        for outcome in done.outcomes:
            unsafe = isinstance(outcome.rollback_failed, UnsafeError)
            excused = blind or self._persons(outcome.change.address)
            assert excused or not unsafe, "taken back in the wrong order"
        return done

    def _recorded(self, before: set[tuple[Address, str]]) -> None:
        """What a pass without faults records as attached is so, but for what was taken away since the one before."""
        domains = [guest.domain for guest in self.host.guests.values()]
        so = {(h.address, d.uuid) for d in domains for h in (*d.live, *d.config)}
        left = self.host.written.load_state().last_applied
        wrong = {(one.address, one.domain) for one in left} - so - before
        assert not wrong, f"recorded where it isn't: {wrong}"

    def take(self, verb: str, address: Address) -> Report:
        """As `cede release` and `cede detach` do it."""
        if verb == "detach":
            self.detached.add(address)
        was = copy(self.host.cards[address])
        planned = _WAYS[verb](self.adapters, lambda: self.policy, str(address))
        done = take_out(self.adapters, planned, self.context)
        self._hung(done.outcomes)
        if verb == "release" and self.host.cards[address] != was:
            # one that came to nothing leaves it as the person had it
            self.detached.discard(address)
        return done

    def leave_alone(self, what: str, *, drained: bool) -> None:
        """As `cede pause` and `cede drain` do it."""
        name = "" if what == "everything" else what
        if not drained:
            maintenance.pause(self.adapters, self.policy, name, self.context)
            return
        planned = maintenance.plan_drain(self.adapters, self.policy, name, self.context)
        assert not any(change.attaching for change in planned.plan.changes), (
            "a drain gives something away"
        )
        done = maintenance.drain(self.adapters, planned, self.context)
        self._hung(done.outcomes)
        for one in done.outcomes:
            assert one.change.address is not None
            card = self.host.cards[one.change.address]
            well = one.error is None and one.change.identity and not self.host.gate.met
            excused = not well or self._persons(card.address)
            assert excused or card.at_home, f"{card} was drained and isn't home"

    def resume(self) -> None:
        """As `cede resume` does it."""
        planned = maintenance.plan_resume(self.adapters, self.policy, "")
        self.keep_bound |= _waiting(planned.targets, planned.whole)
        self._hung(maintenance.resume(self.adapters, planned, self.context).outcomes)

    def _hung(self, outcomes: tuple[Outcome, ...]) -> None:
        for one in outcomes:
            if any(isinstance(e, HungError) for e in (one.error, one.rollback_failed)):
                assert one.change.address is not None
                self.hung.add(one.change.address)

    # -- judging

    def plan_assignment(self) -> None:
        """Nobody else's was touched, and of each device it is known what it is."""
        self.host.check_foreign()
        memory = self.host.written.load_state()
        held = {held.address for held in memory.held}
        reported = {started.address for started in memory.unfinished} | held
        reported |= {m.address for g in self.host.guests.values() for m in g.domain.owned}
        for card in self.host.cards.values():
            if card.at_home:
                card.persons = False
                self.detached.discard(card.address)
            known = card.at_home or not card.present or card.persons or card.address in reported
            idle = card.driver == PCIBACK and not card.in_guest
            waits = idle and card.address in self.detached | self.keep_bound
            assert known or waits, f"nobody knows why {card} is as it is"

    # -- once faults have stopped

    def heal(self) -> None:
        """Faults stop: what was gone or paused is back, and the administrator looks after what they were told of."""
        self.host.gate.heal()
        for card in self.host.cards.values():
            self.host.happens(f"appear {card.address}")
        self._guests("resume")
        for guest in self.host.guests.values():
            live = [self.host.cards[hostdev.address] for hostdev in guest.domain.live]
            if any(c.owner != guest.domid or c.address not in self.host.backend for c in live):
                self.host.happens(
                    f"destroy {guest.name}"
                )  # it lists what was pulled, or Xen took out
        self._guests("start")
        for held in self.host.written.load_state().held:
            self.take("release", held.address)
        self.host.written.resume(self.host.written.load_state().pauses)

    def _guests(self, *verbs: str) -> None:
        for name in self.host.guests:
            for verb in verbs:
                self.host.happens(f"{verb} {name}")

    def _persons(self, address: Address | None) -> bool:
        assert address is not None, "a history is about devices"
        card = self.host.cards[address]
        return card.persons or card.guarded or self._taken(card)

    def converges(self) -> None:
        """Two applies, and what the policy wants is so, but for what the administrator's own actions stand against."""
        for _ in range(2):
            self.apply(self.policy)
            self._guests("start")
            self.plan_assignment()
        targets, planned = replan(self.adapters, self.policy)
        assert [w for w in planned.changes if not self._persons(w.address)] == []
        excused = {
            target.subject
            for target in targets.each
            if (target.device and self._persons(target.device.address))
            or self._kept_off(self.host.guests[target.assignment.domain])
        }
        persons = [address for address in self.host.cards if self._persons(address)]
        words = {_NAMES[address] for address in persons} | {str(address) for address in persons}
        ownership = (m for guest in self.host.guests.values() for m in guest.domain.owned)
        words |= {ownership.name for ownership in ownership if ownership.address in persons}
        started = self.host.written.load_state().unfinished
        words |= {one.device for one in started if one.address in persons}
        for refusal in planned.refusals:
            said = set(refusal.subject.replace(",", "").split())
            assert refusal.subject in excused or said & words, refusal
        action_required = {d.subject for d in planned.decisions if isinstance(d, Deferred)}
        for checked in status(self.adapters, targets, planned).checked:
            assert checked.verified or checked.subject in excused | action_required, checked

    def comes_home(self, *, by_policy: bool) -> None:
        """Out of the policy, or released by name: dom0 has its devices as they were, and nothing is left to do."""
        if by_policy:
            self.policy = POLICIES["none"]
            for _ in range(2):
                self.apply(self.policy)
        for card in self.host.cards.values():
            if not by_policy or card.address in self.detached or card.persons:
                self.take("release", card.address)
        for card in self.host.cards.values():
            back = card.in_dom0 if card.persons else card.at_home
            assert back or self._taken(card), f"{card} didn't come home"
        memory = self.host.written.load_state()
        theirs = {card.address for card in self.host.cards.values() if self._taken(card)}
        assert {started.address for started in memory.unfinished} <= theirs
        # a release that is refused, since the device is in the administrator's guest, lets go of nothing
        assert {held.address for held in memory.held} <= theirs
        for guest in self.host.guests.values():
            assert {ownership.address for ownership in guest.domain.owned} <= theirs

    def _kept_off(self, guest: Guest) -> bool:
        """It doesn't start, for want of what the administrator wrote into its XML."""
        return guest.domid is None and bool(self.host.theirs[guest.name][1])

    def _taken(self, card: Card) -> bool:
        """By the administrator, for a guest."""
        return any(
            hostdev.address == card.address
            for listed in self.host.theirs.values()
            for hostdev in (*listed[0], *listed[1])
        )


def _waiting(targets: Targets, planned: Plan) -> set[Address]:
    """The devices that the policy gives away later."""
    later = {r.subject for r in planned.refusals if r.kind is FailureKind.TRY_LATER}
    return {t.device.address for t in targets.each if t.device and t.subject in later}


_WAYS = {"release": plan_release, "detach": plan_detach}
