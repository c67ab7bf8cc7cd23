"""Restarts: which domains are shut down and started for what only a start can give them, and what keeps one from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import RestartDomain
from cede.model.plan import Change, Deferred, Purpose, Refused
from cede.planner.resets import refuse_sibling
from cede.planner.silence import refuse_silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address
    from cede.model.plan import Decision
    from cede.model.policy import Restart
    from cede.planner.resolve import Target

SHUTDOWN_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """Which assignments get their domain restarted in a pass; with `force` also if it doesn't shut down by itself."""

    permitted: frozenset[Restart] = frozenset()
    force: bool = False


NONE = Restarts()


def plan_restarts(
    decided: Iterable[tuple[Target, Decision]], inventory: Inventory, restarts: Restarts
) -> Iterator[Change | Refused]:
    """Yield what is done about each domain that an assignment waits for and permits to restart, once for all of it."""
    awaited: dict[str, tuple[Domain, set[Address]]] = {}
    permitted = set()
    for target, decision in decided:
        waits = isinstance(decision, Change | Deferred) and decision.restart
        if not waits or target.domain is None or target.device is None:
            continue
        _, addresses = awaited.setdefault(target.domain.uuid, (target.domain, set()))
        addresses.add(target.device.address)
        if target.assignment.restart in restarts.permitted:
            permitted.add(target.domain.uuid)
    for uuid, (domain, addresses) in awaited.items():
        if uuid in permitted and domain.domid is not None:
            last = [one.seconds for one in inventory.restarted if one.domain == domain.name]
            yield _restart(domain, domain.domid, addresses, restarts, next(iter(last), None))


def plan_interrupted(inventory: Inventory) -> Iterator[Change]:
    """Yield the start of each domain that an interrupted restart has left shut off."""
    for restarting in inventory.restarting:
        domain = inventory.domain(restarting.domain)
        if domain is None or domain.running:
            continue
        action = RestartDomain(
            domain=domain.name, domid=restarting.domid, addresses=(), seconds=SHUTDOWN_SECONDS
        )
        yield Change(
            subject=f"restart {domain.name}, unfinished",
            purpose=Purpose.RESTART,
            address=None,
            identity=None,
            actions=(action,),
            reason=f"an interrupted restart has left {domain.name} shut off",
        )


def _restart(
    domain: Domain,
    domid: int,
    addresses: Collection[Address],
    restarts: Restarts,
    last_seconds: float | None,
) -> Change | Refused:
    subject = f"restart {domain.name}"
    silent = None if restarts.force else refuse_silent(domain, subject)
    refusal = silent or _refuse_loss(domain, subject)
    if refusal is not None:
        return refusal
    action = RestartDomain(
        domain=domain.name,
        domid=domid,
        addresses=tuple(sorted(addresses)),
        seconds=SHUTDOWN_SECONDS,
        force=restarts.force,
        last_seconds=last_seconds,
    )
    return Change(
        subject=subject, purpose=Purpose.RESTART, address=None, identity=None, actions=(action,)
    )


def _refuse_loss(domain: Domain, subject: str) -> Refused | None:
    """Refuse a restart that would take a device from the guest."""
    lost = [str(one.address) for one in domain.live if domain.config_hostdev(one.address) is None]
    if not lost:
        return None
    return Refused(
        subject=subject,
        rule="restart-loses",
        kind=FailureKind.UNSAFE,
        reason=f"{domain.name} would lose {', '.join(lost)}, in its live XML only",
        remedy="add the hostdev to the persistent XML (`virsh attach-device --config`), or restart the domain yourself",
    )


def refuse_start(domain: Domain, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse to shut a domain down that could not start again with what its persistent XML lists; None if it could."""
    listed = {hostdev.address for hostdev in domain.config}
    for hostdev in domain.config:
        device, given = inventory.device(hostdev.address), inventory.given(hostdev.address)
        why = ""
        if device is None:
            why = f"{hostdev.address} has vanished"
        elif not hostdev.managed and not device.on_pciback:
            why = f"{hostdev.address} is not on pciback"
        elif given is not None and given.domid != domain.domid:
            why = f"{hostdev.address} is in the domain with id {given.domid}"
        elif (sibling := refuse_sibling(device, subject, inventory, together=listed)) is not None:
            why = sibling.reason
        if why:
            return Refused(
                subject=subject,
                rule="no-start",
                kind=FailureKind.UNSAFE,
                reason=f"{domain.name} would not start again: {why}",
                remedy=f"correct the persistent XML of {domain.name}, or apply without --restart",
            )
    return _refuse_loss(domain, subject)
