"""What `lspci -Dvmmnk` printed in a guest, read strictly.

Source: lspci(8), "Machine readable output" (pciutils).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cede.address import Address

# what lspci complains about would stand in the middle of a record
COMMAND = "lspci -Dvmmnk 2>/dev/null"
_FIELD = re.compile(
    r"^(?P<name>[A-Za-z]+):\t(?P<value>[!-~]*)$"
)  # no blanks, as in any message between
_ID = re.compile(r"^[0-9a-f]{4}$")
_DRIVER = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDevice:
    """One function as the guest's lspci sees it; `driver` is None if the guest has bound none."""

    slot: Address
    vendor: str
    device: str
    driver: str | None


def parse(text: str) -> tuple[GuestDevice, ...]:
    """The devices in `text`; records that are cut off or malformed are left out, never guessed.

    A record runs from its Slot to an empty line, and only fields stand between. Only Module may come twice.
    """
    *lines, _cut_off = text.replace("\r", "").split("\n")
    devices: list[GuestDevice | None] = []
    record: dict[str, str] | None = {}
    for line in lines:
        if not line:
            devices.append(_device(record or {}))
            record = {}
        elif record is not None:
            record = _with_field(record, line)
    return tuple(device for device in devices if device is not None)


def _with_field(record: dict[str, str], line: str) -> dict[str, str] | None:
    """`record` and the field of `line`; None if the line spoils it."""
    field = _FIELD.match(line)
    if field is None or (not record and field["name"] != "Slot"):
        return None
    if field["name"] in record and field["name"] != "Module":
        return None
    return {**record, field["name"]: field["value"]}


def _device(record: dict[str, str]) -> GuestDevice | None:
    try:
        slot = Address.parse(record.get("Slot", ""))
    except ValueError:
        return None
    vendor, device = record.get("Vendor", ""), record.get("Device", "")
    if not _ID.match(vendor) or not _ID.match(device):
        return None
    driver = record.get("Driver")
    if driver is not None and not _DRIVER.match(driver):
        return None
    return GuestDevice(slot=slot, vendor=vendor, device=device, driver=driver)
