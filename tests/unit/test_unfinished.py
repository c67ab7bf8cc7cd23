"""What was begun and never ended, judged by what is seen now; and devices on which something hangs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cede.errors import Exit
from cede.model.domain import Domain, GuestKind, Hostdev, Mark
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Held, Unfinished
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Origin
from cede.model.plan import (
    AddToConfig,
    Evict,
    GiveBack,
    Refusal,
    RemoveFromConfig,
    Step,
    Unplug,
    Work,
)
from cede.model.policy import Policy
from cede.planner.planner import plan
from cede.planner.recovery import in_place, refuse_held, settle
from cede.planner.resolve import resolve_targets

NIC, DISK = Address(0, 1, 0, 0), Address(0, 2, 0, 0)
IDENTITY = Identity(vendor="8086", device="10d3", class_code="020000")
ORIGIN = Origin(identity=IDENTITY, driver="e1000e")
OURS = Hostdev(address=NIC, alias="ua-cede-nic0")
NOTE = Mark(name="nic0", address=NIC, policy="policy.yaml")
HERE = Device(address=NIC, identity=IDENTITY, driver="e1000e", reset_methods=("flr",))
TAKEN = replace(
    HERE, driver=PCIBACK, driver_override=PCIBACK, in_pciback_slots=True, origin=ORIGIN
)  # fmt: skip
GUEST = Domain(name="pv1", uuid="u1", kind=GuestKind.PV, domid=7)
SERVED = BackendDevice(domid=7, address=NIC, index=0)
ATTACH = Unfinished(subject="nic0 -> pv1", address=NIC, domain="pv1", inward=True, since="then")
RELEASE = replace(ATTACH, subject="release 0000:01:00.0", inward=False)
HELD = Held(address=NIC, reason="unbinding 0000:01:00.0 has hung", since="2026-01-31")

UNPLUG, REMOVE = Unplug(address=NIC, domain="pv1"), RemoveFromConfig(address=NIC, domain="pv1")
EVICT, BACK = Evict(address=NIC, domain="pv1"), GiveBack(address=NIC, driver="e1000e")


def host(
    device: Device | None = TAKEN, domain: Domain = GUEST, *served: BackendDevice
) -> Inventory:
    return Inventory(
        devices=(device,) if device else (), domains=(domain,), backend=served, pciback_loaded=True,
        unfinished=(ATTACH,),
    )  # fmt: skip


PLUGGED = replace(GUEST, live=(OURS,))
COMPLETE = replace(PLUGGED, config=(OURS,), marks=(NOTE,))
STOPPED = replace(GUEST, domid=None)


@pytest.mark.parametrize(
    ("begun", "inventory", "steps"),
    [
        # cut off in an attach, from its first step to its last
        (ATTACH, host(HERE), None),
        (ATTACH, host(replace(HERE, driver=None, driver_override=PCIBACK)),
         (GiveBack(address=NIC),)),
        (ATTACH, host(TAKEN), (BACK,)),
        (ATTACH, host(TAKEN, GUEST, SERVED), (EVICT, BACK)),
        (ATTACH, host(replace(TAKEN, in_guest=True)), (EVICT, BACK)),
        (ATTACH, host(TAKEN, PLUGGED, SERVED), (UNPLUG, BACK)),
        (ATTACH, host(TAKEN, replace(PLUGGED, config=(OURS,)), SERVED), (UNPLUG, REMOVE, BACK)),
        (ATTACH, host(TAKEN, COMPLETE, SERVED), None),
        # in a guest that is off: only its XML was written
        (ATTACH, host(TAKEN, replace(STOPPED, config=(OURS,))), (REMOVE, BACK)),
        (ATTACH, host(TAKEN, replace(STOPPED, config=(OURS,), marks=(NOTE,))), None),
        # cut off in a release: what is left of it
        (RELEASE, host(TAKEN, COMPLETE, SERVED), (UNPLUG, REMOVE, BACK)),
        (RELEASE, host(TAKEN, replace(GUEST, config=(OURS,), marks=(NOTE,))), (REMOVE, BACK)),
        (RELEASE, host(TAKEN), (BACK,)),
        (RELEASE, host(replace(HERE, origin=ORIGIN)), (BACK,)),  # not proven to live there
        (RELEASE, host(HERE), None),
        # one that dom0 is not to have back stays on pciback
        (replace(RELEASE, back=False), host(TAKEN, PLUGGED, SERVED), (UNPLUG,)),
        (replace(RELEASE, back=False), host(TAKEN), None),
        # its guest, or the device itself, is gone since
        (replace(ATTACH, domain="gone"), host(TAKEN), (BACK,)),
        (replace(ATTACH, domain=""), host(TAKEN), (BACK,)),
        (ATTACH, host(None), None),
        (RELEASE, host(None, replace(STOPPED, config=(OURS,), marks=(NOTE,))), (REMOVE,)),
        # a note on another device says nothing of this one
        (ATTACH, host(TAKEN, replace(PLUGGED, marks=(replace(NOTE, address=DISK),)), SERVED),
         (UNPLUG, BACK)),
    ],
)  # fmt: skip
def test_what_is_left_is_undone_or_finished_as_far_as_it_is_seen_to_be_there(
    begun: Unfinished, inventory: Inventory, steps: tuple[Step, ...] | None
) -> None:
    found = settle(begun, inventory)
    if steps is None:
        assert found is None
    else:
        assert isinstance(found, Work)
        assert found.steps == steps
        assert found.subject == f"{begun.subject}, begun and cut off"
        assert found.identity == (IDENTITY if inventory.devices else None)


def test_what_somebody_else_put_there_since_is_left_to_them() -> None:
    theirs = Hostdev(address=NIC)
    assert settle(ATTACH, host(TAKEN, replace(STOPPED, config=(theirs,)))) is None


def test_a_guest_that_only_xen_knows_to_have_the_device_is_a_refusal() -> None:
    begun = replace(ATTACH, domain="")
    inventory = replace(host(replace(TAKEN, in_guest=True)), unfinished=(begun,))
    found = settle(begun, inventory)
    assert isinstance(found, Refusal)
    assert (found.name, found.exit) == ("owner-unknown", Exit.UNSAFE)


def test_what_dom0_lives_on_by_now_is_not_touched() -> None:
    root = HostUse(guard="filesystem", chain=(str(NIC), "sda", "/"))
    used = replace(HERE, uses=(root,), in_pciback_slots=True)
    found = settle(ATTACH, host(used))
    assert isinstance(found, Refusal)
    assert (found.name, found.exit) == ("host-needs-it", Exit.UNSAFE)


# -- held


def test_a_device_on_which_something_hangs_is_left_alone_with_what_to_do() -> None:
    found = refuse_held(NIC, "nic0 -> pv1", Inventory(held=(replace(HELD, address=DISK), HELD)))
    assert found is not None
    assert (found.subject, found.name, found.exit) == ("nic0 -> pv1", "held", Exit.FAILED)
    assert f"{HELD.reason} (since {HELD.since})" in found.reason
    assert f"cede release {NIC}" in found.remedy


def test_a_device_held_since_nobody_knows_when_is_told_without() -> None:
    found = refuse_held(NIC, "s", Inventory(held=(replace(HELD, since=""),)))
    assert found is not None
    assert found.reason.endswith("has hung")


def test_a_device_on_which_nothing_hangs_is_not_refused() -> None:
    assert refuse_held(NIC, "s", Inventory(held=(replace(HELD, address=DISK),))) is None


@pytest.mark.parametrize(
    "inventory",
    [
        host(TAKEN, PLUGGED, SERVED),  # cut off in an attach that no policy asks for any longer
        replace(host(TAKEN, COMPLETE, SERVED), unfinished=()),  # left over
    ],
)
def test_no_plan_touches_a_device_on_which_something_hangs(inventory: Inventory) -> None:
    policy = Policy(source="policy.yaml")
    assert [work.address for work in plan(resolve_targets(policy, inventory)).work] == [NIC]
    planned = plan(resolve_targets(policy, replace(inventory, held=(HELD,))))
    assert planned.work == ()
    assert [refusal.name for refusal in planned.refusals] == ["held"]


def test_a_device_that_is_held_and_of_which_nothing_is_left_is_no_matter() -> None:
    inventory = replace(host(HERE), held=(HELD,))
    assert plan(resolve_targets(Policy(source="policy.yaml"), inventory)).refusals == ()


def test_what_another_policy_gave_is_told_of_even_if_it_is_held() -> None:
    inventory = replace(host(TAKEN, COMPLETE, SERVED), unfinished=(), held=(HELD,))
    assert [
        noop.subject for noop in plan(resolve_targets(Policy(source="other"), inventory)).noops
    ] == ["nic0 in pv1"]


# -- found in place


def test_what_the_notes_say_is_told_by_domain_and_device() -> None:
    other = replace(COMPLETE, name="pv2", uuid="u2", marks=(replace(NOTE, name="b", address=DISK),))
    inventory = Inventory(
        devices=(TAKEN,), domains=(COMPLETE, GUEST, replace(other, live=(), config=()))
    )
    assert list(in_place(inventory)) == [
        Work(
            subject="nic0 -> pv1", address=NIC, identity=IDENTITY,
            steps=(AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="policy.yaml"),),
        ),
        Work(
            subject="b -> pv2", address=DISK, identity=None,
            steps=(AddToConfig(address=DISK, domain="pv2", alias="ua-cede-b", policy="policy.yaml"),),
        ),
    ]  # fmt: skip


def test_an_alias_of_cedes_without_a_note_counts_and_anothers_hostdev_does_not() -> None:
    theirs = Hostdev(address=DISK, alias="ua-mine")
    found = in_place(Inventory(domains=(replace(GUEST, live=(OURS, theirs), config=(theirs,)),)))
    assert [(work.subject, work.address) for work in found] == [("nic0 -> pv1", NIC)]
