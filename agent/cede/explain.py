"""Explain: walk the whole way of every assignment and say how each station stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.evidence import of_kernel_log
from cede.evidence.checklist import Check, Way, checklist, told_slot

if TYPE_CHECKING:
    from collections.abc import Collection

    from cede.doors import Doors
    from cede.plan.resolve import Targets
    from cede.reconcile import Checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The checklist of one assignment; empty where its device or its domain can't be told."""

    subject: str
    checks: tuple[Check, ...]


def explain(
    doors: Doors,
    targets: Targets,
    checked: tuple[Checked, ...],
    restarted: Collection[str] = (),
) -> tuple[Explained, ...]:
    """The checklist of every assignment, in the policy's order; `restarted` names the domains that were for it."""
    explained = []
    inventory = targets.inventory
    for target, one in zip(targets.each, checked, strict=True):
        device, domain = target.device, target.domain
        checks: tuple[Check, ...] = ()
        if device is not None and domain is not None:
            lines = doors.kernel_log.lines(str(device.address))
            checks = checklist(
                Way(
                    device=device,
                    domain=domain,
                    pciback=doors.modules.loaded(),
                    at_boot=doors.modules.loaders(),
                    directory=inventory.pciback_loaded,
                    given=tuple(g for g in inventory.backend if g.domid == domain.domid),
                    assigned=told_slot(of_kernel_log(lines, device.address)),
                    findings=one.findings,
                    restarted=domain.name in restarted,
                )
            )
        explained.append(Explained(subject=one.subject, checks=checks))
    return tuple(explained)
