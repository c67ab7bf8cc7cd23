"""The planner, whatever the host: it ends, it never harms, it forgets nobody, and no order of reading changes it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cede.model.actions import Adopt, BindToPciback, HotPlug, ReturnToDom0, Unplug
from cede.model.domain import FEATURES, OWN_ALIAS, Domain, GuestKind, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Reset
from cede.model.plan import Change, Plan
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy, Protect, When
from cede.planner.guards import guards
from cede.planner.planner import plan
from cede.planner.release import detach, release
from cede.planner.resets import reset_together
from cede.planner.resolve import resolve_targets, subject_of
from unit.plan_model import after, mac_of

SOURCE = "policy.yaml"
PLACE = Place(file=SOURCE, line=1, column=1)
# one on the root bus, two functions of one card, three cards
ADDRESSES = tuple(
    map(Address.parse, ("00:03.0", "01:00.0", "01:00.1", "02:00.0", "03:00.0", "04:00.0"))
)
NAMES, GUESTS = ("nic0", "nic1", "nic2"), ("pv1", "pv2", "hvm1")
some_address = st.sampled_from(ADDRESSES)


def often(*, yes: int = 3) -> st.SearchStrategy[bool]:
    """True `yes` times as often as false."""
    return st.sampled_from([True] * yes + [False])


def path_of(address: Address) -> str:
    return f"pci0000:00/{address.bus:02x}.0/00.{address.function}"


@st.composite
def device(draw: st.DrawFn, address: Address, *, calm: bool) -> Device:
    driver = draw(st.sampled_from(["e1000e", "e1000e", PCIBACK, PCIBACK, None]))
    used = draw(st.sampled_from([*[None] * (10 if calm else 4), "filesystem", "boot-vga"]))
    return Device(
        address=address,
        identity=Identity(
            vendor="8086",
            device=draw(st.sampled_from(["10d3", "10d3", "100e"])),
            class_code=draw(st.sampled_from(["020000"] * 6 + ["030000", "060400"])),
        ),
        driver=driver,
        driver_override=PCIBACK if driver == PCIBACK else None,
        reset=draw(st.sampled_from([*Reset, None])),
        mac=mac_of(address) if driver == "e1000e" else None,
        serial=f"00-00-00-00-00-00-{address.bus:02x}-{address.function:02x}",
        path=path_of(address),
        in_pciback_slots=driver == PCIBACK or draw(often(yes=1)),
        uses=(HostUse(guard=used, chain=(str(address), "what it holds")),) if used else (),
    )


@st.composite
def hostdevs(draw: st.DrawFn, *, calm: bool) -> tuple[Hostdev, ...]:
    if calm and draw(often()):
        return ()
    return tuple(
        Hostdev(
            address=address,
            alias=draw(st.sampled_from([None, *(f"ua-cede-{name}" for name in NAMES)])),
            write_filtering=draw(often(yes=6)),
        )
        for address in draw(st.lists(some_address, unique=True, max_size=2))
    )


@st.composite
def domain(draw: st.DrawFn, number: int, name: str, *, calm: bool) -> Domain:
    running = draw(often())
    persistent = draw(often(yes=9)) or not running
    kinds = [GuestKind.PV, GuestKind.PV, GuestKind.HVM, *([] if calm else [GuestKind.PVH])]
    live = draw(hostdevs(calm=calm)) if running else ()
    config = draw(hostdevs(calm=calm)) if persistent else ()
    # a note has the name that the alias beside it has: cede writes both at once
    alias_names = {
        h.address: (h.alias or "").removeprefix(OWN_ALIAS) for h in (*live, *config) if h.owned
    }
    return Domain(
        name=name,
        uuid=f"00000000-0000-0000-0000-{number:012}",
        kind=draw(st.sampled_from(kinds)),
        domid=number if running else None,
        persistent=persistent,
        passthrough=draw(often()),
        e820_host=draw(often()),
        features=tuple(draw(st.lists(st.sampled_from(FEATURES), unique=True))),
        live=live,
        config=config,
        ownership=tuple(
            Ownership(
                name=alias_names.get(address) or draw(st.sampled_from(NAMES)),
                address=address,
                policy=draw(st.sampled_from([SOURCE, SOURCE, "other.yaml"])),
            )
            for address in draw(st.lists(some_address, unique=True, max_size=1 if calm else 2))
        ),
    )


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """A host in any state, also in ones that no host can be in; mostly what libvirt lists, Xen has given.

    Half are calm: what an administrator would call in order, so that more is planned than refused.
    """
    calm = draw(st.booleans())
    domains = tuple(draw(domain(n, name, calm=calm)) for n, name in enumerate(GUESTS, 1))
    listed = {h.address: d.domid for d in domains for h in d.live}
    strangers = draw(st.dictionaries(some_address, st.sampled_from([1, 2, 3, 7]), max_size=1))
    there = draw(st.lists(some_address, unique=True, min_size=len(ADDRESSES) if calm else 3))
    return Inventory(
        devices=tuple(draw(device(address, calm=calm)) for address in there),
        domains=domains,
        backend=tuple(
            BackendDevice(domid=domid, address=address, index=0)
            for address, domid in (listed | ({} if calm else strangers)).items()
            if domid is not None and draw(often(yes=9))
        ),
        pciback_loaded=draw(often()),
    )


@st.composite
def matches(draw: st.DrawFn, *, any_one: bool, by_mac: bool, vague: bool) -> Match:
    address = draw(some_address)
    exact: list[dict[str, Any]] = [
        {"address": address},
        {"address": address},
        {"mac": mac_of(address)} if by_mac else {"path": path_of(address)},
        {"serial": f"00-00-00-00-00-00-{address.bus:02x}-{address.function:02x}"},
    ]
    several: list[dict[str, Any]] = [{"vendor": "8086", "device": "10d3"}, {"class_code": "02"}]
    said = draw(st.sampled_from(several if vague else [*exact, *several]))
    return Match(**said, any_one=any_one)


@st.composite
def policies(
    draw: st.DrawFn, *, with_any: bool = True, by_mac: bool = True, vague: bool = False
) -> Policy:
    pairs = st.tuples(st.sampled_from(NAMES), st.sampled_from([*GUESTS * 3, "nobody"]))
    return Policy(
        source=SOURCE,
        devices=tuple(
            DevicePolicy(
                name=name,
                match=draw(matches(any_one=with_any and draw(often()), by_mac=by_mac, vague=vague)),
                expect=Expect(device=draw(st.sampled_from([None, None, "10d3"]))),
                override=draw(st.sampled_from([(), (), ("boot-vga",), ("sibling", "protect")])),
                place=PLACE,
            )
            for name in NAMES
        ),
        assignments=tuple(
            Assignment(
                device=name,
                domain=guest,
                when=draw(st.sampled_from([*When])),
                permissive=not draw(often(yes=6)),
                adopt=draw(often(yes=1)),
                place=PLACE,
            )
            for name, guest in draw(st.lists(pairs, unique=True, max_size=4))
        ),
        protect=tuple(
            Protect(match=Match(address=address), reason="ours", place=PLACE)
            for address in draw(st.lists(some_address, max_size=2))
        ),
    )


def changes(policy: Policy, inventory: Inventory) -> dict[str, Change]:
    return {change.subject: change for change in plan(resolve_targets(policy, inventory)).changes}


@settings(max_examples=250, deadline=None)
@given(
    policies(by_mac=False), inventories()
)  # a MAC hides on pciback; the notes that remain may be of any age
def test_what_was_done_is_not_planned_again_and_the_plans_come_to_an_end(
    policy: Policy, inventory: Inventory
) -> None:
    done: set[str] = set()
    for _ in range(len(policy.assignments) + 2):
        planned = plan(resolve_targets(policy, inventory))
        again = {change.subject for change in planned.changes if " -> " in change.subject} & done
        assert not again
        done |= {change.subject for change in planned.changes}
        inventory = after(planned.actions, inventory)
        if not planned.changes:
            return
    assert not plan(resolve_targets(policy, inventory)).actions


def held_against(
    device: Device, policy: Policy, inventory: Inventory, override: tuple[str, ...]
) -> list[str]:
    """The guards that keep it, told apart from those that the policy overrides for it."""
    own = [use.guard for use in guards(device, policy.protect)]
    siblings = [
        "sibling"
        for sibling in reset_together(device, inventory)
        if not sibling.is_bridge and guards(sibling, policy.protect)
    ]
    return [guard for guard in own + siblings if guard == "bridge" or guard not in override]


def addressed(change: Change) -> Address:
    assert change.address is not None, "a policy's work is about a device"
    return change.address


@settings(max_examples=250, deadline=None)
@given(policies(), inventories())
def test_no_plan_touches_what_the_host_keeps_or_another_tool_has(
    policy: Policy, inventory: Inventory
) -> None:
    wanted = {subject_of(one): one for one in policy.assignments}
    for subject, change in changes(policy, inventory).items():
        if subject not in wanted:
            continue
        described = policy.device(wanted[subject].device)
        address = addressed(change)
        device = inventory.device(address)
        guest = inventory.domain(wanted[subject].domain)
        assert described is not None
        assert device is not None
        assert guest is not None
        assert not held_against(device, policy, inventory, described.override)
        assert wanted[subject].adopt or not guest.unmanaged(address)
        assert (
            not any(isinstance(action, Adopt) for action in change.actions) or wanted[subject].adopt
        )
        assert all(d.uuid == guest.uuid for d in inventory.wanting(address))
        given_to = inventory.given(address)
        assert given_to is None or (given_to.domid == guest.domid and guest.live_hostdev(address))


def touches_nothing_of_others(change: Change, inventory: Inventory) -> None:
    address = addressed(change)
    device = inventory.device(address)
    into = [action for action in change.actions if isinstance(action, (BindToPciback, HotPlug))]
    out = [action for action in change.actions if isinstance(action, (Unplug, ReturnToDom0))]
    assert not into
    if not out:
        return
    assert device is not None
    assert device.on_pciback or not held_against(device, Policy(), inventory, ())
    given_to = inventory.given(address)
    holders = [d for d in inventory.wanting(address) if d.live_hostdev(address)]
    assert given_to is None or given_to.domid in {d.domid for d in holders}
    for action in out:
        if isinstance(action, Unplug):
            guest = inventory.domain(action.domain)
            assert guest is not None
            assert not guest.unmanaged(address)
        else:
            assert not any(d.unmanaged(address) for d in inventory.wanting(address))


@settings(max_examples=150, deadline=None)
@given(policies(), inventories())
def test_cleaning_up_touches_only_what_cede_gave_and_dom0_doesnt_live_on(
    policy: Policy, inventory: Inventory
) -> None:
    wanted = {subject_of(one) for one in policy.assignments}
    for subject, change in changes(policy, inventory).items():
        if subject not in wanted:
            touches_nothing_of_others(change, inventory)


@settings(max_examples=150, deadline=None)
@given(inventories(), some_address, st.sampled_from([release, detach]))
def test_a_release_touches_only_what_cede_gave_and_dom0_doesnt_live_on_and_is_done_once(
    inventory: Inventory,
    address: Address,
    way: Any,  # noqa: ANN401 - one of two functions
) -> None:
    planned = Plan(decisions=(way(address, "release", inventory),))
    for change in planned.changes:
        touches_nothing_of_others(change, inventory)
    again = Plan(decisions=(way(address, "release", after(planned.actions, inventory)),))
    assert again.actions == ()


@settings(max_examples=150, deadline=None)
@given(policies(), inventories())
def test_every_assignment_and_every_other_subject_has_exactly_one_decision(
    policy: Policy, inventory: Inventory
) -> None:
    planned = plan(resolve_targets(policy, inventory))
    subjects = [decision.subject for decision in planned.decisions]
    assert len(subjects) == len(set(subjects))
    assert {subject_of(wanted) for wanted in policy.assignments} <= set(subjects)
    assert all(change.actions for change in planned.changes)
    assert all(refusal.reason and refusal.remedy for refusal in planned.refusals)


@settings(max_examples=150, deadline=None)
@given(policies(with_any=False), inventories(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_host_was_read_doesnt_matter(
    policy: Policy, inventory: Inventory, order: Random
) -> None:
    shuffled = replace(
        inventory,
        devices=tuple(order.sample(inventory.devices, len(inventory.devices))),
        domains=tuple(order.sample(inventory.domains, len(inventory.domains))),
        backend=tuple(order.sample(inventory.backend, len(inventory.backend))),
    )
    assert plan(resolve_targets(policy, shuffled)) == plan(resolve_targets(policy, inventory))


@settings(max_examples=100, deadline=None)
@given(policies(vague=True), inventories(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_policy_describes_its_devices_doesnt_matter(
    policy: Policy, inventory: Inventory, order: Random
) -> None:
    """That of the assignments does: they take turns in it."""
    assume(policy.assignments)
    shuffled = replace(
        policy,
        devices=tuple(order.sample(policy.devices, len(policy.devices))),
        protect=tuple(order.sample(policy.protect, len(policy.protect))),
    )
    assert plan(resolve_targets(shuffled, inventory)) == plan(resolve_targets(policy, inventory))
