"""The early binder: the policy's devices on pciback before libvirtd looks for them, and an end in its time."""

from __future__ import annotations

from dataclasses import replace
from threading import Timer
from typing import TYPE_CHECKING

from cede.model.hide_settings import disabled, old_names, settings
from cede.planner.boot_plan import awaited, plan_boot
from cede.planner.hide_mistakes import BootConfiguration
from cede.services.observe import observe_host
from cede.services.pass_report import Report
from cede.services.reconcile import RequestContext, execute

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.inventory import Inventory
    from cede.model.plan import Change, Outcome, Plan
    from cede.model.policy import Policy

_PAUSE = 0.5


def replan(adapters: Adapters, policy: Policy) -> tuple[Inventory, Plan]:
    """Observe and plan, which touches nothing."""
    inventory = observe_host(adapters)
    return inventory, plan_boot(policy, inventory)


def bind(
    adapters: Adapters,
    policy: Policy,
    context: RequestContext,
    *,
    wait: float,
    limit: float,
) -> Report:
    """Bind what can be bound, at once what is there, and for at most `wait` seconds what appears late.

    Each device is tried once. After `limit` seconds no further action is started. Raises PermanentError if the journal
    can't be written, HungError if the host can't be looked at: nothing has been changed then.
    """
    until = adapters.clock.monotonic() + wait
    over = Timer(limit, context.stop.set)
    over.daemon = True
    over.start()
    try:
        adapters.kernel.await_udev(wait)
        return _bind(adapters, policy, context, until)
    finally:
        over.cancel()


def _bind(
    adapters: Adapters,
    policy: Policy,
    context: RequestContext,
    until: float,
) -> Report:
    tried: list[Change] = []
    outcomes: list[Outcome] = []
    while True:
        inventory, planned = replan(adapters, policy)
        subjects = {change.subject for change in tried}
        fresh = [change for change in planned.changes if change.subject not in subjects]
        if fresh:
            # what an earlier cede left unfinished stays so: without libvirt it can't be told how it ended
            outcomes += execute(adapters, inventory, fresh, context)
            tried += fresh
        waiting = [name for name in awaited(policy, inventory) if not _tried(name, tried)]
        if not waiting or context.stop.is_set() or adapters.clock.monotonic() >= until:
            break
        adapters.clock.sleep(_PAUSE)
    done = {change.subject for change in tried}
    others = (decision for decision in planned.decisions if decision.subject not in done)
    return Report.of(replace(planned, decisions=(*tried, *others)), outcomes)


def _tried(name: str, tried: list[Change]) -> bool:
    return any(change.device == name for change in tried)


def read_boot_configuration(adapters: Adapters) -> BootConfiguration:
    """Read what this host is told at boot today. Without root, Xen's command line is not told."""
    modules = adapters.modules
    options, lists, line = modules.options(), modules.module_lists(), modules.kernel_command_line()
    return BootConfiguration(
        settings=settings(
            line,
            options,
            lists=lists,
            xen_command_line=adapters.hypervisor.command_line(),
            built_in=modules.built_in(),
            qubes=modules.qubes_initramfs(),
            sysvinit=modules.sysvinit(),
            grub=modules.next_command_lines(),
        ),
        loaders=modules.loaders(),
        old_names=old_names(line, options, lists),
        disabled=disabled(options),
        makers=modules.initramfs_makers(),
        built_in=modules.built_in(),
    )
