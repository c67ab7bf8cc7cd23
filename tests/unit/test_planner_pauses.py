"""Pauses, drains and drift, whatever the host: what the administrator said holds, and nothing else changes by it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cede.model.inventory import Inventory
from cede.model.journal_state import LastApplied, Pause
from cede.model.plan import Drifted, Paused, Purpose
from cede.model.policy import OnDrift, Policy
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets, subject_of
from unit.plan_model import after
from unit.test_planner_properties import (
    ADDRESSES,
    GUESTS,
    NAMES,
    inventories,
    policies,
    touches_nothing_of_others,
)

UUIDS = tuple(f"00000000-0000-0000-0000-{number:012}" for number in range(1, len(GUESTS) + 1))
TARGETS = (
    *(Pause(target=name, device=name) for name in NAMES),
    *(Pause(target=str(address), device=str(address)) for address in ADDRESSES),
    *(Pause(target=guest, domain=uuid) for guest, uuid in zip(GUESTS, UUIDS, strict=True)),
    Pause(),
)


@settings(max_examples=100, deadline=None)
@given(policies(), inventories(), st.sampled_from(TARGETS))
def test_what_is_paused_is_touched_by_no_plan(
    policy: Policy, inventory: Inventory, pause: Pause
) -> None:
    paused = replace(inventory, pauses=(pause,))
    domain = next((d for d in inventory.domains if d.uuid == pause.domain), None)
    targets = resolve_targets(policy, paused)
    planned = plan(targets)
    for change in planned.changes:
        assert not pause.everything
        assert pause.device != str(change.address)
        assert change.device != pause.device or not pause.device
        assert domain is None or domain.name not in change.domains
    for subject in targets.affected([pause]):
        assert isinstance(planned.by_subject[subject], Paused)


@settings(max_examples=100, deadline=None)
@given(policies(with_any=False), inventories())
def test_a_drained_host_gives_nothing_away_takes_nothing_of_others_and_comes_to_an_end(
    policy: Policy, inventory: Inventory
) -> None:
    inventory = replace(inventory, pauses=(Pause(drained=True),))
    # a pass with something to do strikes an entry or gives back a device
    entries = sum(len((*d.live, *d.config, *d.ownership)) for d in inventory.domains)
    for _ in range(entries + len(inventory.devices)):
        planned = plan(resolve_targets(policy, inventory))
        subjects = [decision.subject for decision in planned.decisions]
        assert len(subjects) == len(set(subjects))
        assert all(subjects.count(subject_of(one)) == 1 for one in policy.assignments)
        for change in planned.changes:
            assert change.detaching
            touches_nothing_of_others(change, inventory)
        addresses = [
            change.address for change in planned.changes if change.purpose is Purpose.DRAIN
        ]
        assert len(addresses) == len(set(addresses))
        inventory = after(planned.actions, inventory)
        if not planned.changes:
            return
    assert not plan(resolve_targets(policy, inventory)).changes


@st.composite
def attachments(draw: st.DrawFn, policy: Policy, inventory: Inventory) -> tuple[LastApplied, ...]:
    """What the last pass left where the policy wants it: there still or not."""
    places = {
        (target.device.address, target.domain.uuid)
        for target in resolve_targets(policy, inventory).each
        if target.device is not None and target.domain is not None
    }
    return tuple(
        LastApplied(
            address=address, domain=uuid, live=draw(st.booleans()), config=draw(st.booleans())
        )
        for address, uuid in sorted(places)
    )


@settings(max_examples=150, deadline=None)
@given(policies(), inventories(), st.sampled_from([*OnDrift]), st.data())
def test_a_scheduled_pass_differs_only_in_drift_that_is_to_be_reported(
    policy: Policy, inventory: Inventory, on_drift: OnDrift, data: st.DataObject
) -> None:
    wanted = tuple(replace(one, on_drift=on_drift) for one in policy.assignments)
    policy = replace(policy, assignments=wanted)
    inventory = replace(inventory, last_applied=data.draw(attachments(policy, inventory)))
    targets = resolve_targets(policy, inventory)
    asked, scheduled = plan(targets), plan(targets, scheduled=True)
    if on_drift is OnDrift.RESTORE:
        assert scheduled == asked
        return
    reported = {d.subject for d in scheduled.decisions if isinstance(d, Drifted)}
    restored = {c.subject for c in asked.changes if c.purpose is Purpose.RESTORE}
    assert not any(change.purpose is Purpose.RESTORE for change in scheduled.changes)
    assert restored <= reported
    assert [w for w in asked.changes if w.subject not in reported] == list(scheduled.changes)
