"""What was begun and never ended, judged by what is seen now; and devices on which something hangs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cede.errors import FailureKind
from cede.model.actions import (
    Action,
    AddToConfig,
    ForceDetach,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.domain import Domain, GuestKind, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Held, Unfinished
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, OriginalState, Reset
from cede.model.plan import Change, Purpose, Refused, Satisfied, Why
from cede.model.policy import Policy
from cede.planner.planner import plan
from cede.planner.recovery import in_place, recover, refuse_held
from cede.planner.resolve import resolve_targets

NIC, DISK = Address(0, 1, 0, 0), Address(0, 2, 0, 0)
IDENTITY = Identity(vendor="8086", device="10d3", class_code="020000")
ORIGIN = OriginalState(identity=IDENTITY, driver="e1000e")
OURS = Hostdev(address=NIC, alias="ua-cede-nic0")
NOTE = Ownership(name="nic0", address=NIC, policy="policy.yaml")
HERE = Device(address=NIC, identity=IDENTITY, driver="e1000e", reset=Reset.FLR)
TAKEN = replace(
    HERE, driver=PCIBACK, driver_override=PCIBACK, in_pciback_slots=True, original_state=ORIGIN
)  # fmt: skip
GUEST = Domain(name="pv1", uuid="u1", kind=GuestKind.PV, domid=7)
SERVED = BackendDevice(domid=7, address=NIC, index=0)
ATTACH = Unfinished(subject="nic0 -> pv1", address=NIC, domain="pv1", attaching=True, since="then")
RELEASE = replace(ATTACH, subject="release 0000:01:00.0", attaching=False)
HELD = Held(address=NIC, reason="unbinding 0000:01:00.0 has hung", since="2026-01-31")

UNPLUG, REMOVE = Unplug(address=NIC, domain="pv1"), RemoveFromConfig(address=NIC, domain="pv1")
FORCE_DETACH, BACK = (
    ForceDetach(address=NIC, domain="pv1"),
    ReturnToDom0(address=NIC, driver="e1000e"),
)


def host(
    device: Device | None = TAKEN, domain: Domain = GUEST, *served: BackendDevice
) -> Inventory:
    return Inventory(
        devices=(device,) if device else (), domains=(domain,), backend=served, pciback_loaded=True,
        unfinished=(ATTACH,),
    )  # fmt: skip


PLUGGED = replace(GUEST, live=(OURS,))
COMPLETE = replace(PLUGGED, config=(OURS,), ownership=(NOTE,))
STOPPED = replace(GUEST, domid=None)


def test_a_recovery_that_is_unfinished_itself_is_about_the_same_subject() -> None:
    first = recover(ATTACH, host(TAKEN))
    assert first is not None
    assert first.subject == "nic0 -> pv1, unfinished"
    again = recover(replace(ATTACH, subject=first.subject), host(TAKEN))
    assert again is not None
    assert again.subject == first.subject


@pytest.mark.parametrize(
    ("started", "inventory", "actions"),
    [
        # cut off in an attach, from its first step to its last
        (ATTACH, host(HERE), None),
        (ATTACH, host(replace(HERE, driver=None, driver_override=PCIBACK)),
         (ReturnToDom0(address=NIC),)),
        (ATTACH, host(TAKEN), (BACK,)),
        (ATTACH, host(TAKEN, GUEST, SERVED), (FORCE_DETACH, BACK)),
        (ATTACH, host(replace(TAKEN, in_guest=True)), (FORCE_DETACH, BACK)),
        (ATTACH, host(TAKEN, PLUGGED, SERVED), (UNPLUG, BACK)),
        (ATTACH, host(TAKEN, replace(PLUGGED, config=(OURS,)), SERVED), (UNPLUG, REMOVE, BACK)),
        (ATTACH, host(TAKEN, COMPLETE, SERVED), None),
        # in a guest that is off: only its XML was written
        (ATTACH, host(TAKEN, replace(STOPPED, config=(OURS,))), (REMOVE, BACK)),
        (ATTACH, host(TAKEN, replace(STOPPED, config=(OURS,), ownership=(NOTE,))), None),
        # cut off in a release: what is left of it
        (RELEASE, host(TAKEN, COMPLETE, SERVED), (UNPLUG, REMOVE, BACK)),
        (RELEASE, host(TAKEN, replace(GUEST, config=(OURS,), ownership=(NOTE,))), (REMOVE, BACK)),
        (RELEASE, host(TAKEN), (BACK,)),
        (RELEASE, host(replace(HERE, original_state=ORIGIN)), (BACK,)),  # not verified to live there
        (RELEASE, host(HERE), None),
        # one that dom0 is not to have back stays on pciback
        (replace(RELEASE, return_to_dom0=False), host(TAKEN, PLUGGED, SERVED), (UNPLUG,)),
        (replace(RELEASE, return_to_dom0=False), host(TAKEN), None),
        # its guest, or the device itself, is gone since
        (replace(ATTACH, domain="gone"), host(TAKEN), (BACK,)),
        (replace(ATTACH, domain=""), host(TAKEN), (BACK,)),
        (ATTACH, host(None), None),
        (RELEASE, host(None, replace(STOPPED, config=(OURS,), ownership=(NOTE,))), (REMOVE,)),
        # a note on another device says nothing of this one
        (ATTACH, host(TAKEN, replace(PLUGGED, ownership=(replace(NOTE, address=DISK),)), SERVED),
         (UNPLUG, BACK)),
    ],
)  # fmt: skip
def test_what_is_left_is_rolled_back_or_finished_as_far_as_it_is_seen_to_be_there(
    started: Unfinished, inventory: Inventory, actions: tuple[Action, ...] | None
) -> None:
    found = recover(started, inventory)
    if actions is None:
        assert found is None
    else:
        assert isinstance(found, Change)
        assert found.actions == actions
        assert found.subject.startswith(f"{started.subject}, ")
        assert found.identity == (IDENTITY if inventory.devices else None)


def test_what_another_tool_put_there_since_is_left_to_it() -> None:
    theirs = Hostdev(address=NIC)
    assert recover(ATTACH, host(TAKEN, replace(STOPPED, config=(theirs,)))) is None


def test_a_guest_that_only_xen_knows_to_have_the_device_is_a_refusal() -> None:
    started = replace(ATTACH, domain="")
    inventory = replace(host(replace(TAKEN, in_guest=True)), unfinished=(started,))
    found = recover(started, inventory)
    assert isinstance(found, Refused)
    assert (found.rule, found.kind) == ("owner-unknown", FailureKind.UNSAFE)


def test_what_dom0_lives_on_by_now_is_not_touched() -> None:
    root = HostUse(guard="filesystem", chain=(str(NIC), "sda", "/"))
    used = replace(HERE, uses=(root,), in_pciback_slots=True)
    found = recover(ATTACH, host(used))
    assert isinstance(found, Refused)
    assert (found.rule, found.kind) == ("host-needs-it", FailureKind.UNSAFE)


# -- held


def test_a_device_on_which_something_hangs_is_left_alone_with_what_to_do() -> None:
    found = refuse_held(NIC, "nic0 -> pv1", Inventory(held=(replace(HELD, address=DISK), HELD)))
    assert found is not None
    assert (found.subject, found.rule, found.kind) == ("nic0 -> pv1", "held", FailureKind.FAILED)
    assert f"{HELD.reason} (since {HELD.since})" in found.reason
    assert f"`cede release {NIC}`" in found.remedy


def test_a_device_held_since_nobody_knows_when_is_reported_without() -> None:
    found = refuse_held(NIC, "s", Inventory(held=(replace(HELD, since=""),)))
    assert found is not None
    assert found.reason.endswith(HELD.reason)


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
    assert [change.address for change in plan(resolve_targets(policy, inventory)).changes] == [NIC]
    planned = plan(resolve_targets(policy, replace(inventory, held=(HELD,))))
    assert planned.changes == ()
    assert [refusal.rule for refusal in planned.refusals] == ["held"]


def test_a_device_that_is_held_and_of_which_nothing_is_left_is_no_matter() -> None:
    inventory = replace(host(HERE), held=(HELD,))
    assert plan(resolve_targets(Policy(source="policy.yaml"), inventory)).refusals == ()


def test_what_another_policy_gave_is_reported_of_even_if_it_is_held() -> None:
    inventory = replace(host(TAKEN, COMPLETE, SERVED), unfinished=(), held=(HELD,))
    assert [
        decision.subject
        for decision in plan(resolve_targets(Policy(source="other"), inventory)).decisions
        if isinstance(decision, Satisfied) and decision.why is Why.OTHER_POLICY
    ] == ["nic0 in pv1"]


# -- found in place


def test_orphans_are_found_in_ownership_metadata_by_domain_and_device() -> None:
    other = replace(
        COMPLETE, name="pv2", uuid="u2", ownership=(replace(NOTE, name="b", address=DISK),)
    )
    inventory = Inventory(
        devices=(TAKEN,), domains=(COMPLETE, GUEST, replace(other, live=(), config=()))
    )
    assert list(in_place(inventory)) == [
        Change(
            subject="nic0 -> pv1", purpose=Purpose.ATTACH, device="nic0", address=NIC, identity=IDENTITY,
            actions=(AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="policy.yaml"),),
        ),
        Change(
            subject="b -> pv2", purpose=Purpose.ATTACH, device="b", address=DISK, identity=None,
            actions=(AddToConfig(address=DISK, domain="pv2", alias="ua-cede-b", policy="policy.yaml"),),
        ),
    ]  # fmt: skip


def test_an_alias_of_cedes_without_ownership_metadata_counts_and_anothers_hostdev_does_not() -> (
    None
):
    theirs = Hostdev(address=DISK, alias="ua-mine")
    found = in_place(Inventory(domains=(replace(GUEST, live=(OURS, theirs), config=(theirs,)),)))
    assert [(change.subject, change.address) for change in found] == [("nic0 -> pv1", NIC)]


def test_two_devices_that_were_interrupted_under_one_name_are_two_subjects() -> None:
    other = replace(TAKEN, address=DISK)
    inventory = replace(
        host(), devices=(TAKEN, other), unfinished=(ATTACH, replace(ATTACH, address=DISK))
    )
    planned = plan(resolve_targets(Policy(source="policy.yaml"), inventory))
    assert {change.address for change in planned.changes} == {NIC, DISK}
    assert len(planned.by_subject) == len(planned.decisions)
