"""The checklist of one assignment, where the domain has other devices too."""

from __future__ import annotations

import pytest

from cede.model.domain import Domain, GuestKind
from cede.model.inventory import BackendDevice
from cede.model.pci import Address, Device, Identity
from cede.verifier.checklist import ChecklistFacts, CheckStatus, checklist

NIC, OTHER = Address(0, 1, 0, 0), Address(0, 4, 0, 0)


@pytest.mark.parametrize(
    ("slots", "decision"),
    [
        ({NIC: Address(0, 0, 0, 0)}, CheckStatus.PASSED),
        ({OTHER: Address(0, 0, 0, 0), NIC: Address(0, 0, 1, 0)}, CheckStatus.PASSED),
        ({OTHER: Address(0, 0, 0, 0), NIC: None}, CheckStatus.FAILED),
        ({OTHER: Address(0, 0, 0, 0)}, CheckStatus.FAILED),
        ({}, CheckStatus.FAILED),
    ],
)
def test_the_devices_of_the_domain_are_right_only_if_this_one_has_a_virtual_slot_among_them(
    slots: dict[Address, Address | None], decision: CheckStatus
) -> None:
    way = ChecklistFacts(
        device=Device(address=NIC, identity=Identity(vendor="8086", device="10d3")),
        domain=Domain(name="pv1", uuid="u", kind=GuestKind.PV, domid=1),
        pciback="module",
        at_boot=(),
        directory=True,
        given=tuple(
            BackendDevice(domid=1, address=address, index=index, virtual_slot=slot)
            for index, (address, slot) in enumerate(slots.items())
        ),
        assigned="",
        findings=(),
    )
    (check,) = [one for one in checklist(way) if one.item == "devices of the domain"]
    assert check.status is decision
