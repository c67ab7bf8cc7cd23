"""What holds for every plan of the early binder, whatever the policy and however odd the host."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cede.model.actions import BindToPciback, LoadPciback
from cede.model.inventory import Inventory
from cede.model.pci import HostUse, Link, OriginalState
from cede.model.policy import Policy
from cede.planner.boot_plan import plan_boot
from unit.plan_model import after
from unit.test_planner_properties import addressed, held_against, inventories, policies


@st.composite
def hosts(draw: st.DrawFn) -> Inventory:
    """A host of which some devices were taken before, some of those perhaps by another card's MAC."""
    inventory = draw(inventories())
    first, *others = (
        replace(
            device,
            original_state=OriginalState(
                identity=device.identity,
                driver="e1000e",
                links=(Link(name="eth0", mac=draw(st.sampled_from([device.mac or "", "other"]))),),
            )
            if draw(st.booleans())
            else None,
            serial=device.serial if draw(st.booleans()) else None,
        )
        for device in inventory.devices
    )
    if draw(st.booleans()):
        route = HostUse(guard="default-route", chain=(str(first.address), "the default route"))
        first = replace(first, uses=(*first.uses, route))
    return replace(inventory, devices=(first, *others))


@settings(max_examples=100)
@given(policies(), hosts())
def test_nothing_is_bound_that_the_host_lives_on_and_nothing_else_is_done(
    policy: Policy, inventory: Inventory
) -> None:
    routed = any(u.guard == "default-route" for d in inventory.devices for u in d.uses)
    for change in plan_boot(policy, inventory).changes:
        device = inventory.device(addressed(change))
        described = policy.device(change.device)
        assert device is not None
        assert described is not None
        assert not device.on_pciback
        assert not held_against(device, policy, inventory, described.override)
        assert all(isinstance(action, (LoadPciback, BindToPciback)) for action in change.actions)
        assert routed or device.original_state is not None
        if not routed and device.original_state and device.serial is None:
            assert device.mac in {link.mac for link in device.original_state.links}


@settings(max_examples=100)
@given(policies(), hosts())
def test_each_assigned_device_gets_one_decision_and_no_address_is_bound_twice(
    policy: Policy, inventory: Inventory
) -> None:
    planned = plan_boot(policy, inventory)
    subjects = [decision.subject for decision in planned.decisions]
    names = dict.fromkeys(wanted.device for wanted in policy.assignments)
    assert sorted(subject.partition(" -> ")[0] for subject in subjects) == sorted(names)
    addresses = [change.address for change in planned.changes]
    assert len(set(addresses)) == len(addresses)


@settings(max_examples=100)
@given(policies(with_any=False, by_mac=False), hosts())
def test_what_was_bound_is_not_bound_again(policy: Policy, inventory: Inventory) -> None:
    idle = replace(
        inventory,
        backend=(),
        devices=tuple(replace(d, driver=d.driver or "e1000e") for d in inventory.devices),
    )
    actions = plan_boot(policy, idle).actions
    assert not plan_boot(policy, after(actions, idle)).changes
