"""Conditions: what a pass came to, in words that stay, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.commands.exit_status import Exit, of_status
from cede.errors import (
    FailureKind,
    PermanentError,
    StopRequestedError,
    TransientError,
    UnreachableError,
    UnsafeError,
)
from cede.model.actions import (
    AddToConfig,
    HotPlug,
    LoadPciback,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.conditions import Condition, Status, changed_conditions, host_conditions, with_times
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.journal_state import Pause
from cede.model.pci import Address, Device, Identity, SwitchedOn
from cede.model.plan import (
    Change,
    Decision,
    Deferred,
    Drifted,
    Outcome,
    Paused,
    Plan,
    Purpose,
    Refused,
    Satisfied,
    Why,
)
from cede.model.policy import Assignment, Place
from cede.planner.resolve import Target
from cede.services.assess import AssignmentStatus, assess, needs_recheck, to_ask
from cede.services.pass_report import Report
from cede.verifier.checklist import (
    AssignmentChecks,
    CheckResult,
    Witness,
    by_guest,
    check_result,
    unverified_result,
)
from cede.verifier.host_checks import of_device

NIC = Address(0, 1, 0, 0)
NAME = "nic0 -> pv1"
IN = (
    HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0"),
    AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="p"),
)
OUT = (
    Unplug(address=NIC, domain="pv1"),
    RemoveFromConfig(address=NIC, domain="pv1"),
    ReturnToDom0(address=NIC),
)
WORK = Change(
    subject=NAME,
    purpose=Purpose.ATTACH,
    address=NIC,
    identity=Identity(vendor="8086", device="10d3"),
    actions=IN,
)
DRAIN = replace(WORK, purpose=Purpose.DRAIN, actions=OUT, reason="drained by ann")
IDLE = Satisfied(subject=NAME, why=Why.IN_PLACE, reason="in pv1 already")
ALTERNATIVE = replace(IDLE, why=Why.ALTERNATIVE_HAS_IT)
PAUSED = Paused(subject=NAME, pause=Pause(), reason="paused by ann")
DRAINED = Paused(subject=NAME, pause=Pause(drained=True), reason="drained by ann")
DRIFTED = Drifted(subject=NAME, reason="drifted: gone")
DEFERRED = Deferred(subject=NAME, action_required="start pv1", reason="at its next start")
UNSAFE = Refused(
    subject=NAME,
    rule="host-needs-it",
    kind=FailureKind.UNSAFE,
    reason="the host needs it",
    remedy="don't",
)
WRONG = (check_result("live XML", "hostdev", "no hostdev", passed=False),)
RIGHT = (check_result("live XML", "hostdev", "hostdev", passed=True),)
UNSEEN = (*RIGHT, unverified_result("dom0", "libvirt doesn't answer"))
GUEST_RIGHT = (*RIGHT, *by_guest(check_result("guest driver", "e1000e", "e1000e", passed=True)))
GUEST_WRONG = (*RIGHT, *by_guest(check_result("guest driver", "e1000e", "no driver", passed=False)))
GUEST_SILENT = (*RIGHT, *by_guest(unverified_result("guest", "the console is busy")))
DEVICE_RIGHT, DEVICE_IDLE = (
    (*RIGHT, of_device(SwitchedOn(memory=True, io=False, bus_master=True, msix=on)))
    for on in (True, False)
)
NO = PermanentError("no", remedy="do")
BEFORE, NEXT_TRY = "2026-01-31T02:00:00.000+00:00", "2026-01-31T03:00:00.000+00:00"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the assignment after a pass; `live` and `config` are where the device was before."""

    live: bool = False
    config: bool = False
    decision: Decision = WORK
    done: bool = False
    error: PermanentError | StopRequestedError | None = None
    rollback_failed: bool = False
    checks: tuple[CheckResult, ...] | None = None

    def assess(self, before: Sequence[Condition] = (), at: str = "") -> AssignmentStatus:
        outcome = None
        if self.done:
            assert isinstance(self.decision, Change)
            stuck = self.error if self.rollback_failed else None
            outcome = Outcome(change=self.decision, error=self.error, rollback_failed=stuck)
        return assess(self.target, self.decision, outcome, self.checks, before, at)

    @property
    def target(self) -> Target:
        hostdev = (Hostdev(address=NIC),)
        return Target(
            assignment=Assignment(device="nic0", domain="pv1", place=Place(file="p", line=1, column=1)),
            device=Device(address=NIC, identity=Identity(vendor="8086", device="10d3")),
            domain=Domain(
                name="pv1", uuid="1", kind=GuestKind.PV, domid=1,
                live=hostdev if self.live else (), config=hostdev if self.config else (),
            ),
        )  # fmt: skip


def conditions_of(
    seen: Seen, before: Sequence[Condition] = (), at: str = ""
) -> tuple[Condition, ...]:
    return seen.assess(before, at).conditions


SEEN = Seen()
THERE = replace(SEEN, live=True, config=True)

# what was seen: Attached, Permanent, Verified, InSync, each as status and reason
TABLE = [
    (replace(THERE, decision=IDLE, checks=RIGHT),
     "True InDomain, True InPersistentXML, Unknown NotAsked, Unknown NotAsked"),
    (replace(SEEN, done=True, checks=GUEST_RIGHT),
     "True InDomain, True InPersistentXML, True GuestHasIt, True AsAssigned"),
    (replace(SEEN, done=True, checks=GUEST_WRONG),
     "True InDomain, True InPersistentXML, False GuestFoundOtherwise, False GuestFoundOtherwise"),
    (replace(SEEN, done=True, checks=GUEST_SILENT),
     "True InDomain, True InPersistentXML, Unknown NoAnswer, Unknown NoAnswer"),
    (replace(SEEN, done=True, checks=DEVICE_RIGHT),
     "True InDomain, True InPersistentXML, True DeviceInUse, True AsAssigned"),
    (replace(SEEN, done=True, checks=DEVICE_IDLE),
     "True InDomain, True InPersistentXML, Unknown DeviceNotInUse, Unknown DeviceNotInUse"),
    (replace(SEEN, done=True, checks=WRONG),
     "True InDomain, True InPersistentXML, False HostFoundOtherwise, False HostFoundOtherwise"),
    (replace(SEEN, done=True, checks=UNSEEN),
     "True InDomain, True InPersistentXML, Unknown NotAsked, Unknown NoAnswer"),
    (SEEN, "False Outstanding, False Outstanding, False NotAttached, False Outstanding"),
    (replace(SEEN, decision=replace(WORK, purpose=Purpose.RESTORE, reason="drifted: gone")),
     "False Drifted, False Drifted, False NotAttached, False Drifted"),
    (replace(SEEN, config=True, decision=DRIFTED),
     "False Drifted, True InPersistentXML, False NotAttached, False Drifted"),
    (replace(SEEN, decision=PAUSED),
     "False Paused, False Paused, False NotAttached, Unknown Paused"),
    (replace(THERE, decision=PAUSED),
     "True InDomain, True InPersistentXML, Unknown NotAsked, Unknown Paused"),
    (replace(SEEN, decision=DRAINED),
     "False Drained, False Drained, False NotAttached, Unknown Drained"),
    (replace(THERE, decision=DRAIN, done=True),
     "False Drained, False Drained, False NotAttached, Unknown Drained"),
    (replace(SEEN, decision=ALTERNATIVE),
     "False AlternativeHasIt, False AlternativeHasIt, False NotAttached, True AlternativeHasIt"),
    (replace(SEEN, config=True, decision=DEFERRED),
     "False AwaitsStart, True InPersistentXML, False NotAttached, False AwaitsStart"),
    (replace(SEEN, decision=replace(WORK, actions=IN[1:], action_required="start pv1"), done=True),
     "False AwaitsStart, True InPersistentXML, False NotAttached, False AwaitsStart"),
    (replace(SEEN, decision=replace(WORK, actions=IN[1:]), done=True, checks=RIGHT),
     "False NextStart, True InPersistentXML, False NotAttached, True AsAssigned"),
    (replace(SEEN, decision=UNSAFE),
     "False Unsafe, False Unsafe, False NotAttached, False Unsafe"),
    (replace(SEEN, decision=replace(UNSAFE, kind=FailureKind.TRY_LATER)),
     "False NotYet, False NotYet, False NotAttached, False NotYet"),
    (replace(SEEN, done=True, error=PermanentError("no")),
     "False Failed, False Failed, False NotAttached, False Failed"),
    (replace(SEEN, done=True, error=StopRequestedError("the administrator stopped it")),
     "False Interrupted, False Interrupted, False NotAttached, False Interrupted"),
    (replace(SEEN, done=True, error=PermanentError("no"), rollback_failed=True),
     "False RollbackFailed, False RollbackFailed, False NotAttached, False RollbackFailed"),
]  # fmt: skip


# of each decision with what was done and what was checked: how much it matters, and what kind of trouble it is
STATUSES = [
    (IDLE, None, RIGHT, "info None"),
    (IDLE, None, WRONG, "warning failed"),
    (IDLE, None, (), "warning failed"),
    (ALTERNATIVE, None, None, "info None"),
    (WORK, None, None, "warning out-of-sync"),
    (WORK, None, RIGHT, "warning out-of-sync"),
    (WORK, Outcome(change=WORK), RIGHT, "info None"),
    (WORK, Outcome(change=WORK), WRONG, "warning failed"),
    (WORK, Outcome(change=WORK, error=NO), None, "warning failed"),
    (WORK, Outcome(change=WORK, error=TransientError("busy")), None, "warning try-later"),
    (WORK, Outcome(change=WORK, error=UnsafeError("no"), rollback_failed=NO), None, "error failed"),
    (replace(WORK, action_required="start pv1"), Outcome(change=WORK), None, "notice try-later"),
    (DEFERRED, None, None, "notice try-later"),
    (UNSAFE, None, None, "warning unsafe"),
    (UNSAFE, None, WRONG, "warning unsafe"),
    (DRIFTED, None, None, "warning out-of-sync"),
    (PAUSED, None, None, "info None"),
    (PAUSED, None, WRONG, "info None"),
]


@pytest.mark.parametrize(("decision", "outcome", "checks", "said"), STATUSES)
def test_a_subject_has_one_status_by_its_decision_its_outcome_and_its_checks(
    decision: Decision, outcome: Outcome | None, checks: tuple[CheckResult, ...] | None, said: str
) -> None:
    found = assess(None, decision, outcome, checks)
    assert f"{found.severity} {found.kind}" == said
    assert (found.subject, bool(found.text), found.conditions) == (NAME, True, ())


ASKED = [
    (WORK, Outcome(change=WORK), {}, Witness.GUEST),
    (WORK, Outcome(change=WORK, error=NO), {}, None),
    (WORK, None, {}, None),
    (WORK, Outcome(change=WORK), {"stopped": True}, None),
    (replace(WORK, action_required="start pv1"), Outcome(change=WORK), {}, None),
    (DRAIN, Outcome(change=DRAIN), {}, None),
    (IDLE, None, {}, Witness.HOST),
    (IDLE, None, {"again": True}, Witness.GUEST),
    (IDLE, None, {"again": True, "stopped": True}, Witness.HOST),
    *((decision, None, {"again": True}, None) for decision in (ALTERNATIVE, DEFERRED, UNSAFE, DRIFTED, PAUSED)),
]  # fmt: skip


@pytest.mark.parametrize(("decision", "outcome", "how", "witness"), ASKED)
def test_who_is_asked_after_a_pass_follows_from_decision_and_outcome(
    decision: Decision, outcome: Outcome | None, how: dict[str, bool], witness: Witness | None
) -> None:
    asked = to_ask(
        decision, outcome, again=how.get("again", False), stopped=how.get("stopped", False)
    )
    assert asked is witness


@pytest.mark.parametrize(
    ("decision", "checks", "code"),
    [
        (IDLE, RIGHT, Exit.OK),
        (IDLE, WRONG, Exit.OUT_OF_SYNC),
        (WORK, RIGHT, Exit.OUT_OF_SYNC),
        (UNSAFE, WRONG, Exit.OUT_OF_SYNC),
        (PAUSED, WRONG, Exit.OK),
        (DRAINED, WRONG, Exit.OK),
    ],
)
def test_status_exits_0_only_if_nothing_but_a_pause_keeps_an_assignment_out_of_sync(
    decision: Decision, checks: tuple[CheckResult, ...], code: Exit
) -> None:
    checked = (AssignmentChecks(subject=NAME, findings=checks),)
    assert of_status(Report.of(Plan(decisions=(decision,)), (), checked)) is code


@pytest.mark.parametrize(("seen", "said"), TABLE)
def test_what_a_pass_came_to_is_said_in_four_conditions(seen: Seen, said: str) -> None:
    found = conditions_of(seen)
    assert [one.type for one in found] == ["Attached", "Persistent", "Verified", "InSync"]
    assert ", ".join(f"{one.status} {one.reason}" for one in found) == said


def test_what_the_guest_said_holds_until_the_device_is_no_longer_there() -> None:
    asked = conditions_of(replace(SEEN, done=True, checks=GUEST_RIGHT))
    later = conditions_of(replace(THERE, decision=IDLE, checks=RIGHT), asked)
    assert [(c.status, c.reason) for c in later if c.type == "Verified"] == [("True", "GuestHasIt")]
    gone = conditions_of(SEEN, asked)
    assert [(c.status, c.reason) for c in gone if c.type == "Verified"] == [
        ("False", "NotAttached")
    ]
    again = conditions_of(replace(THERE, decision=IDLE, checks=RIGHT), gone)
    assert [(c.status, c.reason) for c in again if c.type == "Verified"] == [
        ("Unknown", "NotAsked")
    ]


def test_what_a_guest_did_not_verify_stays_so_until_it_is_asked_again() -> None:
    def said(was: Seen, now: Seen) -> list[str]:
        found = conditions_of(now, conditions_of(was))
        return [f"{c.status} {c.reason}" for c in found if c.type in {"Verified", "InSync"}]

    from_outside = replace(THERE, decision=IDLE, checks=RIGHT)
    silent = replace(SEEN, done=True, checks=GUEST_SILENT)
    otherwise = replace(silent, checks=GUEST_WRONG)
    assert said(silent, from_outside) == ["Unknown NoAnswer", "Unknown NoAnswer"]
    assert said(otherwise, from_outside) == [
        "False GuestFoundOtherwise",
        "False GuestFoundOtherwise",
    ]
    assert said(otherwise, replace(from_outside, checks=GUEST_RIGHT)) == [
        "True GuestHasIt", "True AsAssigned",
    ]  # fmt: skip
    outside = replace(otherwise, checks=WRONG)
    assert said(outside, from_outside) == ["Unknown NotAsked", "Unknown NotAsked"]
    idle = replace(silent, checks=DEVICE_IDLE)
    assert said(idle, from_outside) == ["Unknown DeviceNotInUse", "Unknown DeviceNotInUse"]
    for asked in (silent, otherwise, idle):
        assert needs_recheck(conditions_of(asked), {NAME: 1}) == {NAME}
    assert needs_recheck(conditions_of(outside), {NAME: 1}) == frozenset()
    assert needs_recheck(conditions_of(from_outside), {NAME: 1}) == {NAME}
    assert needs_recheck((), {NAME: 1}) == {NAME}, "nothing is known of it"


def test_what_failed_stays_so_until_it_is_tried_again_or_no_longer_wanted() -> None:
    failed = conditions_of(replace(SEEN, done=True, error=PermanentError("no")))
    waits = replace(SEEN, decision=replace(UNSAFE, kind=FailureKind.TRY_LATER))
    for now in (SEEN, waits):
        assert conditions_of(now, failed) == failed
    for now in (replace(SEEN, decision=UNSAFE), replace(SEEN, decision=PAUSED)):
        assert not {one.reason for one in conditions_of(now, failed)} & {"Failed"}
    flapping = tuple(replace(one, next_try=NEXT_TRY) for one in conditions_of(waits))
    assert conditions_of(SEEN, flapping, BEFORE)[3].reason == "NotYet"
    assert conditions_of(SEEN, flapping, NEXT_TRY)[3].reason == "Outstanding"


def test_the_next_try_is_reported_of_what_is_not_so_alone_and_until_it_comes() -> None:
    before = tuple(replace(one, next_try=NEXT_TRY) for one in conditions_of(SEEN))
    found = conditions_of(replace(SEEN, config=True), before, BEFORE)
    assert {one.type for one in found if one.next_try} == {"Attached", "Verified", "InSync"}
    assert not any(one.next_try for one in conditions_of(SEEN, before, NEXT_TRY))


def test_a_report_assesses_each_subject_once_and_dates_what_is_new() -> None:
    seen = replace(SEEN, decision=IDLE, live=True, config=True)
    asked = Report.of(
        Plan(decisions=(IDLE,)),
        checked=(AssignmentChecks(subject=NAME, findings=GUEST_RIGHT),),
        targets=(seen.target,),
        at=BEFORE,
    )
    (status,) = asked.statuses
    assert asked.conditions == status.conditions
    assert {one.since for one in asked.conditions} == {BEFORE}
    wrong = Report.of(
        Plan(decisions=(IDLE, replace(IDLE, subject="other"))),
        checked=(AssignmentChecks(subject=NAME, findings=GUEST_WRONG),),
        targets=(seen.target,),
        previous=asked.conditions,
        at=NEXT_TRY,
    )
    assert {one.type: one.since for one in wrong.conditions} == {
        "Attached": BEFORE, "Persistent": BEFORE, "Verified": NEXT_TRY, "InSync": NEXT_TRY,
    }  # fmt: skip
    assert [one.subject for one in wrong.only(asked.plan).statuses] == [NAME]


def test_the_host_is_well_or_not_and_says_why() -> None:
    well = host_conditions(pciback=True, unreadable=())
    assert [f"{one.type} {one.status}" for one in well] == [
        "LibvirtReachable True",
        "PolicyValid True",
        "JournalUsable True",
        "DomainsReadable True",
        "PcibackLoaded True",
        "Maintenance False",
    ]
    drained = Pause(drained=True, requester="ann", since="noon", reason="new firmware")
    ill = host_conditions(
        libvirt=UnreachableError("libvirt doesn't answer"), policy=PermanentError("line 3"),
        journal=["it is damaged"], unreadable=["pv2"], pauses=[Pause(device="nic0", drained=True), drained],
    )  # fmt: skip
    assert [f"{one.type} {one.status} {one.message}" for one in ill] == [
        "LibvirtReachable False libvirt doesn't answer",
        "PolicyValid False line 3",
        "JournalUsable False it is damaged",
        "DomainsReadable False what these domains have can't be told: pv2",
        "PcibackLoaded Unknown ",
        f"Maintenance True {drained}",
    ]
    assert (
        host_conditions(unreadable=(), pciback=True, pauses=[Pause(device="nic0", drained=True)])
        == well
    )


def test_pciback_is_loaded_once_a_change_that_loads_it_came_to_its_end() -> None:
    loading = Outcome(change=replace(WORK, actions=(LoadPciback(), *IN)))
    assert loading.did(LoadPciback)
    assert not replace(loading, error=NO).did(LoadPciback)
    assert not Outcome(change=WORK).did(LoadPciback)


# -- since when

times = st.integers(0, 9).map(lambda n: f"2026-01-31T0{n}:00:00.000+00:00")
conditions = st.lists(
    st.builds(
        Condition,
        subject=st.sampled_from(["", NAME, "nic1 -> pv1"]),
        type=st.sampled_from(["InSync", "Attached"]),
        status=st.sampled_from([*Status]),
        reason=st.sampled_from(["Drifted", "Failed"]),
        message=st.sampled_from(["", "it said no"]),
    ),
    unique_by=lambda one: (one.subject, one.type),
)


@given(st.lists(conditions, min_size=1, max_size=6))
def test_since_moves_only_with_a_change_and_nothing_stays_of_what_is_no_longer_observed(
    passes: list[list[Condition]],
) -> None:
    kept: tuple[Condition, ...] = ()
    for number, now in enumerate(passes):
        at = f"2026-01-31T03:00:0{number}.000+00:00"
        merged = with_times(kept, now, at)
        assert [replace(one, since="") for one in merged] == now
        had = {(one.subject, one.type): one for one in kept}
        changed = {(one.subject, one.type) for one in changed_conditions(kept, merged)}
        for one in merged:
            was = had.get((one.subject, one.type))
            if (one.subject, one.type) in changed:
                assert one.since == at
                assert was is None or (was.status, was.reason) != (one.status, one.reason)
            else:
                assert was is not None
                assert one.since == was.since < at
        kept = merged


@given(conditions, times, times)
def test_observing_again_changes_nothing(now: list[Condition], first: str, second: str) -> None:
    once = with_times((), now, first)
    assert with_times(once, now, second) == once
    assert changed_conditions(once, with_times(once, now, second)) == ()
