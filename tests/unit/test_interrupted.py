"""What was begun and never ended, seen by the planner."""

from __future__ import annotations

from dataclasses import replace

from cede.errors import FailureKind
from cede.model.actions import ReturnToDom0, Unplug
from cede.model.domain import Domain, GuestKind, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Unfinished
from cede.model.pci import PCIBACK, Address, Device, Identity, Reset
from cede.model.plan import Purpose
from cede.model.policy import Policy
from cede.planner.planner import plan
from cede.planner.recovery import recovered
from cede.planner.resolve import resolve_targets
from cede.policy import policy_files

NIC = Address(0, 1, 0, 0)
POLICY = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
assignments:
  - {device: nic0, domain: pv2}
"""


def test_what_an_interrupted_attach_left_in_another_guest_than_the_assigned_one_comes_out_there() -> (
    None
):
    """Killed between the hot-plug and the XML, and the policy was changed before the next apply."""
    inventory = Inventory(
        devices=(
            Device(
                address=NIC,
                identity=Identity(vendor="8086", device="10d3"),
                driver=PCIBACK,
                reset=Reset.PM,
            ),
        ),
        domains=(
            Domain(
                name="pv1",
                uuid="1",
                kind=GuestKind.PV,
                domid=1,
                live=(Hostdev(address=NIC, alias="ua-cede-nic0"),),
            ),
            Domain(name="pv2", uuid="2", kind=GuestKind.PV, domid=2),
        ),
        backend=(BackendDevice(domid=1, address=NIC, index=0),),
        pciback_loaded=True,
        unfinished=(Unfinished(subject="nic0 -> pv1", address=NIC, domain="pv1", attaching=True),),
    )
    planned = plan(resolve_targets(policy_files.parse(POLICY, "policy.yaml"), inventory))
    (change,) = planned.changes
    assert (change.actions, change.purpose) == (
        (Unplug(address=NIC, domain="pv1"),),
        Purpose.HAND_OVER,
    )
    assert [refusal.kind for refusal in planned.refusals] == [FailureKind.TRY_LATER]


def test_a_device_that_was_let_go_and_not_yet_probed_for_a_driver_is_given_back_to_the_end() -> (
    None
):
    inventory = Inventory(
        devices=(Device(address=NIC, identity=Identity(vendor="8086", device="10d3")),),
        unfinished=(Unfinished(subject="release", address=NIC, attaching=False),),
    )
    (change,) = plan(resolve_targets(Policy(), inventory)).changes
    assert change.actions == (ReturnToDom0(address=NIC, undriven=True),)


def test_ownership_metadata_doesnt_make_an_attach_complete_that_xen_and_libvirt_disagree_on() -> (
    None
):
    """The guest was paused and never let go of it; to attach it once more was begun, and cut off."""
    nic0 = Hostdev(address=NIC, alias="ua-cede-nic0")
    mark = Ownership(name="nic0", address=NIC, policy="policy.yaml")
    started = Unfinished(subject="nic0 -> pv1", address=NIC, domain="pv1", attaching=True)
    inventory = Inventory(
        devices=(
            Device(address=NIC, identity=Identity(vendor="8086", device="10d3"), driver=PCIBACK),
        ),
        domains=(
            Domain(
                name="pv1", uuid="1", kind=GuestKind.PV, domid=1, config=(nic0,), ownership=(mark,)
            ),
        ),
        backend=(BackendDevice(domid=1, address=NIC, index=0),),
        unfinished=(started,),
    )
    assert not recovered(started, inventory)
    assert recovered(started, replace(inventory, backend=()))


def test_what_a_guest_was_given_after_its_restart_is_not_what_was_interrupted_before() -> None:
    started = Unfinished(
        subject="nic0 -> pv1", address=NIC, domain="pv1", attaching=True, domids=(1,)
    )
    inventory = Inventory(
        domains=(Domain(name="pv1", uuid="1", kind=GuestKind.PV, domid=1),),
        backend=(BackendDevice(domid=1, address=NIC, index=0),),
        unfinished=(started,),
    )
    assert inventory.interrupted_in(NIC) is not None
    again = replace(inventory, unfinished=(replace(started, domids=(2,)),))
    assert again.interrupted_in(NIC) is None
