"""Which assignments are left alone for a while, why, and when their turn comes."""

from __future__ import annotations

from cede.daemon.backoff import FLAP_SECONDS, FLAPS, MAX_SECONDS, Backoff, hold_back
from cede.errors import FailureKind
from cede.model.actions import LoadPciback
from cede.model.pci import Address
from cede.model.plan import Change, Plan, Purpose, Satisfied, Why

NIC = "nic0 -> pv1"


def change(subject: str) -> Change:
    return Change(
        subject=subject,
        purpose=Purpose.ATTACH,
        address=Address(0, 1, 0, 0),
        identity=None,
        actions=(LoadPciback(),),
    )


def waits(backoff: Backoff, now: float) -> list[tuple[str, float]]:
    return [(one.subject, one.until - now) for one in backoff.waiting(now)]


def test_one_that_fails_is_left_alone_longer_each_time_and_says_why() -> None:
    backoff, now, found = Backoff(), 0.0, []
    for _ in range(12):
        backoff.failed(NIC, "libxl said no", now)
        ((_, wait),) = waits(backoff, now)
        found.append(wait)
        now += wait
    assert found[:5] == [5, 10, 20, 40, 80]
    assert found[-1] == MAX_SECONDS
    backoff.failed(NIC, "libxl said no", now)
    reason = backoff.waiting(now)[0].reason
    assert " 13 " in reason
    assert reason.endswith("libxl said no")


def test_its_turn_comes_when_the_pause_is_over() -> None:
    backoff = Backoff()
    backoff.failed(NIC, "no", 100.0)
    assert (waits(backoff, 104.9), backoff.next_tries(104.0)) == (
        [(NIC, 105.0 - 104.9)],
        {NIC: 105.0},
    )
    assert (waits(backoff, 105.0), backoff.next_tries(105.0)) == ([], {})


def test_success_ends_the_count_of_failures() -> None:
    backoff = Backoff()
    backoff.failed(NIC, "no", 0.0)
    backoff.failed(NIC, "no", 10.0)
    backoff.done(NIC, 30.0)
    assert waits(backoff, 30.0) == []
    backoff.failed(NIC, "no", 30.0)
    assert waits(backoff, 30.0) == [(NIC, 5.0)]


def test_one_that_flaps_is_left_alone_longer_each_time() -> None:
    backoff, now = Backoff(), 0.0
    for _ in range(FLAPS - 1):
        backoff.done(NIC, now)
        now += 30
        assert waits(backoff, now) == []
    found = []
    for _ in range(4):
        backoff.done(NIC, now)
        ((_, wait),) = waits(backoff, now)
        found.append(wait)
        now += wait + 1
    assert found == [60, 120, 240, 480]
    assert backoff.waiting(now - 2)[0].reason


def test_one_that_is_put_back_now_and_then_is_not_flapping() -> None:
    backoff = Backoff()
    for number in range(50):
        backoff.done(NIC, number * FLAP_SECONDS)
        assert waits(backoff, number * FLAP_SECONDS) == []


def test_after_a_quiet_time_flapping_is_forgotten() -> None:
    backoff = Backoff()
    for _ in range(FLAPS):
        backoff.done(NIC, 0.0)
    assert waits(backoff, 0.0) == [(NIC, 60.0)]
    later = FLAP_SECONDS * 3
    backoff.done(NIC, later)
    assert waits(backoff, later) == []


def test_a_guest_that_is_not_verified_is_asked_again_at_growing_intervals() -> None:
    backoff = Backoff()
    backoff.unverified(NIC, 0.0)
    assert (backoff.due_for_recheck([NIC], 4.0), backoff.next_tries(4.0)) == (
        frozenset(),
        {NIC: 5.0},
    )
    assert backoff.due_for_recheck([NIC], 5.0) == {NIC}
    backoff.unverified(NIC, 5.0)
    assert backoff.next_tries(5.0) == {NIC: 15.0}
    assert waits(backoff, 6.0) == [], "its work isn't held back"
    backoff.verified(NIC)
    assert (backoff.due_for_recheck([], 99.0), backoff.next_tries(5.0)) == (frozenset(), {})


def test_what_the_policy_no_longer_names_is_forgotten_and_so_is_all_when_asked() -> None:
    backoff = Backoff()
    for subject in (NIC, "nic1 -> pv1"):
        backoff.failed(subject, "no", 0.0)
    backoff.keep({NIC})
    assert waits(backoff, 0.0) == [(NIC, 5.0)]
    backoff.forget()
    assert waits(backoff, 0.0) == []


def test_only_the_changes_of_those_that_wait_are_held_back_with_reason_and_remedy() -> None:
    idle = Satisfied(subject="a -> b", why=Why.IN_PLACE, reason="in sync")
    planned = Plan(decisions=(change(NIC), idle, change("nic1 -> pv1")))
    reason = "libxl said no; next try at 14:00:00"
    held = hold_back(planned, {NIC: reason, "a -> b": "x"})
    assert [w.subject for w in held.changes] == ["nic1 -> pv1"]
    assert held.decisions[1] == idle
    assert [one.subject for one in held.decisions] == [NIC, "a -> b", "nic1 -> pv1"]
    (refusal,) = held.refusals
    assert (refusal.subject, refusal.rule, refusal.kind) == (NIC, "backoff", FailureKind.TRY_LATER)
    assert reason in refusal.reason
    assert "`cede apply" in refusal.remedy
