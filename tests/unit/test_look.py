"""A look into the guest: what is told of one virtual slot, whatever else the guest has."""

from cede.address import Address
from cede.guest import look

SLOT = Address.parse("0000:00:00.0")
THERE = "Slot:\t0000:00:00.0\nVendor:\t8086\nDevice:\t10d3\nDriver:\te1000e\n\n"
ELSEWHERE = THERE.replace("00:00.0", "00:01.0")


def test_only_the_device_in_that_slot_is_meant() -> None:
    assert look.parse(ELSEWHERE, SLOT).device is None
    found = look.parse(ELSEWHERE + THERE, SLOT).device
    assert found is not None
    assert found.slot == SLOT
