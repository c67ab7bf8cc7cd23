"""Refuseds: each says by a stable name which rule it is, so that programs needn't read its sentence."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cede.errors import FailureKind
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import PCIBACK, Address, Device, Identity
from cede.model.plan import Refused
from cede.planner.release import release

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
