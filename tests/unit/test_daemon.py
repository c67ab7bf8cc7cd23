"""The daemon's loop, walked through with a clock that only moves when it waits."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cede.daemon.loop import RELOAD, Daemon
from cede.daemon.schedule import AT_ONCE, BURST_SECONDS, DEBOUNCE_SECONDS, REFILL_SECONDS, Schedule
from cede.daemon.triggers import Trigger
from cede.errors import (
    CedeError,
    HungError,
    PermanentError,
    StopRequestedError,
    TransientError,
    UnreachableError,
)
from cede.model.actions import LoadPciback
from cede.model.pci import Address
from cede.model.plan import Change, Outcome, Plan, Purpose, Satisfied, Why
from cede.model.policy import Policy
from cede.services.assess import to_ask
from cede.services.pass_report import Report
from cede.verifier.checklist import AssignmentChecks, CheckResult, CheckStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from cede.daemon.backoff import Waiting

NIC = "nic0 -> pv1"
TO_DO = Change(
    subject=NIC,
    purpose=Purpose.ATTACH,
    address=Address(0, 1, 0, 0),
    identity=None,
    actions=(LoadPciback(),),
)
NEEDED = Plan(decisions=(TO_DO,))
IDLE = Plan(decisions=(Satisfied(subject=NIC, why=Why.IN_PLACE, reason="in sync"),))


def event(what: str = "", *, source: str = "xenstore", urgent: bool = False) -> Trigger:
    return Trigger(source=source, what=what, urgent=urgent)


@dataclass
class World:
    """Everything the daemon is made of. `events` come at their times; time passes only while it waits or works."""

    events: deque[tuple[float, Trigger]] = field(default_factory=deque)
    until: float = 1000.0
    now: float = 0.0
    plan: Callable[[], Plan] = lambda: IDLE
    fails: deque[CedeError | None] = field(default_factory=deque)
    does: Callable[[Change], CedeError | None] = lambda _: None
    verified: bool = True
    takes: float = 0.2
    stopping: bool = False
    new_policy: bool = False
    changing: bool = False
    policy: Policy = field(default_factory=Policy)
    passes: list[tuple[float, str]] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    unverified: Collection[str] = ()
    asked_again: list[float] = field(default_factory=list)
    tries: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    waiting: Sequence[Waiting] = ()
    errors: list[str] = field(default_factory=list)
    signs: list[float] = field(default_factory=list)
    turns: int = 0
    forced: list[bool] = field(default_factory=list)
    observed_at: float | None = None

    def daemon(self) -> Daemon:
        return Daemon(
            passes=self.begin_pass,
            policies=self,
            schedule=Schedule(chance=lambda: 0.5, interval=300.0),
            reporter=self,
            take=self.take,
            sleep=self.sleep,
            clock=lambda: self.now,
            when=lambda at: f"at {at:.0f}",
            stopped=lambda: self.stopping or self.now >= self.until,
            heartbeat=150.0,
        )

    def run(self) -> World:
        self.daemon().run()
        return self

    def take(self, seconds: float) -> Sequence[Trigger]:
        self.turns += 1
        assert seconds >= 0
        end = self.now + seconds
        if self.events and self.events[0][0] <= end:
            self.now = max(self.now, self.events[0][0])
        else:
            self.now = end
        found: dict[str, Trigger] = {}
        while self.events and self.events[0][0] <= self.now:
            came = self.events.popleft()[1]
            found[came.source] = came
        return tuple(found.values())

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @contextmanager
    def begin_pass(self, policy: Policy, why: str) -> Iterator[PlannedPass]:
        del policy
        self.passes.append((self.now, why))
        self.now += self.takes
        error = self.fails.popleft() if self.fails else None
        if error is not None:
            raise error
        yield PlannedPass(world=self, plan=self.plan(), unverified=self.unverified)

    def carry_out(self, planned: Plan, again: Collection[str]) -> Report:
        self.asked_again += [self.now] * len(again)
        self.worked += [self.now] * len(planned.changes)
        outcomes = {
            change.subject: Outcome(change=change, error=self.does(change))
            for change in planned.changes
        }
        status = CheckStatus.PASSED if self.verified else CheckStatus.UNVERIFIED
        checked = tuple(
            AssignmentChecks(
                subject=subject,
                findings=(
                    CheckResult(source="", witness=witness, expected="", found="", status=status),
                ),
            )
            for subject, decision in planned.by_subject.items()
            if (
                witness := to_ask(
                    decision, outcomes.get(subject), again=subject in again, stopped=False
                )
            )
        )
        report = Report.of(planned, tuple(outcomes.values()), checked)
        if again or planned.changes:
            self.unverified = () if self.verified else (NIC,)
        return report

    def reload(self, *, forced: bool) -> bool:
        self.forced.append(forced)
        found, self.new_policy = self.new_policy, False
        return found

    def observed(self) -> None:
        self.observed_at = self.now if self.observed_at is None else self.observed_at

    def alive(self) -> None:
        self.signs.append(self.now)

    def passed(self, report: Report, waiting: Sequence[Waiting]) -> None:
        del report
        self.waiting = waiting

    def failed(self, error: CedeError, seconds: float) -> None:
        self.errors.append(f"{error.message} {seconds:.0f}")

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.passes]


@dataclass
class PlannedPass:
    """A pass of the world, of which nothing is done yet."""

    world: World
    plan: Plan
    unverified: Collection[str]

    def carry_out(self, planned: Plan, needs_recheck: Collection[str]) -> Report:
        return self.world.carry_out(planned, needs_recheck)

    def record(self, report: Report, next_tries: Mapping[str, float]) -> None:
        del report
        self.world.tries.append((self.world.now, dict(next_tries)))


def test_undisturbed_it_makes_a_pass_when_the_timer_says_and_the_first_one_at_once() -> None:
    world = World(until=1000.0).run()
    assert world.times == pytest.approx([0.0, 300.2, 600.4, 900.6])
    assert {why for _, why in world.passes} == {"timer"}
    assert world.turns < 12, "between two passes it sleeps, but for its signs of life"


def test_an_event_brings_a_pass_within_a_moment_and_is_named_in_it() -> None:
    world = World(deque([(100.0, event("backend/pci/1/0/state"))]), until=200.0).run()
    at, why = world.passes[1]
    assert 100.0 < at <= 100.0 + 2 * DEBOUNCE_SECONDS
    assert why == "xenstore: backend/pci/1/0/state"


def test_ten_thousand_events_in_a_second_are_few_passes() -> None:
    storm = deque((100.0 + number / 10_000, event(str(number))) for number in range(10_000))
    world = World(storm, until=200.0).run()
    assert len(world.passes) == 2
    assert world.turns < 30


def test_a_storm_without_end_cannot_starve_it() -> None:
    storm = deque((0.01 * number, event()) for number in range(6000))
    world = World(storm, until=60.0).run()
    gaps = [b - a for a, b in pairwise(world.times)]
    longest = BURST_SECONDS + DEBOUNCE_SECONDS + world.takes
    assert max(gaps) <= max(longest, REFILL_SECONDS + longest)
    assert AT_ONCE < len(world.passes) <= AT_ONCE + 60 / REFILL_SECONDS + 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=50), max_size=200))
def test_whatever_comes_when_the_last_event_is_always_applied_by_a_pass(
    times: list[float],
) -> None:
    world = World(deque((at, event()) for at in sorted(times)), until=60.0).run()
    if times:
        assert max(world.times) >= max(times) or max(times) <= 0
    gaps = [b - a for a, b in pairwise(world.times)]
    assert all(gap >= min(DEBOUNCE_SECONDS, world.takes) for gap in gaps)


def test_its_own_actions_trigger_one_pass_and_a_pass_that_changes_nothing_ends_that() -> None:
    world = World(until=200.0)
    left = [TO_DO]

    def planned() -> Plan:
        return NEEDED if left else IDLE

    def does(_change: Change) -> None:
        left.clear()
        world.events.extend((world.now, event()) for _ in range(20))

    world.plan, world.does = planned, does
    world.run()
    assert len(world.passes) == 2


def test_a_libvirt_that_is_away_is_asked_for_ever_without_spinning() -> None:
    world = World(until=1000.0, fails=deque([UnreachableError("libvirt is away")] * 1000)).run()
    waits = [b - a - world.takes for a, b in pairwise(world.times)]
    assert waits[:7] == pytest.approx([1, 2, 4, 8, 16, 32, 60])
    assert set(map(round, waits[7:])) == {60}
    assert world.observed_at is not None, "the host's start doesn't wait for it"


def test_when_libvirt_is_back_a_pass_is_made_at_once() -> None:
    world = World(
        deque([(500.0, event("is back", source="libvirt", urgent=True))]),
        until=600.0,
        fails=deque([UnreachableError("away")] * 12),
    ).run()
    assert any(500.0 < at < 500.5 for at in world.times)


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (HungError("it hangs"), [60, 120, 240]),
        (TransientError("`cede apply` is running"), [0, 1, 2, 4, 8, 15]),
        (PermanentError("the journal can't be written"), [5, 10, 20, 40]),
    ],
)
def test_no_error_of_a_pass_ends_it(error: CedeError, waits: list[int]) -> None:
    world = World(until=700.0, fails=deque([error] * 200)).run()
    assert [int(said.rpartition(" ")[2]) for said in world.errors[: len(waits)]] == waits


def nonsense(*_: object, **__: object) -> NoReturn:
    raise ZeroDivisionError("nobody expected this")


@pytest.mark.parametrize("part", ["plan", "does", "reload", "carry_out", "record"])
def test_an_error_that_nobody_expects_in_a_pass_is_reported_counted_and_backed_off(
    part: str,
) -> None:
    world = World(until=700.0)
    if part == "record":
        world.tries = nonsense  # type: ignore[assignment]
    else:
        setattr(world, part, nonsense)
    if part == "does":
        world.plan = lambda: NEEDED
    daemon = world.daemon()
    daemon.run()
    assert [int(said.rpartition(" ")[2]) for said in world.errors[:4]] == [5, 10, 20, 40]
    assert daemon.faults == len(world.errors)


@pytest.mark.parametrize("part", ["take", "alive", "observed", "passed", "failed"])
def test_an_error_that_nobody_expects_around_the_passes_neither_ends_it_nor_makes_it_spin(
    part: str,
) -> None:
    world = World(until=700.0, fails=deque([PermanentError("no")] * (part == "failed")))
    setattr(world, part, nonsense)
    daemon = world.daemon()
    daemon.run()
    assert world.now >= 700.0, "it runs until it is stopped"
    assert 0 < daemon.faults < 700.0 / 5


def test_an_assignment_that_keeps_failing_is_left_alone_longer_each_time() -> None:
    world = World(until=3000.0, plan=lambda: NEEDED, does=lambda _: PermanentError("libxl said no"))
    world.run()
    gaps = [round(b - a) for a, b in pairwise(world.worked)]
    assert gaps[:6] == pytest.approx([5, 10, 20, 40, 80, 160], abs=1)
    assert len(world.worked) < 12
    (waiting,) = world.waiting
    assert (waiting.subject, "libxl said no" in waiting.reason) == (NIC, True)


def test_the_very_pass_in_which_one_failed_knows_when_it_is_tried_again() -> None:
    storm = deque((0.5 * number, event()) for number in range(20))
    world = World(storm, until=20.0, plan=lambda: NEEDED, does=lambda _: PermanentError("no"))
    world.run()
    first, second = world.tries[:2]
    assert first[1] == {NIC: pytest.approx(first[0] + 5)}
    assert second[1] == first[1], "and one in which it waits"
    assert world.worked[1] == pytest.approx(first[1][NIC], abs=1)


def test_one_whose_guest_is_asked_again_has_its_time_too_and_none_once_it_is_verified() -> None:
    world = World(until=8.0, verified=False)
    world.plan = lambda: IDLE if world.worked else NEEDED
    world.run()
    (at, reported), *_ = world.tries
    assert reported == {NIC: pytest.approx(at + 5)}
    world.verified, world.until = True, 20.0
    world.run()
    assert world.tries[-1][1] == {}


def test_what_failed_once_and_was_done_then_is_not_said_to_wait_for_its_guests_answer() -> None:
    world = World(until=7.0, verified=False, plan=lambda: NEEDED)
    world.does = lambda _: PermanentError("no") if len(world.worked) == 1 else None
    world.run()
    assert (len(world.worked), world.waiting) == (2, ())


def test_a_guest_that_an_earlier_daemon_left_unverified_is_asked_at_once() -> None:
    world = World(until=1.0, unverified=(NIC,)).run()
    assert len(world.asked_again) == 1


def test_events_do_not_bring_the_turn_of_one_that_waits() -> None:
    storm = deque((10.0 + number, event()) for number in range(100))
    world = World(storm, until=110.0, plan=lambda: NEEDED, does=lambda _: PermanentError("no"))
    world.run()
    assert len(world.worked) == 5
    assert len(world.passes) >= 30, "the others have their turn all the time"


def test_a_flapping_device_is_backed_off() -> None:
    storm = deque((2.0 * number, event()) for number in range(300))
    world = World(storm, until=600.0, plan=lambda: NEEDED).run()
    assert 5 <= len(world.worked) <= 10
    assert world.waiting[0].reason


def test_one_that_its_guest_did_not_verify_is_asked_again_later() -> None:
    world = World(until=200.0, verified=False)
    world.plan = lambda: IDLE if world.worked else NEEDED
    world.run()
    assert [round(at) for at in world.asked_again] == pytest.approx([5, 16, 36, 76, 156], abs=2)


def test_what_dom0_sees_out_of_sync_though_nothing_is_to_be_done_is_observed_again_soon() -> None:
    """A guest that starts connects its frontend some time after its domain's last event."""
    world = World(until=290.0, verified=False)

    def plan() -> Plan:
        world.verified = world.now >= 16.0
        return IDLE

    world.plan = plan
    world.run()
    assert [round(at) for at in world.times] == pytest.approx([0, 5, 16, 36], abs=2)
    assert world.asked_again == []


def test_a_guest_that_was_not_asked_has_verified_nothing_and_is_not_asked_for_nothing() -> None:
    world = World(until=1000.0, verified=False).run()
    assert world.asked_again == []
    # observed again and again by itself, but less and less often
    assert len(world.passes) <= 4 + 7


def test_a_reload_reads_the_policy_and_tries_at_once_what_was_put_off() -> None:
    failing = World(until=300.0, plan=lambda: NEEDED, does=lambda _: PermanentError("no"))
    failing.events = deque([(200.0, event(source=RELOAD, urgent=True))])
    failing.run()
    assert any(200.0 < at < 201.0 for at in failing.worked)
    assert failing.forced.count(True) == 1


def test_a_changed_policy_forgets_what_failed_under_the_old_one() -> None:
    world = World(until=300.0, plan=lambda: NEEDED, does=lambda _: PermanentError("no"))
    world.events = deque([(200.0, event(source="policy"))])
    real = world.reload

    def reload(*, forced: bool) -> bool:
        real(forced=forced)
        return world.now > 200.0 and not any(at > 200.0 for at in world.worked)

    world.reload = reload  # type: ignore[method-assign]
    world.run()
    assert any(200.0 < at < 201.0 for at in world.worked)


def test_files_that_are_being_written_are_read_again_in_a_moment() -> None:
    world = World(until=10.0, changing=True).run()
    assert len(world.passes) == pytest.approx(9, abs=1)


def test_asked_to_stop_in_the_middle_of_an_action_it_makes_no_other_pass() -> None:
    world = World(plan=lambda: NEEDED)

    def does(_change: Change) -> CedeError:
        world.stopping = True
        return StopRequestedError("interrupted")

    world.does = does
    world.run()
    assert (len(world.passes), world.waiting) == (1, ()), "the administrator's stop is no failure"


def test_asked_to_stop_while_it_waits_it_stops_at_once() -> None:
    world = World(until=1e9)
    take = world.take

    def stopped(seconds: float) -> Sequence[Trigger]:
        if world.now > 1000:
            world.stopping = True
            return (event(source="stop"),)
        return take(seconds)

    world.take = stopped  # type: ignore[method-assign]
    world.run()
    assert world.now < 1500


def test_it_gives_a_sign_of_life_at_every_turn_and_none_while_it_does_not_turn() -> None:
    world = World(until=1000.0).run()
    gaps = [b - a for a, b in pairwise(world.signs)]
    assert max(gaps) <= 150.0 + 1
    stuck = World(until=1000.0, takes=5000.0).run()
    assert all(at == 0.0 for at in stuck.signs)


def test_ready_is_said_when_the_host_was_seen_and_before_anything_is_done() -> None:
    world = World(until=1.0, plan=lambda: NEEDED)
    seen: list[float | None] = []

    def does(_change: Change) -> None:
        seen.append(world.observed_at)

    world.does = does
    world.run()
    assert seen == [0.2]
