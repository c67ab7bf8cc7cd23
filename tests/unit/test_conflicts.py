"""Lanes: what shares a domain, a device or a bus follows one another, and nothing is lost or done twice."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.executor.executor import conflict_groups
from cede.model.actions import Action, LoadAtBoot, ReturnToDom0, SwitchOn, Unplug
from cede.model.pci import Address
from cede.model.plan import Change, Purpose


def change(address: str, *domains: str) -> Change:
    at = Address.parse(address)
    out: tuple[Action, ...] = tuple(Unplug(address=at, domain=domain) for domain in domains)
    return Change(
        subject=address, purpose=Purpose.RELEASE, address=at, identity=None, actions=(*out, ReturnToDom0(address=at))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "grouped"),
    [
        ([], ()),
        ([change("01:00.0", "a")], ((0,),)),
        ([change("01:00.0", "a"), change("02:00.0", "b")], ((0,), (1,))),
        ([change("01:00.0", "a"), change("02:00.0", "a")], ((0, 1),)),
        ([change("01:00.0", "a"), change("02:00.0", "b", "a")], ((0, 1),)),
        ([change("01:00.0", "a"), change("01:00.0", "b")], ((0, 1),)),
        ([change("01:00.0"), change("01:00.1")], ((0, 1),)),
        ([change("01:00.0"), change("01:1f.0")], ((0, 1),)),
        ([change("0000:01:00.0"), change("0001:01:00.0")], ((0,), (1,))),
        ([change("00:03.0"), change("00:04.0")], ((0,), (1,))),  # the root bus is never reset
        ([change("00:03.0"), change("00:03.0")], ((0, 1),)),
        ([change("01:00.0"), change("02:00.0")], ((0,), (1,))),
        ([change("01:00.0", "bus 0000:02"), change("02:00.0", "0000:01:00.0")], ((0,), (1,))),
    ],
)
def test_changes_that_share_something_are_in_one_conflict_group(
    changes: list[Change], grouped: tuple[tuple[int, ...], ...]
) -> None:
    assert conflict_groups(changes) == grouped


def test_a_change_that_shares_with_two_groups_joins_them_and_all_that_comes_after() -> None:
    changes = [
        change("01:00.0", "a"),
        change("02:00.0", "b"),
        change("03:00.0", "c"),
        change("04:00.0", "c", "a"),
        change("03:00.1", "d"),
        change("05:00.0", "d"),
    ]
    assert conflict_groups(changes) == ((0, 2, 3, 4, 5), (1,))


def test_changes_of_the_host_itself_are_one_group_and_those_of_a_domain_are_its_domains() -> None:
    host = Change(
        subject="host", purpose=Purpose.FIX, address=None, identity=None, actions=(LoadAtBoot(),)
    )
    switch = SwitchOn(domain="a", features=("passthrough",))
    domain = Change(
        subject="a", purpose=Purpose.FIX, address=None, identity=None, actions=(switch,)
    )
    assert conflict_groups([host, change("01:00.0", "a"), domain, change("02:00.0"), host]) == (
        (0, 4),
        (1, 2),
        (3,),
    )


def shares(one: Change, other: Change) -> bool:
    assert one.address is not None
    assert other.address is not None
    buses = [(at.segment, at.bus) for at in (one.address, other.address)]
    return (
        one.address == other.address
        or (buses[0] == buses[1] and one.address.bus != 0)
        or bool(set(one.domains) & set(other.domains))
    )


def connected(changes: list[Change]) -> set[frozenset[int]]:
    """Straightforward and slow: groups that share something are joined until none do."""
    groups = [frozenset({number}) for number in range(len(changes))]
    while True:
        pair = next(
            (
                (one, other)
                for one, other in combinations(groups, 2)
                if any(shares(changes[a], changes[b]) for a in one for b in other)
            ),
            None,
        )
        if pair is None:
            return set(groups)
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]


some_work = st.builds(
    lambda bus, slot, domains: change(f"{bus:02x}:{slot:02x}.0", *domains),
    st.integers(0, 9),
    st.integers(0, 1),
    st.lists(st.sampled_from("abcdefghij"), max_size=2, unique=True),
)


@given(st.lists(some_work, max_size=12))
def test_groups_are_what_is_joined_by_sharing_and_each_keeps_the_order(
    changes: list[Change],
) -> None:
    found = conflict_groups(changes)
    assert sorted(number for group in found for number in group) == list(range(len(changes)))
    assert all(list(group) == sorted(group) for group in found)
    assert {frozenset(group) for group in found} == connected(changes)
    assert [group[0] for group in found] == sorted(group[0] for group in found)
