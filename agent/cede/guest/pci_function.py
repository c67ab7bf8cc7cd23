"""One PCI function as a guest describes it, by whichever tool."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cede.model.pci import Address

Range = tuple[int, int]


class Interrupt(StrEnum):
    """How the function is set to interrupt; INTX also where no driver uses it."""

    MSI = "MSI"
    MSIX = "MSI-X"
    INTX = "INTx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What a guest's tool says of one function; None is unknown, an empty `driver` means that none is bound.

    Numbers are spelt as in model.Identity; `class_code` has four digits where the tool leaves out the programming
    interface. `regions` are the first and last addresses of its BARs, `unassigned` how many memory BARs have no
    address. `macs` are those of its interfaces whose MAC was not changed.
    """

    slot: Address
    vendor: str
    device: str
    class_code: str | None = None
    subsystem: str | None = None
    driver: str | None = None
    regions: tuple[Range, ...] | None = None
    unassigned: int | None = None
    interrupt: Interrupt | None = None
    macs: tuple[str, ...] | None = None
    serial: str | None = None
    power_state: str | None = None

    def completed(self, other: Function) -> Function:
        """Return this function, completed by what only `other` knows; the longer class wins."""
        missing = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if getattr(self, field.name) is None
        }
        both = (self.class_code or "", other.class_code or "")
        return replace(self, **(missing | {"class_code": max(both, key=len) or None}))
