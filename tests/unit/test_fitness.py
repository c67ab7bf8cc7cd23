"""Whether a device is fit to be given away is what the planner says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cede.model.actions import AddToConfig, HotPlug
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Held
from cede.model.pci import Address, Device, HostUse, Identity, Reset
from cede.model.policy import Channel, Match, Place, Policy, Protect, When
from cede.planner.fitness import FitKind, Fitness, fitness
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.services import one_off
from cede.services.one_off import AttachRequest
from unit.test_planner_properties import inventories

FIRST, SECOND = Address(0, 2, 0, 0), Address(0, 2, 0, 1)
ROOT_DISK = HostUse(guard="filesystem", chain=("0000:02:00.0", "vda", "/"))
PLACE = Place(file="policy.yaml", line=4, column=3)


def card(address: Address = FIRST, *, class_code: str = "020000", **more: object) -> Device:
    identity = Identity(vendor="8086", device="10d3", class_code=class_code)
    values: dict[str, object] = {"driver": "e1000", "reset": Reset.BUS, **more}
    return Device(address=address, identity=identity, **values)  # type: ignore[arg-type]


def fit(*devices: Device, policy: Policy | None = None, **more: object) -> Fitness:
    host = Inventory(devices=devices, **more)  # type: ignore[arg-type]
    return fitness(devices[0], host, policy or Policy())


def guest(name: str = "pv1", **more: object) -> Domain:
    return Domain(name=name, uuid=name, kind=GuestKind.PV, domid=1, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "kind", "cause"),
    [
        (fit(card()), FitKind.YES, ""),
        (fit(card(), card(SECOND, driver="pciback")), FitKind.YES, ""),
        (fit(card(), card(SECOND)), FitKind.TOGETHER, "siblings"),
        (fit(card(reset=Reset.FLR), card(SECOND)), FitKind.YES, ""),
        (fit(card(Address(0, 0, 4, 0), reset=Reset.NONE)), FitKind.NO, "reset"),
        (fit(card(Address(0, 0, 4, 0), reset=Reset.PM)), FitKind.YES, ""),
        (fit(card(reset=None)), FitKind.NO, "reset unknown"),
        (fit(card(Address(0, 0x80, 4, 0), reset=Reset.FLR, on_root_bus=True)), FitKind.NO, "root bus"),
        (fit(card(class_code="060400")), FitKind.NO, "bridge"),
        (fit(card(uses=(ROOT_DISK,))), FitKind.NO, "filesystem"),
        (fit(card(), card(SECOND, uses=(ROOT_DISK,))), FitKind.NO, "sibling"),
        (fit(card(node_device=False)), FitKind.NO, "libvirt"),
        (fit(card(), held=(Held(address=FIRST, reason="it hung"),)), FitKind.NO, "hangs"),
        (fit(card(), domains=(guest(config=(Hostdev(address=FIRST),)),)), FitKind.NO, "pv1"),
        (fit(card(), backend=(BackendDevice(domid=7, address=FIRST, index=0),)), FitKind.NO, "7"),
        (fit(card(driver="pciback", in_guest=True)), FitKind.NO, "guest"),
        (fit(card(), card(SECOND), domains=(guest(live=(Hostdev(address=SECOND),)),)),
         FitKind.NO, "siblings"),
    ],
)  # fmt: skip
def test_the_answer_names_the_rule_that_is_against_it(
    found: Fitness, kind: FitKind, cause: str
) -> None:
    assert found.fit is kind
    assert cause in found.cause
    assert str(found).startswith({FitKind.TOGETHER: "with "}.get(kind, kind))
    assert found.together == ((SECOND,) if kind is FitKind.TOGETHER else ())
    assert bool(found.reason and found.remedy) is (found.fit is not FitKind.YES)


def test_what_the_policy_protects_is_not_fit() -> None:
    rule = Protect(match=Match(vendor="8086"), reason="the lab's", place=PLACE)
    found = fit(card(), policy=Policy(protect=(rule,)))
    assert (found.fit, found.cause) == (FitKind.NO, "protect")
    assert "the lab's" in found.reason


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(inventory=inventories(), protected=st.booleans())
def test_it_agrees_with_a_plan_for_a_fresh_guest(inventory: Inventory, protected: bool) -> None:
    rule = Protect(match=Match(class_code="01"), reason="disks stay", place=PLACE)
    policy = Policy(protect=(rule,) if protected else ())
    fresh = Domain(name="fresh", uuid="fresh", kind=GuestKind.PV, domid=9999)
    host = replace(inventory, domains=(*inventory.domains, fresh))
    for device in inventory.devices:
        found = fitness(device, inventory, policy)
        once = one_off.policy_of(
            policy,
            AttachRequest(device=str(device.address), domain="fresh", channel=Channel.NONE),
            host,
        )
        planned = one_off.plan_of_assignment(plan(resolve_targets(once, host)), once)
        plugs = any(isinstance(action, HotPlug) for action in planned.actions)
        assert plugs is (found.fit is FitKind.YES), found
        assert len(planned.refusals) == (0 if plugs else 1)


def reset_by_bus_alone(host: Inventory) -> Inventory:
    """The two functions of one card, in dom0 and idle, which can only go to a guest together."""
    pair = (card(Address(0, 1, 0, 0), driver="e1000e"), card(Address(0, 1, 0, 1), driver="e1000e"))
    others = (device for device in host.devices if device.address.bus != 1)
    return replace(host, devices=(*others, *pair))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(inventory=inventories().map(reset_by_bus_alone))
def test_what_goes_together_is_planned_together_for_the_next_start(inventory: Inventory) -> None:
    fresh = Domain(name="fresh", uuid="fresh", kind=GuestKind.PV, domid=9999)
    host = replace(inventory, domains=(*inventory.domains, fresh))
    for device in inventory.devices:
        found = fitness(device, inventory, Policy())
        if found.fit is not FitKind.TOGETHER:
            continue
        every = [
            one_off.policy_of(
                Policy(),
                AttachRequest(
                    device=str(address),
                    domain="fresh",
                    when=When.NEXT_START,
                    channel=Channel.NONE,
                ),
                host,
            )
            for address in (device.address, *found.together)
        ]  # fmt: skip
        whole = replace(
            every[0],
            devices=tuple(d for one in every for d in one.devices),
            assignments=tuple(a for one in every for a in one.assignments),
        )
        added = {
            s.address
            for s in plan(resolve_targets(whole, host)).actions
            if isinstance(s, AddToConfig)
        }
        assert added >= {device.address, *found.together}
