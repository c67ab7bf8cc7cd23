"""Refuseds: each says by a stable name which rule it is, so that programs needn't read its sentence."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from cede.errors import FailureKind
from cede.model.actions import RemoveFromConfig
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import PCIBACK, Address, Device, Identity
from cede.model.plan import Change, Purpose, Refused
from cede.model.policy import Policy
from cede.planner.attach import plan_assignment
from cede.planner.release import DETACH_RULES, plan_way_out, release
from cede.planner.resolve import resolve_targets
from cede.planner.rules import RULES, refusals
from cede.planner.targets import AttachTarget, DetachTarget, PlanContext
from unit.test_planner_properties import inventories, policies

NIC = Address.parse("0000:01:00.0")
CARD = Device(
    address=NIC,
    identity=Identity(vendor="8086", device="10d3", class_code="020000"),
    driver=PCIBACK,
)
PV1 = Domain(name="pv1", uuid="uuid-of-pv1", kind=GuestKind.PV, domid=1)
OURS, THEIRS = Hostdev(address=NIC, alias="ua-cede-nic0"), Hostdev(address=NIC)


def test_no_refusal_is_built_without_the_name_of_its_rule() -> None:
    with pytest.raises(TypeError, match="rule"):
        Refused(subject="s", kind=FailureKind.FAILED, reason="because", remedy="do")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("inventory", "name"),
    [
        (Inventory(), "no-device"),
        (Inventory(domains=(replace(PV1, live=(OURS,)),)), "vanished"),
        (Inventory(devices=(CARD,), domains=(replace(PV1, live=(THEIRS,)),)), "foreign"),
        (
            Inventory(
                devices=(CARD,),
                domains=(PV1,),
                backend=(BackendDevice(domid=1, address=NIC, index=0),),
            ),
            "elsewhere",
        ),
    ],
)
def test_a_release_is_refused_by_a_named_rule(inventory: Inventory, name: str) -> None:
    refusal = release(NIC, "release", inventory)
    assert isinstance(refusal, Refused)
    assert refusal.rule == name
    assert re.fullmatch("[a-z][a-z-]*", refusal.rule), "as schemas/plan.schema.json has it"


@settings(max_examples=100, deadline=None)
@given(policies(), inventories())
def test_each_rule_refuses_under_its_own_name_and_the_first_one_decides(
    policy: Policy, inventory: Inventory
) -> None:
    targets = resolve_targets(policy, inventory)
    attaching = [a for target in targets.each if (a := AttachTarget.of(target, targets))]
    context = PlanContext.of(attaching)
    for target in attaching:
        answers = [(rule, rule.ask(target, context)) for rule in RULES]
        refused = [(rule.name, answer) for rule, answer in answers if isinstance(answer, Refused)]
        assert all((a.rule, a.subject) == (name, target.subject) for name, a in refused)
        decision = plan_assignment(target, context)
        if isinstance(decision, Refused):
            assert decision == refusals(target, context)[0]
        elif isinstance(decision, Change):
            assert refusals(target, context) == ()


@settings(max_examples=100, deadline=None)
@given(inventories())
def test_each_detach_rule_refuses_under_its_own_name_and_the_first_one_decides(
    inventory: Inventory,
) -> None:
    for address in {device.address for device in inventory.devices} | {NIC}:
        target = DetachTarget.of(address, "s", inventory, Purpose.RELEASE)
        refused = [(rule, answer) for rule in DETACH_RULES if (answer := rule.ask(target))]
        assert all((answer.rule, answer.subject) == (rule.name, "s") for rule, answer in refused)
        decision = plan_way_out(target)
        if isinstance(decision, Refused):
            assert decision == refused[0][1]
        elif refused:
            assert refused[0][0].spares_traces
            assert isinstance(decision, Change)
            assert all(isinstance(action, RemoveFromConfig) for action in decision.actions)


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert len({rule.name for rule in DETACH_RULES}) == len(DETACH_RULES)
