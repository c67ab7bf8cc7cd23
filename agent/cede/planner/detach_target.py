"""Targets of the way out: a device with the domains that it is to leave, and all that the rules ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cede.model.domain import Domain
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import Address, Device
from cede.model.plan import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachTarget:
    """One device that is to leave domains, looked up once.

    `device` is None if it has vanished; `name` is how the policy calls it, empty where none does. `domains` are those
    that it is to leave, `running` those of them that run with it; with `elsewhere` another one keeps it. `given` is
    Xen's word on which guest has it, `given_outside` the same if that is none of the `domains`. `interrupted` is the
    running domain in which an attach of cede's was cut off; with `owner_unknown` nothing says which guest owns it.
    With `return_to_dom0` dom0 is to have it in the end; `returning` tells that this was begun and cut off.
    """

    address: Address
    subject: str
    purpose: Purpose
    name: str
    return_to_dom0: bool
    device: Device | None
    domains: tuple[Domain, ...]
    running: tuple[Domain, ...]
    elsewhere: bool
    given: BackendDevice | None
    given_outside: BackendDevice | None
    interrupted: Domain | None
    owner_unknown: bool
    returning: bool
    inventory: Inventory

    @classmethod
    def of(
        cls,
        address: Address,
        subject: str,
        inventory: Inventory,
        purpose: Purpose,
        *,
        domains: Iterable[Domain] | None = None,
        name: str = "",
        return_to_dom0: bool = True,
    ) -> Self:
        """The device at `address`; to leave all domains that list it unless some are named."""
        wanting = inventory.wanting(address)
        leaving = wanting if domains is None else tuple(domains)
        return cls(
            address=address,
            subject=subject,
            purpose=purpose,
            name=name,
            return_to_dom0=return_to_dom0,
            device=inventory.device(address),
            domains=leaving,
            running=tuple(domain for domain in leaving if domain.live_hostdev(address)),
            elsewhere=not {d.uuid for d in wanting} <= {d.uuid for d in leaving},
            given=inventory.given(address),
            given_outside=inventory.given_outside(address, leaving),
            interrupted=inventory.interrupted_in(address),
            owner_unknown=inventory.owner_unknown(address),
            returning=any(
                u.address == address and u.return_to_dom0 and not u.attaching
                for u in inventory.unfinished
            ),
            inventory=inventory,
        )
