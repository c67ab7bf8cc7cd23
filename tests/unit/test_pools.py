"""Two like cards and twenty guests: who has one keeps it, nobody swaps, and the others are told why there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.model.domain import Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.journal_state import Given
from cede.model.pci import Address, Device, Identity, Reset
from cede.model.plan import Change, Refused, Satisfied
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy, When
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from unit.plan_model import after

HERE = Place(file="policy.yaml", line=1, column=1)
LIKE = Identity(vendor="8086", device="10d3", class_code="020000")
FIRST, SECOND, THIRD = (Address(0, bus, 0, 0) for bus in (1, 2, 3))
GUESTS = 20


def card(address: Address) -> Device:
    return Device(address=address, identity=LIKE, driver="e1000e", reset=Reset.FLR)


def named(number: int, match: Match | None = None) -> DevicePolicy:
    wanted = match or Match(vendor="8086", any_one=True)
    return DevicePolicy(name=f"nic{number:02}", match=wanted, expect=Expect(), place=HERE)


def assigned(number: int, when: When = When.NOW) -> Assignment:
    return Assignment(device=f"nic{number:02}", domain=f"pv{number:02}", when=when, place=HERE)


def guest(number: int, *, running: bool = True) -> Domain:
    return Domain(
        name=f"pv{number:02}",
        uuid=f"uuid-{number:02}",
        kind=GuestKind.PV,
        domid=number + 1 if running else None,
    )


def policy_of(count: int = GUESTS, *more: DevicePolicy, when: When = When.NOW) -> Policy:
    return Policy(
        devices=(*map(named, range(count)), *more),
        assignments=tuple(assigned(number, when) for number in range(count)),
        source="policy.yaml",
    )


def host(*running: bool, cards: tuple[Device, ...] = (card(FIRST), card(SECOND))) -> Inventory:
    domains = tuple(guest(number, running=on) for number, on in enumerate(running))
    return Inventory(devices=cards, domains=domains, pciback_loaded=True)


def who_has(inventory: Inventory) -> dict[Address, list[str]]:
    return {
        d.address: [one.name for one in inventory.wanting(d.address)] for d in inventory.devices
    }


def passed(policy: Policy, inventory: Inventory) -> Inventory:
    planned = plan(resolve_targets(policy, inventory))
    return after([action for change in planned.changes for action in change.actions], inventory)


def test_of_twenty_two_get_one_and_the_others_are_refused_with_the_reasons() -> None:
    policy, inventory = policy_of(), host(*[True] * GUESTS)
    planned = plan(resolve_targets(policy, inventory))
    assert [c.subject for c in planned.changes] == ["nic00 -> pv00", "nic01 -> pv01"]
    assert {r.rule for r in planned.refusals} == {"none-left"}
    assert len(planned.refusals) == GUESTS - 2
    assert all("nic00" in r.reason and "nic01" in r.reason for r in planned.refusals)


@given(
    starts=st.lists(st.tuples(*[st.booleans()] * GUESTS), min_size=1, max_size=4),
    when=st.sampled_from(When),
)
def test_whatever_guests_start_and_stop_nobody_loses_a_card_to_another(
    starts: list[tuple[bool, ...]], when: When
) -> None:
    policy, inventory = policy_of(when=when), host(*starts[0])
    inventory = passed(policy, inventory)
    for running in starts[1:]:
        before = who_has(inventory)
        domains = tuple(
            replace(
                domain,
                domid=100 + number if on else None,
                live=domain.config if on else (),
            )
            for number, (domain, on) in enumerate(zip(inventory.domains, running, strict=True))
        )
        backend = tuple(
            replace(given_, domid=domid)
            for given_ in inventory.backend
            for domain in domains
            if domain.live_hostdev(given_.address) and (domid := domain.domid) is not None
        )
        inventory = passed(policy, replace(inventory, domains=domains, backend=backend))
        for address, names in who_has(inventory).items():
            assert len(names) <= 1
            assert names == before[address] or not before[address]


def test_a_guest_gets_the_card_again_that_it_had_before() -> None:
    """After a drain nothing is left in its XML."""
    inventory = replace(
        host(True),
        given_before=(Given(address=SECOND, device="nic00", domain="pv00"),),
    )
    (change,) = plan(resolve_targets(policy_of(1), inventory)).changes
    assert change.address == SECOND
    other = replace(inventory, given_before=(replace(inventory.given_before[0], domain="pv9"),))
    (change,) = plan(resolve_targets(policy_of(1), other)).changes
    assert change.address == FIRST


def test_a_broken_card_is_passed_over_and_kept_only_by_the_guest_that_runs_with_it() -> None:
    broken = replace(card(FIRST), off_the_bus=True)
    policy = policy_of(1)
    (change,) = plan(resolve_targets(policy, host(True, cards=(broken, card(SECOND))))).changes
    assert change.address == SECOND
    having = passed(policy, host(True))
    breaks = replace(having.devices[0], off_the_bus=True)
    running = replace(having, devices=(breaks, card(SECOND)))
    (decision,) = plan(resolve_targets(policy, running)).decisions
    assert isinstance(decision, Refused)
    assert decision.rule == "device-quarantined"
    off = replace(running, domains=(replace(running.domains[0], domid=None, live=()),), backend=())
    found = plan(resolve_targets(policy_of(1, when=When.NEXT_START), off))
    assert {change.address for change in found.changes if change.attaching} == {SECOND}


@pytest.mark.parametrize("assign", [False, True])
def test_what_an_assignment_means_alone_is_in_no_pool(assign: bool) -> None:
    exact = DevicePolicy(name="mine", match=Match(address=FIRST), expect=Expect(), place=HERE)
    policy = policy_of(2, exact)
    if assign:
        own = Assignment(device="mine", domain="pv02", place=HERE)
        policy = replace(policy, assignments=(*policy.assignments, own))
    planned = plan(resolve_targets(policy, host(True, True, True)))
    found = {change.device: change.address for change in planned.changes}
    if assign:
        assert found == {"nic00": SECOND, "mine": FIRST}
        (refusal,) = planned.refusals
        assert (refusal.rule, "mine" in refusal.reason) == ("none-left", True)
    else:  # a name alone is no claim
        assert found == {"nic00": FIRST, "nic01": SECOND}


def test_what_may_be_the_one_that_an_assignment_means_is_in_no_pool_while_it_sleeps() -> None:
    serial = "00-11-22-33-44-55-66-77"
    exact = DevicePolicy(name="mine", match=Match(serial=serial), expect=Expect(), place=HERE)
    cards = (replace(card(FIRST), asleep=True), card(SECOND))
    policy = policy_of(1, exact)
    own = Assignment(device="mine", domain="pv01", place=HERE)
    policy = replace(policy, assignments=(*policy.assignments, own))
    (change,) = plan(resolve_targets(policy, host(True, True, cards=cards))).changes
    assert change.address == SECOND


def test_a_guest_that_is_not_defined_takes_no_card_from_one_that_is() -> None:
    policy = policy_of(2)
    inventory = host(True, True, cards=(card(FIRST),))
    inventory = replace(inventory, domains=inventory.domains[1:])
    (change,) = plan(resolve_targets(policy, inventory)).changes
    assert change.subject == "nic01 -> pv01"


def test_a_card_that_a_running_guest_has_is_satisfied_whatever_comes_free() -> None:
    policy = policy_of(1)
    having = passed(policy, host(True))
    more = replace(having, devices=(card(Address(0, 0, 9, 0)), *having.devices))
    (decision,) = plan(resolve_targets(policy, more)).decisions
    assert isinstance(decision, Satisfied)
    assert not isinstance(decision, Change)
