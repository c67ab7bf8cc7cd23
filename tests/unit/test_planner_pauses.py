"""Pauses, drains and drift, whatever the host: what a person said holds, and nothing else changes by it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cede.model.inventory import Inventory
from cede.model.journal_state import Attachment, Pause
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
    for work in planned.work:
        assert not pause.everything
        assert pause.device != str(work.address)
        assert work.subject.partition(" ")[0] != pause.device
        assert domain is None or domain.name not in work.domains
    said = {noop.subject: noop for noop in planned.noops}
    for subject in targets.affected([pause]):
        assert said[subject].paused


@settings(max_examples=100, deadline=None)
@given(policies(with_any=False), inventories())
def test_a_drained_host_gives_nothing_away_takes_nothing_of_others_and_comes_to_an_end(
    policy: Policy, inventory: Inventory
) -> None:
    inventory = replace(inventory, pauses=(Pause(drained=True),))
    # a pass with something to do strikes an entry or gives back a device
    entries = sum(len((*d.live, *d.config, *d.marks)) for d in inventory.domains)
    for _ in range(entries + len(inventory.devices)):
        planned = plan(resolve_targets(policy, inventory))
        subjects = [
            *(work.subject for work in planned.work),
            *(noop.subject for noop in planned.noops),
            *(refusal.subject for refusal in planned.refusals),
        ]
        assert all(subjects.count(subject_of(one)) == 1 for one in policy.assignments)
        for work in planned.work:
            assert work.outward
            touches_nothing_of_others(work, inventory)
        addresses = [work.address for work in planned.work if work.drained]
        assert len(addresses) == len(set(addresses))
        inventory = after(planned.steps, inventory)
        if not planned.work:
            return
    assert not plan(resolve_targets(policy, inventory)).work


@st.composite
def attachments(draw: st.DrawFn, policy: Policy, inventory: Inventory) -> tuple[Attachment, ...]:
    """What the last pass left where the policy wants it: there still or not."""
    places = {
        (target.device.address, target.domain.uuid)
        for target in resolve_targets(policy, inventory).each
        if target.device is not None and target.domain is not None
    }
    return tuple(
        Attachment(
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
    inventory = replace(inventory, attachments=data.draw(attachments(policy, inventory)))
    targets = resolve_targets(policy, inventory)
    asked, scheduled = plan(targets), plan(targets, scheduled=True)
    if on_drift is OnDrift.RESTORE:
        assert scheduled == asked
        return
    told = {noop.subject for noop in scheduled.noops if noop.drifted}
    assert not any(work.drifted for work in scheduled.work)
    assert {work.subject for work in asked.work if work.drifted} <= told
    assert [w for w in asked.work if w.subject not in told] == list(scheduled.work)
