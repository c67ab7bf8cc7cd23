"""Lanes: what shares a domain, a device or a bus follows one another, and nothing is lost or done twice."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.executor.conflicts import lanes
from cede.model.pci import Address
from cede.model.plan import GiveBack, LoadAtBoot, Step, SwitchOn, Unplug, Work


def work(address: str, *domains: str) -> Work:
    at = Address.parse(address)
    out: tuple[Step, ...] = tuple(Unplug(address=at, domain=domain) for domain in domains)
    return Work(
        subject=address, address=at, identity=None, steps=(*out, GiveBack(address=at))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("works", "grouped"),
    [
        ([], ()),
        ([work("01:00.0", "a")], ((0,),)),
        ([work("01:00.0", "a"), work("02:00.0", "b")], ((0,), (1,))),
        ([work("01:00.0", "a"), work("02:00.0", "a")], ((0, 1),)),
        ([work("01:00.0", "a"), work("02:00.0", "b", "a")], ((0, 1),)),
        ([work("01:00.0", "a"), work("01:00.0", "b")], ((0, 1),)),
        ([work("01:00.0"), work("01:00.1")], ((0, 1),)),
        ([work("01:00.0"), work("01:1f.0")], ((0, 1),)),
        ([work("0000:01:00.0"), work("0001:01:00.0")], ((0,), (1,))),
        ([work("00:03.0"), work("00:04.0")], ((0,), (1,))),  # the root bus is never reset
        ([work("00:03.0"), work("00:03.0")], ((0, 1),)),
        ([work("01:00.0"), work("02:00.0")], ((0,), (1,))),
        ([work("01:00.0", "bus 0000:02"), work("02:00.0", "0000:01:00.0")], ((0,), (1,))),
    ],
)
def test_works_that_share_something_are_in_one_lane(
    works: list[Work], grouped: tuple[tuple[int, ...], ...]
) -> None:
    assert lanes(works) == grouped


def test_a_work_that_shares_with_two_lanes_joins_them_and_all_that_comes_after() -> None:
    works = [
        work("01:00.0", "a"),
        work("02:00.0", "b"),
        work("03:00.0", "c"),
        work("04:00.0", "c", "a"),
        work("03:00.1", "d"),
        work("05:00.0", "d"),
    ]
    assert lanes(works) == ((0, 2, 3, 4, 5), (1,))


def test_works_about_the_host_itself_follow_one_another_and_a_domains_its_domain() -> None:
    host = Work(subject="host", address=None, identity=None, steps=(LoadAtBoot(),))
    switch = SwitchOn(domain="a", features=("passthrough",))
    domain = Work(subject="a", address=None, identity=None, steps=(switch,))
    assert lanes([host, work("01:00.0", "a"), domain, work("02:00.0"), host]) == (
        (0, 4),
        (1, 2),
        (3,),
    )


def shares(one: Work, other: Work) -> bool:
    assert one.address is not None
    assert other.address is not None
    buses = [(at.segment, at.bus) for at in (one.address, other.address)]
    return (
        one.address == other.address
        or (buses[0] == buses[1] and one.address.bus != 0)
        or bool(set(one.domains) & set(other.domains))
    )


def connected(works: list[Work]) -> set[frozenset[int]]:
    """Straightforward and slow: groups that share something are joined until none do."""
    groups = [frozenset({number}) for number in range(len(works))]
    while True:
        pair = next(
            (
                (one, other)
                for one, other in combinations(groups, 2)
                if any(shares(works[a], works[b]) for a in one for b in other)
            ),
            None,
        )
        if pair is None:
            return set(groups)
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]


some_work = st.builds(
    lambda bus, slot, domains: work(f"{bus:02x}:{slot:02x}.0", *domains),
    st.integers(0, 9),
    st.integers(0, 1),
    st.lists(st.sampled_from("abcdefghij"), max_size=2, unique=True),
)


@given(st.lists(some_work, max_size=12))
def test_lanes_are_what_is_joined_by_sharing_and_each_keeps_the_order(works: list[Work]) -> None:
    found = lanes(works)
    assert sorted(number for lane in found for number in lane) == list(range(len(works)))
    assert all(list(lane) == sorted(lane) for lane in found)
    assert {frozenset(lane) for lane in found} == connected(works)
    assert [lane[0] for lane in found] == sorted(lane[0] for lane in found)
