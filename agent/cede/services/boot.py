"""The early binder: the policy's devices on pciback before libvirtd looks for them, and an end in its time."""

from __future__ import annotations

import time
from threading import Timer
from typing import TYPE_CHECKING

from cede.executor.executor import Executor
from cede.model.pciback_options import settings
from cede.model.plan import Plan
from cede.planner.boot_plan import awaited, boot
from cede.planner.hide_mistakes import Told
from cede.planner.recovery import in_place
from cede.services.observe import look_around
from cede.services.reconcile import Behalf, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.composition import Doors
    from cede.executor.executor import Outcome
    from cede.model.inventory import Inventory
    from cede.model.plan import Work
    from cede.model.policy import Policy

_PAUSE = 0.5


def replan(doors: Doors, policy: Policy) -> tuple[Inventory, Plan]:
    """Observe and plan, which touches nothing."""
    inventory = look_around(doors)
    return inventory, boot(policy, inventory)


def bind(
    doors: Doors,
    policy: Policy,
    behalf: Behalf,
    *,
    wait: float,
    limit: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Bind what can be bound, at once what is there, and for at most `wait` seconds what appears late.

    Each device is tried once. After `limit` seconds no further step is begun. Raises PermanentError if the journal
    can't be written, HungError if the host can't be looked at: nothing has been changed then.
    """
    until = time.monotonic() + wait
    over = Timer(limit, behalf.stop.set)
    over.daemon = True
    over.start()
    try:
        doors.kernel.await_udev(wait)
        return _bind(doors, policy, behalf, until, sleep)
    finally:
        over.cancel()


def _bind(
    doors: Doors, policy: Policy, behalf: Behalf, until: float, sleep: Callable[[float], None]
) -> Report:
    tried: list[Work] = []
    outcomes: list[Outcome] = []
    while True:
        inventory, planned = replan(doors, policy)
        subjects = {work.subject for work in tried}
        fresh = [work for work in planned.work if work.subject not in subjects]
        if fresh:
            outcomes += _carry_out(doors, inventory, fresh, behalf)
            tried += fresh
        waiting = [name for name in awaited(policy, inventory) if not _tried(name, tried)]
        if not waiting or behalf.stop.is_set() or time.monotonic() >= until:
            break
        sleep(_PAUSE)
    done = {work.subject for work in tried}
    return Report(
        plan=Plan(
            work=tuple(tried),
            noops=tuple(noop for noop in planned.noops if noop.subject not in done),
            refusals=tuple(r for r in planned.refusals if r.subject not in done),
        ),
        outcomes=tuple(outcomes),
    )


def _tried(name: str, tried: list[Work]) -> bool:
    return any(work.subject.startswith(f"{name} -> ") for work in tried)


def _carry_out(
    doors: Doors, inventory: Inventory, works: list[Work], behalf: Behalf
) -> tuple[Outcome, ...]:
    """What an earlier cede left unfinished stays so: without libvirt it can't be told how it ended."""
    doors.journal.trim()
    if doors.journal.rebuilt:
        doors.journal.found(in_place(inventory), behalf.asked)
    return Executor(doors, behalf.asked, behalf.progress, behalf.stop).execute(works)


def told(doors: Doors) -> Told:
    """What this host is told at boot today."""
    modules = doors.modules
    return Told(
        settings=settings(modules.kernel_command_line(), modules.options()),
        loaders=modules.loaders(),
        makers=modules.initramfs_makers(),
        built_in=modules.built_in(),
    )
