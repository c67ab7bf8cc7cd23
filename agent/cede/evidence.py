"""What proves that a guest has a device: wanted against found, judged from values alone.

Each finding stands for itself; an assignment is proven when none of its findings is wrong and none is open.
Source: xen/include/public/io/xenbus.h (the states), drivers/xen/xen-pciback/xenbus.c (who sets them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.model import CONNECTED, INITIALISED, RECONFIGURING, GuestKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.address import Address
    from cede.guest.look import Look
    from cede.model import BackendDevice, Device, Domain


class Verdict(StrEnum):
    """How a finding ends; one that is only noted speaks neither for nor against."""

    RIGHT = "right"
    WRONG = "wrong"
    OPEN = "not proven"
    NOTED = "noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: where, what was wanted, what was found."""

    source: str
    wanted: str
    found: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.source}: {self.found}" + (
            "" if self.verdict in {Verdict.RIGHT, Verdict.NOTED} else f" (wanted {self.wanted})"
        )


def _finding(source: str, wanted: object, found: object, *, right: bool) -> Finding:
    return Finding(
        source=source,
        wanted=str(wanted),
        found=str(found),
        verdict=Verdict.RIGHT if right else Verdict.WRONG,
    )


def proven(findings: Sequence[Finding]) -> bool:
    """Whether every finding that decides is right, and there is one."""
    deciding = [f for f in findings if f.verdict is not Verdict.NOTED]
    return bool(deciding) and all(f.verdict is Verdict.RIGHT for f in deciding)


def of_dom0(device: Device, domain: Domain, *, plugged: bool = True) -> tuple[Finding, ...]:
    """What dom0's sysfs and libvirt's two XMLs say.

    With `plugged` false the domain needn't have it before its next start.
    """
    live = domain.live_hostdev(device.address) is not None
    config = domain.config_hostdev(device.address) is not None
    return (
        _finding(
            "sysfs",
            "bound to pciback",
            f"bound to {device.driver or 'no driver'}",
            right=device.on_pciback,
        ),
        _finding(
            "live XML", "hostdev", _live(live=live, plugged=plugged), right=live or not plugged
        ),
        _finding("persistent XML", "hostdev", "hostdev" if config else "no hostdev", right=config),
    )


def _live(*, live: bool, plugged: bool) -> str:
    if live:
        return "hostdev"
    return "no hostdev" if plugged else "no hostdev before its next start"


def of_xenstore(given: BackendDevice | None, domain: Domain) -> tuple[Finding, ...]:
    """What Xen's PCI backend says.

    A PV guest's pcifront must be Connected (4) on both sides with a virtual slot told; an HVM guest is served by its
    device model, where the backend rests at Initialised (3), or once a second device came at Reconfiguring (7): no
    pcifront is there to answer.
    """
    if given is None or given.domid != domain.domid:
        found = "not given to any domain" if given is None else f"given to domain {given.domid}"
        return (_finding("xenstore", f"dev-N given to domain {domain.domid}", found, right=False),)
    pv = domain.kind is GuestKind.PV
    rests = (CONNECTED,) if pv else (INITIALISED, RECONFIGURING)
    findings = [
        _finding("xenstore dev", given.address, f"dev-{given.index} {given.address}", right=True),
        _finding(
            "xenstore backend", " or ".join(f"state {state}" for state in rests), f"state {given.backend_state}",
            right=given.backend_state in rests,
        ),
        _finding(
            "xenstore slot", "a virtual slot", given.virtual_slot or "none yet",
            right=given.virtual_slot is not None,
        ),
    ]  # fmt: skip
    if pv:
        findings.append(
            _finding(
                "xenstore frontend",
                f"state {CONNECTED}",
                f"state {given.frontend_state}",
                right=given.frontend_state == CONNECTED,
            )
        )
    return tuple(findings)


def of_guest(seen: Look, device: Device, slot: Address) -> tuple[Finding, ...]:
    """What the guest itself says of the virtual slot that xenstore names."""
    there = seen.device
    wanted = f"{device.identity} at {slot}"
    if there is None:
        return (_finding("guest lspci", wanted, f"nothing at {slot}", right=False),)
    same = (there.vendor, there.device) == (device.identity.vendor, device.identity.device)
    return (
        _finding(
            "guest lspci", wanted, f"{there.vendor}:{there.device} at {there.slot}", right=same
        ),
        _finding(
            "guest driver",
            "a driver bound",
            there.driver or "no driver",
            right=there.driver is not None,
        ),
    )


def refused(reason: str) -> Finding:
    """The finding for an assignment that the planner refuses as things are."""
    return Finding(
        source="plan", wanted="an assignment that can be", found=reason, verdict=Verdict.WRONG
    )


def settled(reason: str) -> Finding:
    """The finding for an assignment that is in step without the device: its alternative has it."""
    return Finding(source="plan", wanted=reason, found=reason, verdict=Verdict.RIGHT)


def unproven(source: str, why: str) -> Finding:
    """A finding that couldn't be made, and why; it is never taken for right."""
    return Finding(source=source, wanted="an answer", found=why, verdict=Verdict.OPEN)
